/// Atomicity: connections at full speed while the backends of their service change thousands of times. None may fail,
/// and none may be answered by a backend that belonged to no generation in force between its start and its end (spec
/// rows 24, 32, 159).
import Addressing
import Cluster
import DataplaneIR
import LinuxDataplane
import Reconcile
import Testing
import TestSupport

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct StormTests {
    /// A set of backends and when it was in force: from before it was written until after the next one was.
    private struct Published {
        let from: UInt64
        var until = UInt64.max
        let names: Set<String>
    }

    /// Where the storm comes from and what it meets.
    enum Scene: CaseIterable, Sendable {
        case podToClusterIP
        /// With session affinity: the remembered endpoint comes and goes.
        case podToStickyClusterIP
        /// Under externalTrafficPolicy Local: endpoints elsewhere come and go too, and are never used.
        case outsideToNodePort
    }

    @Test(arguments: DataplaneKind.allCases, [LabPod.Kind.tcp, .udp, .udpConnected])
    func noConnectionFailsOrGoesAstray(_ kind: DataplaneKind, _ flow: LabPod.Kind) throws {
        // Lost datagrams are waited for, so a round of UDP takes longer.
        try storm(kind, flow, .podToClusterIP, updates: flow == .tcp ? 1500 : 200)
    }
    @Test(arguments: DataplaneKind.allCases, [Scene.podToStickyClusterIP, .outsideToNodePort])
    func noConnectionUnderAffinityOrPolicyLocalFailsOrGoesAstray(_ kind: DataplaneKind, _ scene: Scene) throws {
        try storm(kind, .tcp, scene, updates: 400)
    }

    private func storm(_ kind: DataplaneKind, _ flow: LabPod.Kind, _ scene: Scene, updates: Int) throws {
        var random = SeededGenerator()
        try Lab.with { lab in
            let node = try NodeUnderTest(kind, lab: lab)
            let backends = (node.pods.dropFirst() + node.remotePods).flatMap { pod in
                NodeUnderTest.backendPorts.map { SocketAddress(pod.v4, $0) }
            }
            let here = Set(node.pods.map(\.v4))
            let target = target(scene, node)
            // Who may answer; never nobody.
            let names = { (chosen: Set<SocketAddress>) in
                Set(chosen.filter { scene != .outsideToNodePort || here.contains($0.address) }.map(\.description))
            }
            var history = [Published(from: monotonicNs(), names: names(Set(backends)))]
            try node.apply(
                [.upsert(.service(Self.service(scene, flow.transport)))]
                    + Self.slices(Set(backends), flow.transport, here: here))

            let origin = scene == .outsideToNodePort ? node.client : node.pods[0]
            let storm = try origin.storm(flow, to: target, threads: 2, timeoutMs: flow == .tcp ? 5000 : 200)
            for step in 0..<updates {
                let count = Int.random(in: 1...backends.count, using: &random)
                var chosen = Set(backends.shuffled(using: &random).prefix(count))
                if names(chosen).isEmpty { chosen.insert(backends[0]) }
                let from = monotonicNs()
                try node.apply(Self.slices(chosen, flow.transport, here: here))
                history[history.count - 1].until = monotonicNs()
                history.append(Published(from: from, names: names(chosen)))
                if step % 200 == 199 { try node.collectGarbage() }
            }
            let connections = try storm.stop()

            #expect(connections.count > 200, "the storm hardly blew: \(connections.count) connections")
            let failed = connections.filter { $0.error != 0 }
            // A datagram on its way to a backend that is removed meanwhile is lost with it, and its socket may be cut:
            // at most one a thread and update. A TCP connection has no such excuse.
            #expect(
                failed.count <= (flow == .tcp ? 0 : 2 * updates),
                "\(failed.count) of \(connections.count) failed, errno \(Set(failed.map(\.error)))")
            let astray = connections.filter { !Self.isLegal($0, history) }
            #expect(astray.isEmpty, "\(astray.count) of \(connections.count) went to a backend of another time")
            for dataplane in node.dataplanes where dataplane.name == "ebpf" {
                #expect(try dataplane.counters()["unreachable_inconsistent"] == 0)
            }
        }
    }

    private func target(_ scene: Scene, _ node: NodeUnderTest) -> SocketAddress {
        scene == .outsideToNodePort
            ? SocketAddress(node.node.host.v4, 30080) : SocketAddress(IPAddress(v4: 0x0a60_0001), 80)
    }
    private static func service(_ scene: Scene, _ transport: TransportProtocol) -> Service {
        var service = Service(name: ObjectName("ns", "storm"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(name: "p", transport: transport, port: 80)]
        switch scene {
        case .podToClusterIP: break
        case .podToStickyClusterIP: service.affinitySeconds = 10800
        case .outsideToNodePort:
            service.type = .nodePort
            service.ports[0].nodePort = 30080
            service.externalTrafficPolicy = .local
        }
        return service
    }
    private static func slices(
        _ chosen: Set<SocketAddress>, _ transport: TransportProtocol, here: Set<IPAddress>
    ) -> [Change] {
        NodeUnderTest.backendPorts.map { port in
            var slice = EndpointSlice(name: ObjectName("ns", "storm-\(port)"), serviceName: "storm", addressType: .ipv4)
            slice.ports = [.init(name: "p", transport: transport, port: port)]
            slice.endpoints = chosen.filter { $0.port == port }.sorted().map {
                .init($0.address, nodeName: here.contains($0.address) ? RandomCluster.nodeName : "node-b")
            }
            return .upsert(.endpointSlice(slice))
        }
    }

    private static func isLegal(_ connection: Storm.Connection, _ history: [Published]) -> Bool {
        guard let name = connection.name else { return true }
        // The first set that was still in force when the connection began, by bisection: `until` only grows.
        var low = 0
        var high = history.count - 1
        while low < high {
            let middle = (low + high) / 2
            if history[middle].until < connection.start { low = middle + 1 } else { high = middle }
        }
        for published in history[low...] {
            if published.from > connection.end { return false }
            if published.names.contains(name) { return true }
        }
        return false
    }
}
