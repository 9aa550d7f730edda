/// Requests through tunnels: routes and balancing apply first, and connections are shared by nobody but their own pod.
import Addressing
import Balancing
import CertificateAuthority
import HTTP2TestSupport
import HTTP2Wire
import Posix
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct TunnelHTTPTests {
    private func backend(_ name: String = "one") throws -> TestBackend {
        try TestBackend(name, at: SocketAddress(serverPod, 0))
    }
    private func ask(_ rig: TunnelRig, _ client: TestClient, _ path: String = "/") -> TestClient.Answer? {
        client.send("GET \(path) HTTP/1.1\r\nHost: cart\r\n\r\n")
        return client.answer()
    }

    @Test func requestsShareConnectionsThatBelongToOnePod() async throws {
        let server = try backend()
        defer { server.stop() }
        let other = IPAddress(v4: 0x7f01_0004)
        let join: (inout ProxySnapshot) -> Void = { snapshot in
            snapshot.meshPods[other] = MeshPod(namespace: "shop", name: "client-2", uid: "3", serviceAccount: "client")
        }
        try await TunnelRig.with([server.address], clientProtocol: .http1, join) { rig in
            try rig.trust()
            for number in 1...3 {
                let client = try rig.connect()
                #expect(ask(rig, client, "/\(number)")?.status == 200)
                client.hangUp()
            }
            #expect(server.connections == 1 && rig.tunnels == 1)
            // Another pod, and somebody who is in no mesh: neither gets what the first has left.
            #expect(ask(rig, try rig.connect(from: other))?.status == 200)
            #expect(server.connections == 2 && rig.tunnels == 2)
            #expect(ask(rig, try rig.connect(from: IPAddress(v4: 0x7f01_0009)))?.status == 200)
            #expect(server.connections == 3 && rig.tunnels == 2)
            try eventually("the records") { rig.nearLog.records.count == 5 }
            #expect(rig.nearLog.records.map(\.isMutual) == [true, true, true, true, false])
            let text = prometheusText(
                rig.near.stats, rig.near.series, flows: rig.near.flows, node: ProxyNode(name: "n"),
                mesh: rig.near.snapshot.mesh, generation: 1)
            let lines = text.split(separator: "\n").filter { $0.hasPrefix("istio_requests_total") }
            let secure = try #require(lines.first { $0.contains("connection_security_policy=\"mutual_tls\"") })
            #expect(secure.contains("source_principal=\"spiffe://cluster.local/ns/shop/sa/client\""))
            #expect(secure.contains("destination_principal=\"spiffe://cluster.local/ns/shop/sa/server\""))
            // The server's node sees no requests: its side is told here, with the same labels and numbers.
            let reporters = lines.map { $0.contains("reporter=\"destination\"") }
            #expect(reporters.filter { $0 }.count == 2 && lines.count == 5, "\(lines)")
            #expect(lines.contains(secure.replacing("reporter=\"destination\"", with: "reporter=\"source\"")[...]))
        }
    }

    /// CONNECT waits for a certificate here. With spans of ours it belongs below the request's, else to the caller's.
    @Test(arguments: [false, true]) func aTunnelIsOpenedInTheTraceOfItsRequest(hasSpans: Bool) async throws {
        let server = try backend()
        defer { server.stop() }
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
        for (given, name) in [("traceparent: 00-\(trace)-\(span)-01", "traceparent"), ("b3: \(trace)-\(span)-1", "b3")]
        {
            let rig = try await TunnelRig(
                [server.address], clientProtocol: .http1, spans: hasSpans ? RecordedSpans() : nil)
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: cart\r\n\(given)\r\n\r\n")
            var header: String?
            try eventually("CONNECT") {
                header =
                    rig.near.collect { shard in
                        shard.tunnels.waiting.first.map { request in
                            let fields = request.fields
                            return fields.fields.first { fields.nameText($0) == name }.map(fields.valueText) ?? "none"
                        }
                    }.compactMap(\.self).first
                return header != nil
            }
            try rig.trust()
            #expect(client.answer()?.status == 200)
            #expect(header?.contains(trace) == true && header?.contains("-\(span)-") != hasSpans, "\(header ?? "")")
            #expect(server.requests.last?.header(name) == header, "the same as the request's")
            await rig.end()
        }
    }

    /// What enrolled and other clients of one service have left idle is never mixed up.
    @Test func whoHasNoIdentityGetsNoConnectionOfOthers() async throws {
        let server = try backend()
        defer { server.stop() }
        let nameless: (inout ProxySnapshot) -> Void = { snapshot in
            snapshot.meshPods[clientPod]?.serviceAccount = ""
        }
        try await TunnelRig.with([server.address], clientProtocol: .http1, nameless) { rig in
            try rig.trust()
            #expect(ask(rig, try rig.connect(from: IPAddress(v4: 0x7f01_0009)))?.status == 200)
            #expect(ask(rig, try rig.connect())?.status == 503)
            #expect(server.requests.count == 1)
            try eventually("the reason") {
                rig.nearLog.records.last?.failure?.contains("names no service account") == true
            }
        }
    }

    @Test func webSocketsAndLongBodiesPass() async throws {
        let server = try TestBackend("one", at: SocketAddress(serverPod, 0)) { request in
            request.header("upgrade") == nil
                ? .reply(200, body: String(repeating: "y", count: request.body.count))
                : .tunnel("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address], clientProtocol: .http1) { rig in
            try rig.trust()
            let client = try rig.connect()
            let size = 3_000_000
            client.send("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: \(size)\r\n\r\n")
            client.send(String(repeating: "x", count: size))
            #expect(client.answer()?.body.count == size)
            client.send("GET / HTTP/1.1\r\nHost: cart\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
            #expect(client.answer(isHead: true)?.status == 101)
            client.send("ping")
            #expect(client.bytes(4) == "ping")
            client.endOutput()
            #expect(client.rest() == "")
        }
    }

    @Test func endpointsOfHTTP2AreReachedAsWell() async throws {
        let server = try TestListener.http2(at: SocketAddress(serverPod, 0)) { peer, frame, _ in
            peer.sendHeaders(frame.stream, [(":status", "200")], end: true)
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address], clientProtocol: .http1, wire: .h2c) { rig in
            try rig.trust()
            for _ in 1...3 { #expect(ask(rig, try rig.connect())?.status == 200) }
            #expect(server.connections == 1 && rig.tunnels == 1)
        }
    }

    /// A proxy that is replaced waits for its tunnels' streams: those of requests end as soon as each is answered.
    @Test func whoLeavesIsNotHeldUpByConnectionsThatAreKept() async throws {
        let mayAnswer = Semaphore()
        let server = try TestBackend("one", at: SocketAddress(serverPod, 0)) { request in
            if request.target == "/slow" { mayAnswer.wait() }
            return .reply(200, body: "")
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address], clientProtocol: .http1) { rig in
            try rig.trust()
            let (client, slow) = (try rig.connect(), try rig.connect())
            slow.send("GET /slow HTTP/1.1\r\nHost: cart\r\n\r\n")
            try eventually("one is under way") { server.requests.count == 1 }
            #expect(ask(rig, client)?.status == 200)
            #expect(rig.far.connectionCount == 3 && server.connections == 2)
            rig.far.drain()
            try eventually("what rests is closed") { rig.far.connectionCount == 2 }
            mayAnswer.signal()
            #expect(slow.answer()?.status == 200)
            try eventually("nothing is left of the tunnel") { rig.tunnels == 0 && rig.far.connectionCount == 0 }
        }
    }
    @Test func norByThoseOfHTTP2() async throws {
        let server = try TestListener.http2(at: SocketAddress(serverPod, 0)) { peer, frame, _ in
            peer.sendHeaders(frame.stream, [(":status", "200")], end: true)
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address], clientProtocol: .http1, wire: .h2c) { rig in
            try rig.trust()
            #expect(ask(rig, try rig.connect())?.status == 200)
            #expect(rig.far.connectionCount == 2)
            rig.far.drain()
            try eventually("nothing is left of the tunnel") { rig.tunnels == 0 && rig.far.connectionCount == 0 }
        }
    }

    @Test func aLimitOfConnectionsHoldsForAllClientsTogether() async throws {
        let server = try backend()
        defer { server.stop() }
        let limited: (inout ProxySnapshot) -> Void = { snapshot in
            snapshot.upstreams[UpstreamID(serviceID)]?.policy.maxConnections = 1
        }
        try await TunnelRig.with([server.address], clientProtocol: .http1, limited) { rig in
            try rig.trust()
            #expect(ask(rig, try rig.connect())?.status == 200)
            // What the first has left idle takes the only place.
            #expect(ask(rig, try rig.connect(from: IPAddress(v4: 0x7f01_0009)))?.status == 200)
            #expect(ask(rig, try rig.connect())?.status == 200)
        }
    }
}
