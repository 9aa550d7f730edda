/// Plans become operations: which ones, and no more than needed. Pure, without a kernel.
import Addressing
import DataplaneIR
import TestSupport
import Testing

@testable import LinuxDataplane

@Suite struct TableMirrorTests {
    private let mirror = TableMirror(.ipv4, name: "heddle", companion: .none)
    private let node = NodeProgram(nodeName: "n1")

    private func web(_ cluster: [String], affinity: UInt32? = nil) throws -> ServiceProgram {
        try TestService(
            frontends: [Frontend(.clusterIP, try address("10.96.0.1"), 80)], cluster: cluster, affinity: affinity
        ).program()
    }
    /// Stages and accepts; the operations without those of the generation.
    private func lines(
        _ old: ServiceProgram?, _ new: ServiceProgram?, from oldNode: NodeProgram? = nil, to newNode: NodeProgram? = nil
    ) -> [String] {
        let services = old == nil && new == nil ? [] : [FamilyPlan.Service(old: old, new: new)]
        let staged = mirror.stage(
            FamilyPlan(services: services, oldNode: oldNode ?? node, node: newNode ?? node, generation: 7))
        mirror.accept(staged)
        return staged.change.lines.filter { !$0.contains("generation") }
    }
    private func collect() -> [String] {
        let collection = mirror.stageCollection()
        mirror.accept(collection)
        return collection.change.lines
    }

    @Test func oneService() throws {
        let web = try web(["10.1.0.1:8080 local", "10.1.0.2:8080"])
        #expect(
            lines(nil, web) == [
                "add chain lb-2", "add chain cluster-ip-lb-2", "add rule lb-2", "add rule cluster-ip-lb-2",
                "add rule cluster-ip-lb-2", "--",
                "add cluster-ips 10.96.0.1",
                "add service-ips 10.96.0.1 . tcp . 80 : goto cluster-ip-lb-2 \"default/web:http ClusterIP Cluster\"",
                "add endpoints 10.96.0.1 . tcp . 80 . 0 : 10.1.0.1 . 8080 \"local\"",
                "add endpoints 10.96.0.1 . tcp . 80 . 1 : 10.1.0.2 . 8080",
                "add hairpin 10.1.0.1 . 10.1.0.1",
            ])
        #expect(lines(web, web) == [])
        #expect(
            lines(web, nil) == [
                "delete cluster-ips 10.96.0.1", "delete service-ips 10.96.0.1 . tcp . 80",
                "delete hairpin 10.1.0.1 . 10.1.0.1",
            ])
        // What a packet under way may still look up goes later.
        #expect(
            Set(collect()) == [
                "delete endpoints 10.96.0.1 . tcp . 80 . 0", "delete endpoints 10.96.0.1 . tcp . 80 . 1",
                "flush chain lb-2", "flush chain cluster-ip-lb-2", "delete chain cluster-ip-lb-2", "delete chain lb-2",
            ])
        #expect(!mirror.hasGarbage)
    }

    @Test func oneEndpointOfManyChanges() throws {
        let before = try web((1...9).map { "10.1.0.\($0):80" })
        _ = lines(nil, before)
        // Replaced: one slot. The verdict stays.
        let replaced = try web((1...8).map { "10.1.0.\($0):80" } + ["10.1.0.99:80"])
        #expect(
            lines(before, replaced) == [
                "delete endpoints 10.96.0.1 . tcp . 80 . 8",
                "add endpoints 10.96.0.1 . tcp . 80 . 8 : 10.1.0.99 . 80",
            ])
        // One less: the verdict changes, the slot behind the end stays for now.
        let less = try web((1...8).map { "10.1.0.\($0):80" })
        #expect(
            lines(replaced, less) == [
                "add chain lb-8", "add chain cluster-ip-lb-8", "add rule lb-8", "add rule cluster-ip-lb-8",
                "add rule cluster-ip-lb-8", "--", "delete service-ips 10.96.0.1 . tcp . 80",
                "add service-ips 10.96.0.1 . tcp . 80 : goto cluster-ip-lb-8 \"default/web:http ClusterIP Cluster\"",
            ])
        // Back before garbage was collected: slot and chains are still there.
        #expect(
            lines(less, replaced) == [
                "delete service-ips 10.96.0.1 . tcp . 80",
                "add service-ips 10.96.0.1 . tcp . 80 : goto cluster-ip-lb-9 \"default/web:http ClusterIP Cluster\"",
            ])
        #expect(
            Set(collect()) == [
                "flush chain lb-8", "flush chain cluster-ip-lb-8", "delete chain cluster-ip-lb-8", "delete chain lb-8",
            ])
    }

    @Test func refusalsStayUntilGarbageIsCollected() throws {
        let empty = try web([])
        let filled = try web(["10.1.0.1:80"])
        #expect(
            lines(nil, empty) == [
                "add cluster-ips 10.96.0.1",
                "add no-endpoint-services 10.96.0.1 . tcp . 80 : goto reject-chain"
                    + " \"default/web:http ClusterIP Cluster\"",
            ])
        // A packet that found no entry yet must still be refused, not leave the node.
        #expect(!lines(empty, filled).contains { $0.hasPrefix("delete") })
        #expect(lines(filled, empty) == ["delete service-ips 10.96.0.1 . tcp . 80"])
        _ = lines(empty, filled)
        #expect(collect() == ["delete no-endpoint-services 10.96.0.1 . tcp . 80"])
    }

    @Test func aFrontendMovesFromOneServiceToAnother() throws {
        let first = try web(["10.1.0.1:80"])
        let second = try TestService(
            name: "other", frontends: first.frontends, cluster: ["10.1.0.2:80"]
        ).program()
        _ = lines(nil, first)
        let staged = mirror.stage(
            FamilyPlan(
                services: [.init(old: nil, new: second), .init(old: first, new: nil)], oldNode: node, node: node,
                generation: 8))
        #expect(
            staged.change.lines.filter { !$0.contains("generation") } == [
                "delete service-ips 10.96.0.1 . tcp . 80", "delete endpoints 10.96.0.1 . tcp . 80 . 0",
                "add service-ips 10.96.0.1 . tcp . 80 : goto cluster-ip-lb-1 \"default/other:http ClusterIP Cluster\"",
                "add endpoints 10.96.0.1 . tcp . 80 . 0 : 10.1.0.2 . 80",
            ])
    }

    @Test func sharedElementsAreCounted() throws {
        let http = try web(["10.1.0.1:80 local"])
        var dns = TestService(
            name: "dns", transport: .udp, frontends: [Frontend(.clusterIP, try address("10.96.0.1"), 53)],
            cluster: ["10.1.0.1:53 local"])
        let udp = try dns.program()
        _ = lines(nil, http)
        #expect(!lines(nil, udp).contains { $0.contains("cluster-ips") || $0.contains("hairpin") })
        #expect(!lines(http, nil).contains { $0.contains("cluster-ips") || $0.contains("hairpin") })
        dns.cluster = []
        #expect(lines(udp, try dns.program()).contains("delete hairpin 10.1.0.1 . 10.1.0.1"))
    }

    @Test func affinityChangesOnlyItsOwnChains() throws {
        let two = try web(["10.1.0.1:80", "10.1.0.2:80"], affinity: 60)
        let first = lines(nil, two)
        #expect(first.filter { $0.hasPrefix("add set affinity-") }.count == 2)
        #expect(!first.contains { $0.contains("endpoints ") })
        let one = try web(["10.1.0.1:80"], affinity: 60)
        let shrunk = lines(two, one)
        #expect(shrunk.allSatisfy { $0.contains(" svc-") }, "\(shrunk)")
        // The endpoint comes back before its chain is gone: whoever stuck to it is forgotten.
        #expect(lines(one, two).filter { $0.hasPrefix("flush set affinity-") }.count == 1)
        // Another timeout rewrites rules and keeps the sets.
        let longer = lines(two, try web(["10.1.0.1:80", "10.1.0.2:80"], affinity: 90))
        #expect(longer.filter { $0.hasPrefix("flush chain ep-") }.count == 2)
        #expect(!longer.contains { $0.contains(" set ") })
        #expect(collect() == [])
    }

    @Test func anotherDetectorRewritesWhatDependsOnIt() throws {
        var local = TestService(
            frontends: [Frontend(.externalIP, try address("192.0.2.1"), 80)], cluster: ["10.1.0.1:80"],
            externalPolicy: .local)
        local.sharedLocal = 1
        _ = lines(nil, try local.program())
        var other = node
        other.detector = .bridge("cni0")
        let changed = lines(nil, nil, from: node, to: other)
        #expect(
            Set(changed.filter { $0.hasPrefix("flush") }) == [
                "flush chain mark-cluster-ip", "flush chain external-local-lb-1-or-lb-1-from-1048576",
            ])
    }

    /// The mesh is as large as the cluster: a pod that comes or goes is one element, and the first and last a rule.
    @Test func podsOfTheMeshComeAndGoOneByOne() throws {
        var one = node
        one.proxyListeners = [SocketAddress(try address("192.168.0.1"), 15001)]
        let before = one
        one.mesh.enrolled = [try address("10.1.0.1"), try address("10.1.0.2"), try address("fd00::1")]
        let first = lines(nil, nil, from: before, to: one)
        #expect(Set(first.filter { $0.hasPrefix("flush") }) == ["flush chain services"])
        #expect(Set(first.filter { $0.contains("mesh-") }).count == 2)
        var other = one
        other.mesh.enrolled = [try address("10.1.0.2"), try address("10.1.0.3")]
        other.mesh.pods = [try address("10.1.0.3"): MeshPodProgram(name: "ns/web", uid: "1")]
        #expect(
            lines(nil, nil, from: one, to: other) == [
                "delete mesh-addresses 10.1.0.1", "add mesh-clients 10.1.0.3", "add mesh-addresses 10.1.0.3",
            ])
        one = other
        one.mesh.pods[try address("10.1.0.3")]?.mode = .strict
        #expect(lines(nil, nil, from: other, to: one) == [])
        one.proxyListeners = []
        let refused = lines(nil, nil, from: other, to: one).filter { $0.hasPrefix("flush") }
        #expect(Set(refused) == ["flush chain l7-proxy", "flush chain services"])
    }

    @Test func aServiceWithEndpointsInTheMeshAsksWhoDials() throws {
        let service = TestService(
            frontends: [Frontend(.clusterIP, try address("10.96.0.1"), 80, action: .tunnel)], cluster: ["10.1.0.1:80"])
        let added = lines(nil, try service.program())
        #expect(
            added.contains { $0.hasPrefix("add service-ips") && $0.contains(": goto tunnel-or-cluster-ip-lb-1 ") },
            "\(added)")
        let empty = lines(
            try service.program(), try TestService(frontends: service.frontends).program()
        ).filter { $0.contains("10.96.0.1") }
        #expect(empty.contains { $0.contains(": goto tunnel-or-none ") }, "\(empty)")
        #expect(empty.contains { $0.contains("no-endpoint-services") && $0.contains("reject") }, "\(empty)")
    }

    @Test func chainNamesTellTheirTargets() {
        let spread = Target.spread(.nodePort, offset: 2, count: 3)
        let sticky = Target.sticky(0xab, .local)
        #expect(
            ChainID.externalLocal(cluster: spread, local: sticky).name
                == "external-local-nodeport-lb-3-from-2-or-svc-00000000000000ab-local")
        #expect(
            Target.names(in: ChainID.externalLocal(cluster: spread, local: sticky).name)
                == ["nodeport-lb-3-from-2", "svc-00000000000000ab-local"])
        #expect(Target.names(in: ChainID.tunnel(.external(spread)).name) == ["nodeport-lb-3-from-2"])
        #expect(Target.names(in: ChainID.external(spread).name) == ["nodeport-lb-3-from-2"])
        #expect(Target.slots(spread.name) == 2..<5)
        #expect(Target.slots(sticky.name) == nil)
        #expect(Target.slots("none") == nil)
    }

    @Test func longNamesKeepTheirDetails() throws {
        let name = String(repeating: "n", count: 63)
        let id = ServicePortID(
            namespace: name, service: name, portName: "a-port-name-15c", transport: .tcp, family: .ipv4)
        let frontend = Frontend(.loadBalancer, try address("10.96.0.1"), 80)
        let program = ServiceProgram(
            id: id, frontends: [frontend], backends: [], clusterRange: 0..<0, localRange: 0..<0, affinitySeconds: 86400)
        let text = ServiceComment(frontend, program).text
        #expect(text.utf8.count <= 127)
        let read = try #require(ServiceComment(text))
        #expect(read.kind == "LoadBalancer" && read.policy == "Cluster" && read.affinitySeconds == 86400)
    }
}
