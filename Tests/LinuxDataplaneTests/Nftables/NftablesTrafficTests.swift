/// Real connections through the nftables dataplane: who answers, from which source address, or how it fails. One node
/// with three pods, a second node with one, and a client outside; both families.
import Addressing
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Reconcile
import Testing
import TestSupport

/// A lab with the dataplane on its first node.
final class TrafficLab {
    let lab: Lab
    let node: LabNode
    let client: Pod
    /// Clients and servers: a, b on the node, c on the other one.
    let a: Pod
    let b: Pod
    let c: Pod
    let feeder: PlanFeeder

    init(_ lab: Lab, companion: NftablesCompanion = .none) throws {
        self.lab = lab
        node = try lab.addNode()
        let other = try lab.addNode()
        client = try lab.addExternalClient()
        (a, b, c) = (try node.addPod("a"), try node.addPod("b"), try other.addPod("c"))
        for pod in [a, b, c] {
            for transport in [TransportProtocol.tcp, .udp] { try pod.listen(transport, 8080) }
        }
        let dataplane = try node.namespace().run { try NftablesDataplane(options: .init(companion: companion)) }
        var program = NodeProgram(nodeName: node.name)
        program.detector = .cidrs(node.podCIDRs)
        program.nodePortAddresses = [node.host.v4, node.host.v6]
        program.localAddresses = program.nodePortAddresses
        program.serviceCIDRs = [try prefix("10.96.0.0/16"), try prefix("fd00:96::/112")]
        feeder = PlanFeeder(dataplane, node: program)
        // As bridge CNI plugins do; with bridge-netfilter a pod could not reach itself otherwise.
        for port in 11...12 {
            try shell("ip -n \(lab.prefix)-\(node.name) link set pod\(port) type bridge_slave hairpin on")
        }
        // Outsiders route these to the node, as a load balancer would.
        _ = try shell(
            """
            ip -n \(lab.prefix)-router route add 10.96.0.0/16 via \(node.host.v4)
            ip -n \(lab.prefix)-router route add 192.0.2.0/24 via \(node.host.v4)
            ip -n \(lab.prefix)-router route add fd00:96::/64 via \(node.host.v6)
            ip -n \(lab.prefix)-router route add 2001:db8::/64 via \(node.host.v6)
            """)
    }
    static func with(_ body: (TrafficLab) throws -> Void) throws { try Lab.with { try body(TrafficLab($0)) } }

    func vip(_ family: AddressFamily, _ number: Int = 1) -> IPAddress {
        family == .ipv4
            ? IPAddress(v4: 0x0a60_0000 + UInt32(number)) : IPAddress(high: 0xfd00_0096_0000_0000, low: UInt64(number))
    }
    func external(_ family: AddressFamily, _ number: Int = 10) -> IPAddress {
        family == .ipv4
            ? IPAddress(v4: 0xc000_0200 + UInt32(number)) : IPAddress(high: 0x2001_0db8_0000_0000, low: UInt64(number))
    }
    /// The service of the tests: a and b on the node, c elsewhere; c first, so that a and b are the local set.
    func service(_ family: AddressFamily, _ transport: TransportProtocol = .tcp, pods: [Pod]? = nil) -> TestService {
        let pods = pods ?? [c, a, b]
        return TestService(
            transport: transport, family: family,
            frontends: [
                Frontend(.clusterIP, vip(family), 80), Frontend(.externalIP, external(family), 80),
                Frontend(.nodePort, nil, 30080),
            ],
            cluster: pods.map {
                "\(SocketAddress($0.address(family), 8080))" + ($0 === c ? "" : " local")
            }, sharedLocal: pods.filter { $0 !== c }.count)
    }
    func frontends(_ family: AddressFamily) -> [SocketAddress] {
        [
            SocketAddress(vip(family), 80), SocketAddress(external(family), 80),
            SocketAddress(node.host.address(family), 30080),
        ]
    }
}

/// Enough connections to see each of three endpoints: all but one in 100,000 runs.
private let enough = 40

@Suite(.requiresKernel(.netns, .cgroup2, .nftables)) struct NftablesTrafficTests {
    @Test(arguments: AddressFamily.allCases) func everySenderReachesEveryEndpoint(_ family: AddressFamily) throws {
        try TrafficLab.with { lab in
            var udp = lab.service(family, .udp)
            udp.name = "udp"
            try lab.feeder.apply([lab.service(family), udp], full: true)
            for sender in [lab.a, lab.node.host, lab.client] {
                for kind in Pod.Kind.allCases {
                    for frontend in lab.frontends(family) {
                        let result = try sender.flow(kind, to: frontend, count: enough)
                        #expect(result.names == ["a", "b", "c"], "\(sender.name) \(kind) \(frontend): \(result)")
                        #expect(result.failed == 0 && Set(result.peers.keys) == [frontend], "\(sender.name) \(result)")
                    }
                }
            }
        }
    }

    /// Spec rows 71, 72, 75, 76, 80.
    @Test(arguments: AddressFamily.allCases) func sourcesAreKeptOrMasqueraded(_ family: AddressFamily) throws {
        try TrafficLab.with { lab in
            let own = lab.c.address(family)
            try lab.feeder.apply([lab.service(family, pods: [lab.c])], full: true)
            let sources = { (pod: Pod, frontend: Int) in
                Set(try pod.flow(.tcp, to: lab.frontends(family)[frontend], count: 3).clients.keys)
            }
            #expect(try sources(lab.a, 0) == [lab.a.address(family)])
            #expect(try sources(lab.client, 0) == [lab.node.host.address(family)])
            #expect(try sources(lab.a, 1) == [lab.node.host.address(family)])
            #expect(try sources(lab.client, 2) == [lab.node.host.address(family)])
            #expect(own != lab.a.address(family))
            // Hairpin: a pod that gets itself sees the node; one that gets another sees the pod.
            try lab.feeder.apply([lab.service(family, pods: [lab.a])])
            #expect(try sources(lab.a, 0).isDisjoint(with: [lab.a.address(family)]))
            #expect(try sources(lab.b, 0) == [lab.b.address(family)])
            // masqueradeAll: pods too.
            lab.feeder.node.masqueradeAll = true
            try lab.feeder.apply([])
            #expect(try sources(lab.b, 0).isDisjoint(with: [lab.b.address(family)]))
            // No detector: nobody.
            lab.feeder.node.masqueradeAll = false
            lab.feeder.node.detector = .none
            try lab.feeder.apply([])
            #expect(try sources(lab.client, 0) == [lab.client.address(family)])
            // By interface name.
            lab.feeder.node.detector = .interfacePrefix("cn")
            try lab.feeder.apply([])
            #expect(try sources(lab.b, 0) == [lab.b.address(family)])
            #expect(try sources(lab.client, 0).isDisjoint(with: [lab.client.address(family)]))
        }
    }

    /// Spec rows 31, 77-79, 98, 99.
    @Test(arguments: AddressFamily.allCases) func policyLocal(_ family: AddressFamily) throws {
        try TrafficLab.with { lab in
            var service = lab.service(family)
            service.internalPolicy = .local
            service.externalPolicy = .local
            try lab.feeder.apply([service], full: true)
            for (index, frontend) in lab.frontends(family).enumerated() {
                let outside = try lab.client.flow(.tcp, to: frontend, count: enough)
                #expect(outside.names == ["a", "b"], "\(frontend): \(outside)")
                if index > 0 { #expect(Set(outside.clients.keys) == [lab.client.address(family)], "\(frontend)") }
                let pod = try lab.b.flow(.tcp, to: frontend, count: enough)
                #expect(pod.names == (index == 0 ? ["a", "b"] : ["a", "b", "c"]), "\(frontend): \(pod)")
                let host = try lab.node.host.flow(.tcp, to: frontend, count: enough)
                #expect(host.names == (index == 0 ? ["a", "b"] : ["a", "b", "c"]), "\(frontend): \(host)")
            }
            service = lab.service(family, pods: [lab.c])
            service.internalPolicy = .local
            service.externalPolicy = .local
            try lab.feeder.apply([service])
            for (index, frontend) in lab.frontends(family).enumerated() {
                let outside = try lab.client.flow(.tcp, to: frontend, timeoutMs: 300)
                #expect(outside.errors == [ETIMEDOUT: 1], "\(frontend): \(outside)")
                let pod = try lab.b.flow(.tcp, to: frontend, timeoutMs: 300)
                #expect(index == 0 ? pod.errors == [ETIMEDOUT: 1] : pod.names == ["c"], "\(frontend): \(pod)")
            }
        }
    }

    /// Spec rows 98, 102, 103, 105.
    @Test(arguments: AddressFamily.allCases) func refusals(_ family: AddressFamily) throws {
        try TrafficLab.with { lab in
            var empty = lab.service(family, pods: [])
            empty.name = "empty"
            empty.frontends = [
                Frontend(.clusterIP, lab.vip(family, 2), 80), Frontend(.externalIP, lab.external(family, 11), 80),
                Frontend(.nodePort, nil, 30081),
            ]
            try lab.feeder.apply([lab.service(family), empty], full: true)
            let refused = [
                SocketAddress(lab.vip(family, 2), 80), SocketAddress(lab.external(family, 11), 80),
                SocketAddress(lab.node.host.address(family), 30081), SocketAddress(lab.vip(family), 81),
            ]
            for sender in [lab.a, lab.node.host, lab.client] {
                for destination in refused {
                    let result = try sender.flow(.tcp, to: destination, count: 2)
                    #expect(result.errors == [ECONNREFUSED: 2], "\(sender.name) \(destination): \(result)")
                }
                let unallocated = SocketAddress(lab.vip(family, 99), 80)
                let result = try sender.flow(.tcp, to: unallocated, timeoutMs: 300)
                #expect(result.errors == [ETIMEDOUT: 1], "\(sender.name): \(result)")
            }
            // One endpoint later everybody gets through, and back.
            var filled = lab.service(family, pods: [lab.a])
            (filled.name, filled.frontends) = (empty.name, empty.frontends)
            try lab.feeder.apply([filled])
            #expect(try lab.client.flow(.tcp, to: refused[0], count: 2).names == ["a"])
            #expect(try lab.client.flow(.tcp, to: refused[2], count: 2).names == ["a"])
            try lab.feeder.apply([empty])
            #expect(try lab.client.flow(.tcp, to: refused[0], count: 2).errors == [ECONNREFUSED: 2])
        }
    }

    /// Spec rows 83, 128, 129.
    @Test func row83_onlyOurBitOfTheMarkIsTouched() throws {
        try TrafficLab.with { lab in
            lab.feeder.node.masqueradeBit = 5
            try lab.feeder.apply([lab.service(.ipv4)], full: true)
            let namespace = try lab.node.namespace()
            _ = try namespace.run {
                try shell(
                    """
                    nft 'add table ip probe
                    add counter ip probe kept
                    add counter ip probe left
                    add chain ip probe pre { type filter hook prerouting priority -150; meta mark set 0x4001; }
                    add chain ip probe post { type filter hook postrouting priority 200; }
                    add rule ip probe post tcp dport 8080 meta mark 0x4001 counter name kept
                    add rule ip probe post tcp dport 8080 meta mark != 0x4001 counter name left'
                    """)
            }
            // Through the node port: masqueraded.
            let result = try lab.client.flow(.tcp, to: lab.frontends(.ipv4)[2], count: 5)
            #expect(result.answered == 5 && result.clients[lab.client.v4] == nil, "\(result)")
            let counters = try namespace.run { try shell("nft list counters table ip probe") }
            let packets = counters.split(separator: "\n").filter { $0.contains("packets") }
            #expect(packets.count == 2 && !packets[0].contains("packets 0 ") && packets[1].contains("packets 0 "))
            let rules = try namespace.run { try shell("nft list table ip heddle") }
            #expect(rules.contains("0x00000020") && !rules.contains("invalid"), "rows 128, 129: INVALID is left alone")
        }
    }

    /// Spec row 85.
    @Test(arguments: AddressFamily.allCases) func row85_aPodOfAnotherNodeGetsLocalEndpoints(
        _ family: AddressFamily
    ) throws {
        try TrafficLab.with { lab in
            lab.feeder.node.detector = .cidrs(Lab.clusterCIDRs.compactMap { IPPrefix($0) })
            lab.feeder.node.uplinks = ["eth0"]
            var service = lab.service(family)
            service.externalPolicy = .local
            try lab.feeder.apply([service], full: true)
            let nodePort = lab.frontends(family)[2]
            let fromElsewhere = try lab.c.flow(.tcp, to: nodePort, count: enough)
            #expect(fromElsewhere.names == ["a", "b"] && fromElsewhere.failed == 0, "\(fromElsewhere)")
            #expect(Set(fromElsewhere.clients.keys) == [lab.c.address(family)])
            #expect(try lab.a.flow(.tcp, to: nodePort, count: enough).names == ["a", "b", "c"])
        }
    }

    /// A flow that came to a node address before node ports were served there.
    @Test func row93_anAddressThatIsAddedTakesOverItsUDPFlows() throws {
        try TrafficLab.with { lab in
            let nodePort = lab.frontends(.ipv4)[2]
            lab.feeder.node.nodePortAddresses = []
            try lab.feeder.apply([lab.service(.ipv4, .udp, pods: [lab.a])], full: true)
            let flow = try lab.client.open(.udpConnected, to: nodePort, timeoutMs: 300)
            #expect(flow.opening.answered == 0)
            lab.feeder.node.nodePortAddresses = [lab.node.host.v4]
            try lab.feeder.apply([])
            try eventually("the same socket is served") { try flow.ask().names == ["a"] }
        }
    }

    /// Spec rows 36, 37.
    @Test(arguments: AddressFamily.allCases) func sourceRanges(_ family: AddressFamily) throws {
        try TrafficLab.with { lab in
            var service = lab.service(family)
            let allowed = IPPrefix(host: lab.client.address(family))
            service.frontends = [
                Frontend(.clusterIP, lab.vip(family), 80),
                Frontend(.loadBalancer, lab.external(family), 80, sourceRanges: [allowed]),
                Frontend(.nodePort, nil, 30080),
            ]
            try lab.feeder.apply([service], full: true)
            let frontends = lab.frontends(family)
            #expect(try lab.client.flow(.tcp, to: frontends[1], count: 2).answered == 2)
            for sender in [lab.a, lab.node.host] {
                #expect(try sender.flow(.tcp, to: frontends[1], timeoutMs: 300).errors == [ETIMEDOUT: 1])
                #expect(try sender.flow(.tcp, to: frontends[0], count: 2).answered == 2)
                #expect(try sender.flow(.tcp, to: frontends[2], count: 2).answered == 2)
            }
        }
    }

    /// Spec rows 24-27.
    @Test(arguments: AddressFamily.allCases) func affinity(_ family: AddressFamily) throws {
        try TrafficLab.with { lab in
            var service = lab.service(family)
            service.affinity = 600
            try lab.feeder.apply([service], full: true)
            let frontends = lab.frontends(family)
            var all: Set<String> = []
            for frontend in frontends {
                let result = try lab.client.flow(.tcp, to: frontend, count: 10)
                #expect(result.answered == 10)
                all.formUnion(result.names)
            }
            #expect(all.count == 1, "one client, one endpoint, whatever the frontend: \(all)")
            // Survives another agent, and edits that leave the endpoint.
            let second = PlanFeeder(
                try lab.node.namespace().run { try NftablesDataplane() }, node: lab.feeder.node)
            #expect(try second.apply([service], full: true).operations == 0)
            #expect(try lab.client.flow(.tcp, to: frontends[0], count: 10).names == all)
            let stuck = try #require([lab.a, lab.b, lab.c].first { all.contains($0.name) })
            let others: [Pod] = [lab.c, lab.a, lab.b].filter { $0 !== stuck }
            var without = lab.service(family, pods: others)
            without.affinity = 600
            try second.apply([without])
            let moved = try lab.client.flow(.tcp, to: frontends[0], count: 10)
            #expect(moved.answered == 10 && moved.names.count == 1 && moved.names.isDisjoint(with: all))
            // The endpoint comes back, the memory of it does not.
            try second.apply([service])
            #expect(try lab.client.flow(.tcp, to: frontends[0], count: 10).names == moved.names)
            #expect(try second.dataplane.verify(quick: false) == [])
            // Without affinity any endpoint answers.
            try second.apply([lab.service(family)])
            try second.dataplane.collectGarbage()
            #expect(try lab.client.flow(.tcp, to: frontends[0], count: enough).names.count == 3)
            #expect(try second.dataplane.verify(quick: false) == [])
        }
    }

    /// Spec rows 114-124.
    @Test(arguments: AddressFamily.allCases) func staleUDPFlowsAreCut(_ family: AddressFamily) throws {
        try TrafficLab.with { lab in
            let frontends = lab.frontends(family)
            // Before there is a service, a flow to its node port leaves an entry that knows no endpoint.
            _ = try lab.client.flow(.udp, to: frontends[1], timeoutMs: 100)
            try lab.feeder.apply([lab.service(family, .udp, pods: [lab.a])], full: true)
            let flows = try frontends.map { try lab.client.open(.udpConnected, to: $0) }
            for flow in flows { #expect(flow.opening.names == ["a"], "\(flow.opening)") }
            // Another endpoint comes: nothing of a's is cut.
            #expect(try lab.feeder.apply([lab.service(family, .udp, pods: [lab.c, lab.a])]).staleFlowsRemoved == 0)
            for flow in flows { #expect(try flow.ask().names == ["a"]) }
            // a goes: the same sockets reach the other.
            #expect(try lab.feeder.apply([lab.service(family, .udp, pods: [lab.c])]).staleFlowsRemoved == 3)
            for flow in flows { #expect(try flow.ask().names == ["c"]) }
            // All go: refused, and back.
            #expect(try lab.feeder.apply([lab.service(family, .udp, pods: [])]).staleFlowsRemoved == 3)
            #expect(try flows[0].ask().errors == [ECONNREFUSED: 1])
            try lab.feeder.apply([lab.service(family, .udp, pods: [lab.b])])
            for flow in flows.dropFirst() { #expect(try flow.ask().names == ["b"]) }
            // The service goes.
            let id = lab.service(family, .udp).id
            #expect(try lab.feeder.apply([], removing: [id]).staleFlowsRemoved >= 2)
        }
    }
}
