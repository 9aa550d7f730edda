/// Atomicity: connections at full speed while the backends of their service change thousands of times. None may fail,
/// and none may be answered by a backend that belonged to no generation in force between its start and its end.
import Addressing
import Cluster
import DataplaneIR
import LinuxDataplane
import Reconcile
import TestSupport
import Testing

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct StormTests {
    /// A set of backends and when it was in force: from before it was written until after the next one was.
    private struct Published {
        let from: UInt64
        var until = UInt64.max
        let names: Set<String>
    }

    @Test(arguments: DataplaneKind.allCases, [LabPod.Kind.tcp, .udp, .udpConnected])
    func noConnectionFailsOrGoesAstray(_ kind: DataplaneKind, _ flow: LabPod.Kind) throws {
        var random = SeededGenerator()
        try Lab.with { lab in
            let node = try NodeUnderTest(kind, lab: lab)
            let backends = (node.pods.dropFirst() + node.remotePods).flatMap { pod in
                NodeUnderTest.backendPorts.map { SocketAddress(pod.v4, $0) }
            }
            let address = SocketAddress(IPAddress(v4: 0x0a60_0001), 80)
            var service = Service(name: ObjectName("ns", "storm"))
            service.clusterIPs = [address.address]
            service.ports = [Service.Port(name: "p", transport: flow.transport, port: address.port)]
            let slices = { (chosen: Set<SocketAddress>) in
                NodeUnderTest.backendPorts.map { port -> Change in
                    var slice = EndpointSlice(
                        name: ObjectName("ns", "storm-\(port)"), serviceName: "storm", addressType: .ipv4)
                    slice.ports = [.init(name: "p", transport: flow.transport, port: port)]
                    slice.endpoints = chosen.filter { $0.port == port }.sorted().map { .init($0.address) }
                    return .upsert(.endpointSlice(slice))
                }
            }
            var history = [Published(from: monotonicNs(), names: Set(backends.map(\.description)))]
            try node.apply([.upsert(.service(service))] + slices(Set(backends)))

            let storm = try node.pods[0].storm(flow, to: address, threads: 2, timeoutMs: flow == .tcp ? 5000 : 200)
            // Lost datagrams are waited for, so a round of UDP takes longer.
            let updates = flow == .tcp ? 2000 : 300
            for step in 0..<updates {
                let count = Int.random(in: 1...backends.count, using: &random)
                let chosen = Set(backends.shuffled(using: &random).prefix(count))
                let from = monotonicNs()
                try node.apply(slices(chosen))
                history[history.count - 1].until = monotonicNs()
                history.append(Published(from: from, names: Set(chosen.map(\.description))))
                if step % 200 == 199 { try node.collectGarbage() }
            }
            let connections = try storm.stop()

            #expect(connections.count > 500, "the storm hardly blew: \(connections.count) connections")
            let failed = connections.filter { $0.error != 0 }
            // A datagram on its way to a backend that is removed meanwhile is lost with it, and its socket may be cut:
            // at most one a thread and update. A TCP connection has no such excuse.
            #expect(
                failed.count <= (flow == .tcp ? 0 : 2 * updates),
                "\(failed.count) of \(connections.count) failed, first errno \(failed.first?.error ?? 0)")
            let astray = connections.filter { !Self.isLegal($0, history) }
            #expect(astray.isEmpty, "\(astray.count) of \(connections.count) went to a backend of another time")
            for dataplane in node.dataplanes where dataplane.name == "ebpf" {
                #expect(try dataplane.counters()["unreachable_inconsistent"] == 0)
            }
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
