// Who is in the mesh, and what kernel and proxy are told of that.
import Addressing
import Cluster
import Compile
import DataplaneIR
import RouteIR
import TestSupport
import Testing

@Suite struct MeshCompilerTests {
    private let ambient = ["istio.io/dataplane-mode": "ambient"]
    private let enabled = ["heddle.io/mesh": "enabled"]

    /// A client here and a server on another node, which service `web` has.
    private func town(_ labels: [String: String], proxy: CompilerOptions.L7Proxy = .up) -> MeshTown {
        var town = MeshTown(proxy: proxy)
        town.add(namespace("shop", labels), pod("client", at: 1), pod("server", at: 2, on: "node-b"))
        town.add(service("web", 1), endpoints("web", [2]))
        town.compile()
        return town
    }

    @Test func aNamespaceEnrolsItsPods() {
        let town = town(ambient)
        #expect(town.mesh.view.reach.enrolled == [address(1), address(2)])
        let client = MeshPod(namespace: "shop", name: "client", uid: "uid-client", serviceAccount: "client-account")
        #expect(town.routes.snapshot.meshPods == [address(1): client])
        #expect(town.routes.snapshot.mesh == ProxyMesh(trustDomain: "cluster.local"))
        #expect(town.mesh.programs.keys.sorted() == [address(1)] && town.mesh.programs[address(1)]?.uid == "uid-client")
        #expect(town.mesh.programs[address(1)]?.mode == .permissive)
        let server = town.routes.snapshot.workloads[address(2)]
        #expect(server?.isEnrolled == true && server?.serviceAccount == "server-account")
        #expect(town.action("web") == .tunnel)
        let web = town.service("web")
        #expect(web?.clientProtocol == .tcp && web?.frontends.count == 1 && web?.producerRoutes == nil)
        let upstream = web.flatMap { town.routes.snapshot.upstreams[$0.ownUpstream] }
        #expect(upstream?.endpoints.map(\.address) == [SocketAddress(address(2), 8080)])
        #expect(town.mesh.findings == [])
    }

    @Test func nothingIsEnrolledWithoutALabel() {
        let town = town([:])
        #expect(town.mesh.view == MeshView() && town.mesh.programs == [:])
        #expect(town.action("web") == .balance && town.service("web") == nil && !town.routes.isNeeded)
        #expect(town.routes.snapshot.workloads == [:])
    }

    @Test(arguments: [
        (["istio.io/dataplane-mode": "ambient"], [:], true), ([:], ["istio.io/dataplane-mode": "ambient"], true),
        (["heddle.io/mesh": "enabled"], [:], true), ([:], ["heddle.io/mesh": "enabled"], true),
        (["istio.io/dataplane-mode": "ambient"], ["istio.io/dataplane-mode": "none"], false),
        (["istio.io/dataplane-mode": "ambient"], ["heddle.io/mesh": "disabled"], false),
        (["heddle.io/mesh": "enabled"], ["istio.io/dataplane-mode": "none"], false),
        // Our own spelling goes first, and what means nothing says nothing.
        ([:], ["heddle.io/mesh": "enabled", "istio.io/dataplane-mode": "none"], true),
        ([:], ["heddle.io/mesh": "yes", "istio.io/dataplane-mode": "ambient"], true),
        (["istio.io/dataplane-mode": "ambient"], ["heddle.io/mesh": "yes"], true),
        (["istio.io/dataplane-mode": "none"], [:], false), ([:], [:], false),
    ])
    func labels(ofNamespace: [String: String], ofPod: [String: String], isEnrolled: Bool) {
        var town = MeshTown()
        town.add(namespace("shop", ofNamespace), pod("client", at: 1, ofPod))
        town.compile()
        #expect(town.mesh.view.reach.enrolled.isEmpty != isEnrolled)
    }

    @Test func whoIsInIsFollowedInBothDirections() {
        var town = town([:])
        town.add(namespace("shop", enabled))
        town.compile()
        #expect(town.action("web") == .tunnel && town.mesh.view.reach.enrolled.count == 2)
        // Of another node's pods only those count that pods of this one can reach.
        town.add(pod("client", at: 1, ["heddle.io/mesh": "disabled"]))
        town.compile()
        #expect(town.mesh.view == MeshView() && town.action("web") == .balance && town.service("web") == nil)
        town.add(pod("client", at: 1))
        town.compile()
        #expect(town.action("web") == .tunnel && town.routes.snapshot.workloads[address(2)]?.isEnrolled == true)
        town.add(pod("server", at: 2, on: "node-b", ["istio.io/dataplane-mode": "none"]))
        town.compile()
        #expect(town.action("web") == .balance && town.mesh.view.reach.enrolled == [address(1)])
        #expect(town.routes.snapshot.workloads[address(2)]?.isEnrolled != true)
        town.remove(.namespace, "", "shop")
        town.compile()
        #expect(town.mesh.view == MeshView() && town.routes.snapshot.mesh == nil && !town.routes.isNeeded)
    }

    /// Files give pods no uid, and the kernel's part is kept by it.
    @Test func podsOfFilesAreToldApart() {
        var town = MeshTown()
        town.add(namespace("shop", ambient), pod("a", at: 1) { $0.uid = nil }, pod("b", at: 2) { $0.uid = nil })
        town.compile()
        #expect(town.mesh.programs.values.map(\.uid).sorted() == ["shop/a", "shop/b"])
        #expect(town.mesh.view.pods.values.map(\.uid).sorted() == ["shop/a", "shop/b"])
    }

    /// An address passes to another pod: what counts is who has it now.
    @Test func anAddressBelongsToItsLastPod() {
        var town = town(ambient)
        town.add(pod("client", at: 1) { $0.isTerminating = true })
        town.add(pod("other", at: 1, ["heddle.io/mesh": "disabled"]))
        town.compile()
        #expect(town.mesh.view.pods == [:])
        town.add(pod("third", at: 1))
        town.compile()
        #expect(town.mesh.view.pods[address(1)]?.name == "third")
        town.remove(.pod, "shop", "third")
        town.remove(.pod, "shop", "other")
        town.compile()
        #expect(town.mesh.view.pods[address(1)]?.name == "client")
        town.add(pod("client", at: 1) { $0.isFinished = true })
        town.compile()
        #expect(town.mesh.view.pods == [:])
    }

    @Test func podsOnTheNetworkOfTheirNodeAreOut() {
        var town = MeshTown()
        town.add(namespace("shop", ambient), pod("host", at: 9, enabled) { $0.isOnHostNetwork = true })
        town.compile()
        #expect(town.mesh.view == MeshView() && town.findings.map(\.reason) == ["mesh-host-network"])
        town.add(pod("host", at: 9) { $0.isOnHostNetwork = true })
        town.compile()
        #expect(town.mesh.findings == [])
    }

    @Test func whatIsWrongIsSaid() {
        var town = MeshTown()
        town.add(namespace("shop", ["heddle.io/mesh": "on"]))
        town.add(pod("a", at: 1, enabled) { $0.serviceAccount = "" }, pod("b", at: 2, ["heddle.io/mesh": "maybe"]))
        town.compile()
        #expect(town.mesh.findings.map(\.reason) == ["mesh-no-account", "mesh-unknown-label"])
        #expect(namespaceFindings(town.state).map(\.object.kind) == [.namespace])
        #expect(town.mesh.view.pods[address(1)]?.serviceAccount == "")
        town.add(pod("a", at: 1, enabled), pod("b", at: 2))
        town.compile()
        #expect(town.mesh.findings == [] && town.findings == [])
    }

    @Test func withoutAMeshLabelsAreNoticed() {
        var state = ClusterState()
        let objects = [
            namespace("shop", enabled), pod("a", at: 1, enabled), pod("b", at: 2), namespace("other"),
            // Another mesh may serve these.
            namespace("ambient", ambient), pod("c", at: 3, ambient),
        ]
        for object in objects { _ = state.apply(.upsert(object)) }
        #expect(findingsWithoutMesh(state).map(\.object.name.name).sorted() == ["a", "shop"])
        #expect(state.mesh.localPods == [:] && state.services(withEndpointsAt: [address(1)]) == [])
    }

    // MARK: Services

    @Test(arguments: [CompilerOptions.L7Proxy.off, .down, .up])
    func withTheProxyDownNothingIsInTheClear(proxy: CompilerOptions.L7Proxy) {
        let town = town(ambient, proxy: proxy)
        #expect(town.action("web") == .tunnel)
    }

    @Test func onlyTCPIsTunnelled() {
        var town = town(ambient)
        town.add(service("web", 1, ports: [.init(name: "tcp", transport: .udp, port: 80)]))
        town.compile()
        #expect(town.service("web") == nil)
        #expect(town.compiler.programs.values.allSatisfy { !$0.frontends.contains { $0.action != .balance } })
    }

    /// By whichever of its addresses a pod of the mesh dials it, but for node ports, which no service has alone.
    @Test func outsideAddressesLeadIntoTunnelsToo() throws {
        var town = town(ambient)
        guard case .service(var web) = service("web", 1) else { return }
        web.type = .loadBalancer
        let (outside, ingress) = (IPAddress(v4: 0xcb00_7101), IPAddress(v4: 0xcb00_7102))
        web.externalIPs = [outside, IPAddress(v4: 0x7f00_0001), IPAddress(high: 0xfd00 << 48, low: 1)]
        web.ingress = [.init(ingress)]
        web.ports[0].nodePort = 30080
        town.add(.service(web))
        town.compile()
        let frontends = try #require(town.compiler.programs.values.first { $0.id.service == "web" }).frontends
        #expect(Set(frontends.filter { $0.action == .tunnel }.map(\.address)) == [web.clusterIPs[0], outside, ingress])
        #expect(frontends.filter { $0.action == .balance }.map(\.kind) == [.nodePort])
        #expect(Set(town.service("web")?.frontends.map(\.address) ?? []) == [web.clusterIPs[0], outside, ingress])
    }

    /// What a route is attached to stays HTTP; its other ports are relayed.
    @Test func routedPortsStayRouted() {
        var town = town(ambient)
        town.add(service("web", 1, ports: [.init(name: "http", port: 80), .init(name: "tcp", port: 81)]))
        var route = Route(kind: .http, name: ObjectName("shop", "web"))
        route.parents = [.init(service: ObjectName("shop", "web"), port: 80)]
        town.add(.route(route))
        town.compile()
        #expect(town.action("web", portName: "http") == .proxy && town.action("web") == .tunnel)
        #expect(town.service("web")?.clientProtocol == .http1 && town.service("web", port: 81)?.clientProtocol == .tcp)
        town.remove(.httpRoute, "shop", "web")
        town.compile()
        #expect(town.service("web")?.clientProtocol == .tcp && town.action("web", portName: "http") == .tunnel)
        #expect(town.service("web")?.producerRoutes == nil)
    }

    // MARK: Pods that are not known

    private let ofPod: EndpointSlice.Conditions = [.ready, .serving, .ofPod]

    /// It may be enrolled: nobody is sent there before that is known.
    @Test func aPodThatNobodyHasToldOfIsWaitedFor() {
        var town = town(ambient)
        town.add(namespace("plain"), service("other", 2), endpoints("other", [3], conditions: ofPod))
        town.compile()
        #expect(town.action("other") == .tunnel && town.service("other")?.clientProtocol == .tcp)
        #expect(town.mesh.view.reach.unknown == [address(3)] && town.routes.snapshot.unknownPods == [address(3)])
        #expect(town.mesh.view.reach.all == [address(1), address(2), address(3)])
        town.add(pod("plain", at: 3, in: "plain", on: "node-b"))
        town.compile()
        #expect(town.action("other") == .balance && town.service("other") == nil)
        #expect(town.mesh.view.reach.unknown == [] && town.routes.snapshot.unknownPods == [])
        town.remove(.pod, "plain", "plain")
        town.compile()
        #expect(town.action("other") == .tunnel && town.routes.snapshot.unknownPods == [address(3)])
        town.add(pod("enrolled", at: 3, on: "node-b"))
        town.compile()
        #expect(town.action("other") == .tunnel && town.routes.snapshot.unknownPods == [])
        town.remove(.pod, "shop", "enrolled")
        town.remove(.endpointSlice, "shop", "other")
        town.compile()
        #expect(town.action("other") == .balance && town.mesh.view.reach.unknown == [])
    }

    /// A slice says what an endpoint is for its own service and for nobody else's.
    @Test func othersSlicesKeepNobodyFromAService() throws {
        var town = town(ambient)
        town.add(service("other", 2), endpoints("other", [3]))
        town.add(service("evil", 3), endpoints("evil", [3], conditions: ofPod))
        town.compile()
        #expect(town.mesh.view.reach.unknown == [address(3)])
        #expect(town.action("other") == .balance && town.action("evil") == .tunnel)
        // With another endpoint in the mesh it is the proxy that is told.
        town.add(endpoints("other", [2, 3]))
        town.compile()
        func unknown(_ name: String) throws -> [Bool] {
            let id = try #require(town.service(name)).ownUpstream
            return try #require(town.routes.snapshot.upstreams[id]).endpoints.map(\.isUnknown)
        }
        #expect(town.action("other") == .tunnel)
        #expect(try unknown("other") == [false, false] && unknown("evil") == [true])
        town.add(namespace("plain"), pod("plain", at: 3, in: "plain", on: "node-b"), endpoints("evil", [2, 3]))
        town.compile()
        #expect(try unknown("evil") == [false, false])
    }

    /// What is no pod, a server outside the cluster perhaps, is in no mesh.
    @Test func whatIsNoPodIsSentToInTheClear() {
        var town = town(ambient)
        town.add(service("other", 2), endpoints("other", [3]))
        town.compile()
        #expect(town.action("other") == .balance && town.mesh.view.reach.unknown == [])
        // Pods on the network of their node are known by its address.
        town.add(pod("host", at: 9, on: "node-b") { $0.isOnHostNetwork = true })
        town.add(endpoints("other", [9], conditions: ofPod))
        town.compile()
        #expect(town.action("other") == .balance && town.mesh.view.reach.unknown == [])
    }

    /// A pod's end is told by itself first and by its slice later: that turns round no service with others.
    @Test func whatTerminatesCountsWhereItIsChosen() {
        var town = town(ambient)
        var slice = EndpointSlice(name: ObjectName("shop", "other"), serviceName: "other", addressType: .ipv4)
        slice.ports = [.init(name: "tcp", port: 8080)]
        let last: EndpointSlice.Conditions = [.serving, .terminating, .ofPod]
        slice.endpoints = [.init(address(3), conditions: last), .init(address(4))]
        town.add(service("other", 2), .endpointSlice(slice))
        town.compile()
        #expect(town.action("other") == .balance && town.mesh.view.reach.unknown == [address(3)])
        slice.endpoints.removeLast()
        town.add(.endpointSlice(slice))
        town.compile()
        #expect(town.action("other") == .tunnel)
    }

    /// Whoever is told of then is one of many: a service turns once, when the list is there. The proxy hears nothing of
    /// what goes by then.
    @Test func beforePodsAreListedAllAreUnknown() {
        var town = MeshTown()
        town.arePodsKnown = false
        town.add(namespace("shop", ambient), namespace("plain"), pod("client", at: 1), service("web", 1))
        town.add(service("other", 2), endpoints("other", [3], conditions: ofPod))
        town.add(endpoints("web", [2], conditions: ofPod))
        town.compile()
        #expect(town.mesh.view.reach.unknown == [address(2), address(3)] && !town.mesh.view.reach.isListed)
        #expect(town.action("web") == .tunnel && town.action("other") == .tunnel)
        #expect(town.service("web") == nil && town.routes.snapshot.unknownPods == [])
        town.add(pod("plain", at: 3, in: "plain", on: "node-b"))
        town.compile()
        #expect(town.action("other") == .tunnel)
        town.arePodsKnown = true
        town.compile()
        #expect(town.mesh.view.reach.unknown == [address(2)] && town.mesh.view.reach.isListed)
        #expect(town.action("web") == .tunnel && town.action("other") == .balance)
        #expect(town.service("web") != nil && town.routes.snapshot.unknownPods == [address(2)])
    }

    // MARK: Cost and agreement

    @Test(arguments: [10, 500]) func aChangeCostsItself(count: Int) {
        var town = MeshTown()
        town.add(namespace("shop", ambient), namespace("small"))
        for number in 0..<UInt32(count) {
            town.add(pod("p\(number)", at: 100 + number, on: "node-b"), service("s\(number)", 1 + number))
            town.add(endpoints("s\(number)", [100 + number]))
        }
        town.add(pod("client", at: 1), pod("other", at: 2, in: "small", on: "node-b"))
        town.compile()
        #expect(town.routes.snapshot.services.count == count)
        var before = (0, 0, 0)
        func cost(_ edit: (inout MeshTown) -> Void) -> [Int] {
            before = (town.mesh.made, town.routes.made, town.compiler.made)
            edit(&town)
            town.compile()
            return [town.mesh.made - before.0, town.routes.made - before.1, town.compiler.made - before.2]
        }
        #expect(cost { _ in } == [0, 0, 0])
        #expect(cost { $0.add(namespace("small", ambient)) } == [1, 0, 0])
        #expect(cost { $0.add(pod("p3", at: 103, on: "node-b", ["heddle.io/mesh": "disabled"])) } == [1, 1, 1])
        #expect(cost { $0.add(pod("p3", at: 103, on: "node-b")) } == [1, 2, 1])
        #expect(cost { $0.add(pod("client2", at: 3)) } == [1, 0, 0])
        #expect(cost { $0.add(endpoints("s4", [104, 3])) } == [0, 2, 1])
        #expect(town.routes.snapshot.services.count == count)
    }

    @Test(arguments: 1...20) func everyOrderOfChangesComesToTheSame(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var town = MeshTown()
        var pods: [ObjectName: ClusterObject] = [:]
        let labels: [[String: String]] = [
            [:], ambient, enabled, ["heddle.io/mesh": "disabled"], ["heddle.io/mesh": "?"],
        ]
        for _ in 0..<200 {
            let number = UInt32.random(in: 1...6, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 8:
                let namespace = Bool.random(using: &random) ? "shop" : PeerAuthentication.rootNamespace
                var policy = AuthorizationPolicy(name: ObjectName(namespace, "a\(number)"))
                if Bool.random(using: &random) { policy.selector = enabled }
                policy.access.action = Bool.random(using: &random) ? .allow : .deny
                policy.access.rules = [PolicyRule(operations: [[PolicyTest(.port([UInt16(number)]))]])]
                town.add(.authorizationPolicy(policy))
                pods[policy.name] = .authorizationPolicy(policy)
            case 9:
                for namespace in ["shop", PeerAuthentication.rootNamespace] {
                    town.remove(.authorizationPolicy, namespace, "a\(number)")
                    pods[ObjectName(namespace, "a\(number)")] = nil
                }
            case 0: town.add(namespace("shop", labels.randomElement(using: &random) ?? [:]))
            case 1: town.remove(.namespace, "", "shop")
            case 2:
                town.remove(.pod, "shop", "p\(number)")
                pods[ObjectName("shop", "p\(number)")] = nil
            case 3: town.add(service("s\(number)", number))
            case 4:
                let conditions = EndpointSlice.Conditions(rawValue: UInt8.random(in: 0..<16, using: &random))
                let others = UInt32.random(in: 1...6, using: &random)
                town.add(endpoints("s\(number)", [number, others], conditions: conditions))
            case 5: town.remove(.endpointSlice, "shop", "s\(number)")
            default:
                let node = Bool.random(using: &random) ? MeshTown.node : "node-b"
                let new = pod("p\(number)", at: number, on: node, labels.randomElement(using: &random) ?? [:])
                town.add(new)
                pods[new.id.name] = new
            }
            town.arePodsKnown = Int.random(in: 0..<4, using: &random) > 0
            if Bool.random(using: &random) { town.compile() }
        }
        town.arePodsKnown = true
        town.compile()
        town.pods = pods.values.map { .upsert($0) }
        let fresh = town.fromScratch
        #expect(town.mesh.view == fresh.mesh.view && town.mesh.programs == fresh.mesh.programs)
        #expect(town.compiler.programs == fresh.compiler.programs)
        #expect(Set(town.mesh.findings) == Set(fresh.mesh.findings))
        var (old, new) = (town.routes.snapshot, fresh.routes.snapshot)
        (old.generation, new.generation) = (0, 0)
        #expect(old == new)
    }
}
