/// WebSockets in every pair of versions: HTTP/1.1's upgrade (RFC 6455) and HTTP/2's extended CONNECT (RFC 8441).
import Addressing
import HTTP2TestSupport
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct WebSocketTests {
    /// With one backend of this version.
    private func with(
        _ version: WebSocketVersion, _ rules: [RouteRule]? = nil, settings: [UInt8]? = WebSocketBackend.offer,
        options: EngineOptions = EngineOptions(), _ change: (inout UpstreamPolicy) -> Void = { _ in },
        _ body: (ProxyRig, WebSocketBackend) async throws -> Void
    ) async throws {
        let backend = try WebSocketBackend(version, settings: settings)
        defer {
            backend.gate.signal()
            backend.stop()
        }
        var upstream = backend.upstream
        change(&upstream.policy)
        try await ProxyRig.with(rules, [upstream], options: options) { try await body($0, backend) }
    }

    // MARK: Opening

    @Test(arguments: WebSocketPair.all) func bytesPassBothWays(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let client = try WebSocketClient(rig, pair.client, "/echo?a=b", [("x-own", "1")])
            defer { client.hangUp() }
            #expect(client.open() == (pair.client == .http1 ? 101 : 200))
            #expect(client.header("sec-websocket-protocol") == "chat" && client.header("x-backend") == "one")
            if pair.client == .http1 {
                #expect(client.header("sec-websocket-accept") == WebSocketClient.accept)
                #expect(client.header("upgrade") == "websocket" && client.header("connection") == "upgrade")
            } else {
                for name in ["sec-websocket-accept", "upgrade", "connection", "content-length", "transfer-encoding"] {
                    #expect(client.header(name) == nil)
                }
            }
            let seen = try #require(backend.seen.first)
            #expect(seen.header("sec-websocket-version") == "13" && seen.header("sec-websocket-protocol") == "chat")
            #expect(seen.header("x-own") == "1" && seen.header("x-forwarded-for") == "127.0.0.1")
            if pair.backend == .http1 {
                #expect(seen.head.hasPrefix("GET /echo?a=b HTTP/1.1\r\n") && seen.header("upgrade") == "websocket")
                #expect(seen.header("connection") == "upgrade" && seen.header("transfer-encoding") == nil)
                let key = try #require(seen.header("sec-websocket-key"))
                #expect(key.utf8.count == 24 && (key == WebSocketClient.key) == (pair.client == .http1))
            } else {
                #expect(seen.header(":method") == "CONNECT" && seen.header(":protocol") == "websocket")
                #expect(seen.header(":path") == "/echo?a=b" && seen.header(":authority") == "cart")
                #expect(seen.header(":scheme") == "http" && seen.header("sec-websocket-key") == nil)
            }
            // A MiB there and back.
            let piece = String(repeating: "0123456789abcdef", count: 1024)
            for _ in 0..<64 {
                client.send(piece)
                #expect(client.receive(piece.utf8.count) == piece)
            }
            client.send("bye")
            client.endOutput()
            let rest = client.rest()
            #expect(rest.text == "bye" && rest.reset == nil)
            try eventually("the record") { rig.log.records.count == 1 }
            let record = try #require(rig.log.records.first)
            #expect(record.status == 101 && record.flags == [] && record.method == "GET")
            #expect(record.bytesReceived == 64 * 16384 + 3 && record.bytesSent == 64 * 16384 + 3)
            #expect(rig.engine.collect { $0.stats.active }.reduce(0, +) == 0)
        }
    }

    /// A match on GET is for every way of asking for a WebSocket, and so are filters.
    @Test(arguments: WebSocketPair.all) func routesApply(pair: WebSocketPair) async throws {
        let edit = RouteIR.HeaderEdit(set: [HeaderField("x-set", "new")], remove: ["x-gone"])
        let rules = [
            rule(
                RouteMatch(path: .prefix("/api"), method: "GET"), to: [("cart", 1)],
                filters: [
                    .requestHeaders(edit), .responseHeaders(edit),
                    .rewrite(Rewrite(hostname: "inner", path: .replacePrefix("/api", with: "/"))),
                ]), rule(RouteMatch(path: .prefix("/old")), filters: [.redirect(Redirect(scheme: "https"))]),
        ]
        try await with(pair.backend, rules) { rig, backend in
            let client = try WebSocketClient(rig, pair.client, "/api/echo", [("x-gone", "1")])
            defer { client.hangUp() }
            client.open()
            #expect(client.isOpen && client.header("x-set") == "new")
            let seen = try #require(backend.seen.first)
            #expect(seen.header("x-set") == "new" && seen.header("x-gone") == nil)
            if pair.backend == .http1 {
                #expect(seen.head.hasPrefix("GET /echo HTTP/1.1\r\n") && seen.header("host") == "inner")
            } else {
                #expect(seen.header(":path") == "/echo" && seen.header(":authority") == "inner")
            }
            #expect(try WebSocketClient(rig, pair.client, "/old").refusal()?.status == 302)
            #expect(try WebSocketClient(rig, pair.client, "/nothing").refusal()?.status == 404)
        }
    }

    @Test(arguments: WebSocketPair.all) func refusalsPass(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let refusal = try WebSocketClient(rig, pair.client, "/refuse").refusal()
            #expect(refusal?.status == 403 && refusal?.text == "no")
            try eventually("the record") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.status == 403 && rig.log.records.first?.flags == [])
        }
    }

    /// What a client of HTTP/2 would take for an open tunnel.
    @Test(arguments: [("/plain", "upgrade_ignored"), ("/wrong", "bad_websocket_answer")])
    func whatOpensNoWebSocketIsABadGateway(path: String, failure: String) async throws {
        try await with(.http1) { rig, backend in
            let refusal = try WebSocketClient(rig, .http2, path).refusal()
            #expect(refusal?.status == 502)
            try eventually("the record") { rig.log.records.count == 1 }
            let record = try #require(rig.log.records.first)
            #expect(record.failure == failure && record.flags == .upstreamProtocolError)
        }
    }

    // MARK: Endpoints of HTTP/2 without it

    @Test(arguments: WebSocketVersion.allCases) func endpointsThatDoNotOfferIt(client: WebSocketVersion) async throws {
        try await with(.http2, settings: []) { rig, backend in
            #expect(try WebSocketClient(rig, client).refusal()?.status == 502)
            try eventually("the record") { rig.log.records.count == 1 }
            let record = try #require(rig.log.records.first)
            #expect(record.failure == "extended_connect_not_offered" && record.flags == .upstreamProtocolError)
            #expect(record.details == "no_websocket{extended_connect_not_offered}")
            // Its other requests are served, and it is not ejected.
            #expect(try rig.get("/echo").status == 200)
            #expect(backend.seen.count == 1 && backend.connections == 1)
        }
    }

    /// Every 2xx would say that the tunnel is there, also gRPC's for failures.
    @Test(arguments: WebSocketVersion.allCases) func aRouteOfGRPCOpensNone(client: WebSocketVersion) async throws {
        let calls = rule(to: [("cart", 1)]) { $0.kind = .grpc }
        try await with(.http2, [calls], settings: []) { rig, _ in
            let answer = try WebSocketClient(rig, client).refusal()
            #expect(answer?.status == 502)
        }
    }

    @Test(arguments: WebSocketVersion.allCases) func endpointsWithoutSettings(client: WebSocketVersion) async throws {
        try await with(.http2, settings: nil, { $0.connectTimeout = .milliseconds(50) }) { rig, backend in
            #expect(try WebSocketClient(rig, client).refusal()?.status == 503)
            try eventually("the record") { rig.log.records.count == 1 }
            let record = try #require(rig.log.records.first)
            #expect(record.failure == "no SETTINGS" && record.flags.contains(.connectFailure), "\(record)")
            #expect(backend.seen.isEmpty)
        }
    }

    /// One of two has it: the other is passed by.
    @Test func anEndpointThatOffersItIsFound() async throws {
        let without = try WebSocketBackend(.http2, settings: [])
        let having = try WebSocketBackend(.http2)
        defer { for backend in [without, having] { backend.stop() } }
        var upstream = without.upstream
        upstream.endpoints += having.upstream.endpoints
        upstream.policy.loadBalancing = .roundRobin
        try await ProxyRig.with(nil, [upstream]) { rig in
            for _ in 0..<4 {
                let client = try WebSocketClient(rig, .http2)
                client.open()
                #expect(client.isOpen)
                client.hangUp()
            }
        }
    }

    // MARK: Before it is open

    @Test(arguments: WebSocketPair.all) func whatComesBeforeTheAnswerWaits(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let client = try WebSocketClient(rig, pair.client, "/gate", early: "early")
            defer { client.hangUp() }
            try eventually("the request") { backend.seen.count == 1 }
            client.send(" bird")
            client.endOutput()
            if pair.client == .http2 {
                try eventually("the bytes") { rig.engine.stats.held > 64 << 10 }
            }
            #expect(backend.seen.first?.received == [])
            backend.gate.signal()
            client.open()
            #expect(client.isOpen)
            let rest = client.rest()
            #expect(rest.text == "early bird" && rest.reset == nil)
        }
    }

    @Test func aWindowIsAllThatComesEarly() async throws {
        try await with(.http1) { rig, backend in
            let shared = try rig.connectHTTP2()
            defer { shared.hangUp() }
            _ = try shared.ask("/plain")
            let client = try WebSocketClient(rig, .http2, "/gate", on: shared)
            let piece = String(repeating: "x", count: 16384)
            for _ in 0..<16 { client.send(piece) }
            try eventually("the account") { rig.engine.stats.held > 256 << 10 }
            // Others go on.
            for _ in 0..<8 { #expect(try shared.ask("/plain").text == "hello") }
            #expect(backend.seen.last?.received == [])
            backend.gate.signal()
            client.open()
            #expect(client.receive(16 * piece.utf8.count)?.utf8.count == 16 * piece.utf8.count)
            client.reset()
            try eventually("the end") { rig.engine.stats.held < 128 << 10 }
        }
    }

    @Test(arguments: WebSocketPair.mixed) func theTimeOfARouteIsForTheAnswer(pair: WebSocketPair) async throws {
        var options = EngineOptions()
        options.streamIdleTimeout = .milliseconds(500)
        let timed = rule(to: [("cart", 1)]) { $0.timeouts.request = .milliseconds(300) }
        try await with(pair.backend, [timed], options: options) { rig, backend in
            let client = try WebSocketClient(rig, pair.client)
            defer { client.hangUp() }
            client.open()
            #expect(client.isOpen)
            // By then the first one's time is over, and so is that for which a request may be silent.
            for _ in 0..<6 { #expect(try WebSocketClient(rig, pair.client, "/silent").refusal()?.status == 504) }
            client.send("still here")
            #expect(client.receive(10) == "still here")
        }
    }
}
