/// Endpoints of which nobody knows yet whether they are in the mesh: what an enrolled pod sends there waits, and goes
/// nowhere in the clear.
import Addressing
import Balancing
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct UnknownPodTests {
    private func backend(_ name: String = "one", at pod: IPAddress = serverPod) throws -> TestBackend {
        try TestBackend(name, at: SocketAddress(pod, 0))
    }
    private func request(_ client: TestClient) { client.send("GET / HTTP/1.1\r\nHost: cart\r\n\r\n") }
    private static func forget(_ pod: IPAddress, _ snapshot: inout ProxySnapshot) {
        snapshot.workloads[pod] = nil
        mark(pod, isUnknown: true, &snapshot)
    }
    private static func mark(_ pod: IPAddress, isUnknown: Bool, _ snapshot: inout ProxySnapshot) {
        for id in snapshot.upstreams.keys {
            for index in snapshot.upstreams[id]?.endpoints.indices ?? 0..<0
            where snapshot.upstreams[id]?.endpoints[index].address.address == pod {
                snapshot.upstreams[id]?.endpoints[index].isUnknown = isUnknown
            }
        }
    }
    /// The pod of the server is unknown, and its client enrolled.
    private func withUnknown(
        _ server: TestBackend, _ spoken: RoutedProtocol, _ body: (TunnelRig) async throws -> Void
    ) async throws {
        let forget: (inout ProxySnapshot) -> Void = { Self.forget(serverPod, &$0) }
        try await TunnelRig.with([server.address], clientProtocol: spoken, forget) { rig in
            try rig.trust()
            try await body(rig)
        }
    }
    private func know(_ rig: TunnelRig, isEnrolled: Bool) {
        var snapshot = rig.near.snapshot
        snapshot.generation += 1
        Self.mark(serverPod, isUnknown: false, &snapshot)
        var workload = Workload(
            namespace: "shop", pod: "server-1", name: "server", canonicalService: "server", serviceAccount: "server")
        workload.isEnrolled = isEnrolled
        snapshot.workloads[serverPod] = workload
        rig.near.adopt(snapshot)
    }

    /// Routed requests and relayed connections alike.
    @Test(arguments: [RoutedProtocol.tcp, .http1], [true, false])
    func whatIsKnownLaterIsReachedAsItOughtToBe(_ spoken: RoutedProtocol, isEnrolled: Bool) async throws {
        let server = try backend()
        defer { server.stop() }
        try await withUnknown(server, spoken) { rig in
            let client = try rig.connect()
            request(client)
            try eventually("it is there") { rig.near.connectionCount == 1 }
            #expect(server.connections == 0)
            know(rig, isEnrolled: isEnrolled)
            #expect(client.answer()?.status == 200)
            #expect(server.connections == 1 && rig.tunnels == (isEnrolled ? 1 : 0))
        }
    }

    @Test(arguments: [RoutedProtocol.tcp, .http1]) func whatStaysUnknownIsRefused(_ spoken: RoutedProtocol) async throws
    {
        let server = try backend()
        defer { server.stop() }
        try await withUnknown(server, spoken) { rig in
            let client = try rig.connect()
            request(client)
            if spoken == .tcp { #expect(client.rest() == "") } else { #expect(client.answer()?.status == 503) }
            try eventually("the reason") {
                (rig.nearLog.flows.map(\.failure) + rig.nearLog.records.map(\.failure)).contains {
                    $0?.contains("no Pod is known that has 127.1.0.3") == true
                }
            }
            #expect(rig.near.stats.tunnelRefusals[.unknownPod].map { $0 > 0 } == true)
            // Who is in no mesh has nothing to wait for.
            let other = try rig.connect(from: IPAddress(v4: 0x7f01_0009))
            request(other)
            if spoken == .http1 { #expect(other.answer()?.status == 200 && server.connections == 1) }
            if spoken == .tcp { #expect(other.rest() == "" && server.connections == 0) }
        }
    }

    /// Of a service's endpoints its own slices say what they are, and nobody else's.
    @Test(arguments: [RoutedProtocol.tcp, .http1]) func whatOthersSayOfAnAddressIsNothing(_ spoken: RoutedProtocol)
        async throws
    {
        let server = try backend()
        defer { server.stop() }
        let others: (inout ProxySnapshot) -> Void = {
            $0.workloads[serverPod] = nil
            $0.unknownPods = [serverPod]
        }
        try await TunnelRig.with([server.address], clientProtocol: spoken, others) { rig in
            let client = try rig.connect()
            request(client)
            #expect(client.answer()?.status == 200 && server.connections == 1)
        }
    }

    /// What the kernel brings of those a moment longer is relayed.
    @Test func whoLeavesTheMeshIsRemembered() {
        var snapshot = ProxySnapshot(generation: 1, node: ProxyNode(name: "near"))
        var workload = Workload(namespace: "shop", pod: "server-1", name: "server", canonicalService: "server")
        workload.isEnrolled = true
        (snapshot.mesh, snapshot.workloads) = (ProxyMesh(), [serverPod: workload])
        snapshot.unknownPods = [clientPod]
        let first = RoutingTable(snapshot)
        #expect(first.formerPods.isEmpty)
        let joined = snapshot
        workload.isEnrolled = false
        (snapshot.workloads, snapshot.unknownPods) = ([serverPod: workload], [])
        let second = RoutingTable(snapshot, replacing: first)
        #expect(second.formerPods == [serverPod, clientPod])
        #expect(RoutingTable(snapshot, replacing: second).formerPods.isEmpty)
        #expect(RoutingTable(joined, replacing: second).formerPods.isEmpty)
        (snapshot.mesh, snapshot.workloads) = (nil, [:])
        #expect(RoutingTable(snapshot, replacing: first).formerPods == [serverPod, clientPod])
    }

    /// Whoever is known is taken first.
    @Test(arguments: [RoutedProtocol.tcp, .http1]) func othersAreTakenFirst(_ spoken: RoutedProtocol) async throws {
        let unknown = IPAddress(v4: 0x7f01_0004)
        let (server, other) = (try backend(), try backend("two", at: unknown))
        defer {
            server.stop()
            other.stop()
        }
        let forget: (inout ProxySnapshot) -> Void = { Self.forget(unknown, &$0) }
        try await TunnelRig.with([server.address, other.address], clientProtocol: spoken, forget) { rig in
            try rig.trust()
            for _ in 1...8 {
                let client = try rig.connect()
                request(client)
                #expect(client.answer()?.status == 200)
                client.hangUp()
            }
            #expect(other.connections == 0)
        }
    }
}
