/// How WebSockets end, in every pair of versions: what one side does is what the other one sees.
import Addressing
import HTTP2TestSupport
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct WebSocketEndTests {
    private func with(
        _ version: WebSocketVersion, options: EngineOptions = EngineOptions(),
        _ body: (ProxyRig, WebSocketBackend) async throws -> Void
    ) async throws {
        let backend = try WebSocketBackend(version)
        defer {
            backend.gate.signal()
            backend.stop()
        }
        try await ProxyRig.with(nil, [backend.upstream], options: options) { try await body($0, backend) }
    }
    private func opened(
        _ rig: ProxyRig, _ version: WebSocketVersion, _ path: String, on shared: HTTP2TestClient? = nil
    ) throws -> WebSocketClient {
        let client = try WebSocketClient(rig, version, path, on: shared)
        client.open()
        #expect(client.isOpen)
        return client
    }

    /// The backend's end is no end of what the client sends, and the last words of both arrive.
    @Test(arguments: WebSocketPair.all) func eachDirectionEndsForItself(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let client = try opened(rig, pair.client, "/talk")
            defer { client.hangUp() }
            #expect(client.receive(WebSocketBackend.speech.utf8.count) == WebSocketBackend.speech)
            let answer = String(repeating: "y", count: 16384)
            for _ in 0..<3 { client.send(answer) }
            client.endOutput()
            try eventually("the backend has all") {
                backend.seen.first?.received.count == 3 * 16384 && backend.seen.first?.ended == true
            }
            #expect(client.rest().reset == nil)
            try eventually("the record") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.flags == [])
            #expect(backend.seen.first?.wasReset == false)
        }
    }

    /// Both sides have ended, and the endpoint never takes what came last: that has an end.
    @Test(arguments: WebSocketVersion.allCases)
    func whatNobodyTakesIsGivenUp(client version: WebSocketVersion) async throws {
        var options = EngineOptions()
        options.streamIdleTimeout = .milliseconds(500)
        try await with(.http2, options: options) { rig, backend in
            let client = try opened(rig, version, "/mute")
            defer { client.hangUp() }
            #expect(client.receive(WebSocketBackend.speech.utf8.count) == WebSocketBackend.speech)
            for _ in 0..<8 { client.send(String(repeating: "x", count: 16384)) }
            client.endOutput()
            try eventually("the reset") { backend.seen.first?.wasReset == true }
            #expect(backend.seen.first?.received.count == 65_535)
            try eventually("the record") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.flags == .idleTimeout)
            client.hangUp()
            try eventually("nothing is held") { rig.engine.stats.held == 0 && rig.engine.connectionCount == 0 }
        }
    }

    /// What a client of HTTP/1.1 has by then may be a part.
    @Test func theProxysEndIsNotTheTunnels() async throws {
        let backend = try WebSocketBackend(.http1)
        defer { backend.stop() }
        let rig = try await ProxyRig(nil, [backend.upstream])
        let client = try opened(rig, .http1, "/echo")
        defer { client.hangUp() }
        client.send("x")
        #expect(client.receive(1) == "x")
        await rig.engine.shutdown()
        #expect(client.rest().reset == 0)
    }

    /// Before there is a tunnel, which a backend that waits for the end would otherwise keep for good.
    @Test(arguments: WebSocketPair.all) func anEarlyEndIsPassedOn(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let client = try WebSocketClient(rig, pair.client, "/gate")
            defer { client.hangUp() }
            try eventually("the request") { backend.seen.count == 1 }
            client.endOutput()
            // Seen by the proxy before it goes on: nothing tells but what comes behind it.
            let other = try rig.connect()
            other.send("GET /nothing HTTP/1.0\r\n\r\n")
            other.hangUp()
            try eventually("the turn of the loop") { rig.engine.stats.requests >= 2 }
            backend.gate.signal()
            client.open()
            #expect(client.isOpen && client.rest().reset == nil)
            #expect(backend.seen.first?.ended == true)
        }
    }

    /// The client has ended its side, and reads what the backend said last when that is long gone.
    @Test(arguments: WebSocketPair.all) func slowReadersGetTheLastWords(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let client = try WebSocketClient(rig, pair.client, "/talk")
            defer { client.hangUp() }
            client.endOutput()
            try eventually("the backend's end") { backend.seen.first?.ended == true }
            client.open()
            let rest = client.rest()
            #expect(rest.text == WebSocketBackend.speech && rest.reset == nil)
            try eventually("the record") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.flags == [])
        }
    }

    @Test(arguments: WebSocketPair.all) func aBackendsResetIsTheClients(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let client = try opened(rig, pair.client, "/reset")
            defer { client.hangUp() }
            client.send("x")
            // RFC 8441, 5: CANCEL.
            #expect(client.rest().reset == (pair.client == .http1 ? 0 : 8))
            try eventually("the record") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.flags == .upstreamReset)
        }
    }

    @Test(arguments: WebSocketPair.all) func aClientsResetIsTheBackends(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let client = try opened(rig, pair.client, "/echo")
            client.send("x")
            #expect(client.receive(1) == "x")
            client.reset()
            try eventually("the reset") { backend.seen.first?.wasReset == true }
            try eventually("the record") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.flags == .downstreamClosed)
            #expect(rig.engine.collect { $0.stats.active }.reduce(0, +) == 0)
        }
    }

    /// Whoever does not read holds up its own tunnel, and no more than the windows say.
    @Test(arguments: WebSocketVersion.allCases) func aBackendThatDoesNotRead(backend version: WebSocketVersion)
        async throws
    {
        try await with(version) { rig, backend in
            let shared = try rig.connectHTTP2()
            defer { shared.hangUp() }
            let other = try opened(rig, .http2, "/echo", on: shared)
            let deaf = try opened(rig, .http2, "/deaf", on: shared)
            let piece = String(repeating: "x", count: 16384)
            for _ in 0..<16 { deaf.send(piece) }
            for _ in 0..<100 {
                other.send(piece)
                #expect(other.receive(piece.utf8.count) == piece)
            }
            deaf.reset()
            try eventually("the end") { rig.engine.collect { $0.stats.active }.reduce(0, +) == 1 }
            other.send("on")
            #expect(other.receive(2) == "on")
        }
    }

    @Test func aClientThatDoesNotRead() async throws {
        try await with(.http1) { rig, backend in
            let shared = try rig.connectHTTP2()
            defer { shared.hangUp() }
            shared.peer.acknowledges = false
            let slow = try opened(rig, .http2, "/talk", on: shared)
            try eventually("what its windows do not let out") { rig.engine.stats.held > 128 << 10 }
            #expect(rig.engine.stats.held < 1 << 20)
            // Another one, and the same one once its windows open.
            let other = try opened(rig, .http2, "/echo")
            other.send("x")
            #expect(other.receive(1) == "x")
            other.hangUp()
            shared.peer.acknowledges = true
            for window: UInt32 in [0, 1] {
                shared.peer.send(HTTP2Peer.windowUpdate, stream: window, shared.peer.word(1 << 20))
            }
            #expect(slow.receive(WebSocketBackend.speech.utf8.count) == WebSocketBackend.speech)
        }
    }

    /// Fields behind the bytes of a tunnel: RFC 9113, 8.5.
    @Test(arguments: WebSocketVersion.allCases) func aMistakeEndsItsTunnel(backend version: WebSocketVersion)
        async throws
    {
        try await with(version) { rig, backend in
            let shared = try rig.connectHTTP2()
            defer { shared.hangUp() }
            let client = try opened(rig, .http2, "/echo", on: shared)
            let other = try opened(rig, .http2, "/echo", on: shared)
            shared.peer.sendHeaders(1, [("x-end", "1")], end: true)
            #expect(client.rest().reset == 1)
            try eventually("the record") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.flags == .downstreamProtocolError)
            try eventually("the reset") { backend.seen.first?.wasReset == true }
            other.send("x")
            #expect(other.receive(1) == "x")
        }
    }

    @Test(arguments: WebSocketPair.mixed) func drainingLetsThemRun(pair: WebSocketPair) async throws {
        try await with(pair.backend) { rig, backend in
            let client = try opened(rig, pair.client, "/echo")
            defer { client.hangUp() }
            rig.engine.drain()
            client.send("still here")
            #expect(client.receive(10) == "still here")
            client.endOutput()
            #expect(client.rest().reset == nil)
            try eventually("the end") { rig.engine.connectionCount == 0 }
        }
    }

    /// As many as other requests: a hundred on a connection.
    @Test func tunnelsAreStreams() async throws {
        try await with(.http1) { rig, backend in
            let shared = try rig.connectHTTP2()
            defer { shared.hangUp() }
            let clients = try (0..<100).map { _ in try opened(rig, .http2, "/echo", on: shared) }
            let more = try WebSocketClient(rig, .http2, on: shared)
            #expect(more.rest().reset == 7)
            for client in clients {
                client.send("x")
                #expect(client.receive(1) == "x")
            }
            clients[7].endOutput()
            #expect(clients[7].rest().reset == nil)
            _ = try opened(rig, .http2, "/echo", on: shared)
        }
    }

    // MARK: Bad input

    @Test func theOfferIsMade() async throws {
        try await with(.http1) { rig, _ in
            let client = try rig.connect()
            client.send(HTTP2Peer.preface)
            deliver(client.descriptor, [0, 0, 0, 4, 0, 0, 0, 0, 0])
            var bytes: [UInt8] = []
            while bytes.count < 9 || bytes.count < 9 + Int(bytes[2]) {
                guard readMore(client.descriptor, &bytes) else { throw TestFailure("no SETTINGS") }
            }
            let settings = Array(bytes[9..<9 + Int(bytes[2])])
            let offers = stride(from: 0, to: settings.count, by: 6).filter { at in
                settings[at..<at + 6].elementsEqual(WebSocketBackend.offer)
            }
            #expect(offers.count == 1)
        }
    }

    static let mistakes: [([(String, String)], Int, String)] = [
        (
            [(":method", "GET"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            400,
            "bad_pseudo_field"
        ),
        (
            [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a")], 400,
            "bad_path"
        ),
        ([(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/"), (":authority", "a")], 400, "bad_scheme"),
        (
            [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/")], 400,
            "bad_pseudo_field"
        ),
        (
            [
                (":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "http"), (":path", "/"),
                (":authority", "a"),
            ],
            501, "unsupported_protocol"
        ),
        (
            [
                (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"),
                (":authority", "a"),
                ("content-length", "3"),
            ], 400, "bad_content_length"
        ),
        (
            [
                (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"),
                (":authority", "a"),
                ("upgrade", "websocket"),
            ], 400, "connection_field"
        ),
    ]
    @Test(arguments: mistakes)
    func whatIsNoRequestIsRefused(fields: [(String, String)], status: Int, fault: String) async throws {
        try await with(.http1) { rig, backend in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            client.peer.sendHeaders(1, fields, end: false)
            #expect(client.answer(1)?.status == status)
            #expect(rig.engine.stats.violations == [fault: 1])
            // The connection goes on; plain CONNECT is what it was.
            client.peer.sendHeaders(3, [(":method", "CONNECT"), (":authority", "a:1")], end: true)
            #expect(client.answer(3)?.status == 405)
            #expect(backend.seen.isEmpty)
        }
    }

    /// Without a key, or with another upgrade, HTTP/1's request goes to HTTP/2 as if it had not asked.
    @Test(arguments: ["Upgrade: tcp\r\nSec-WebSocket-Key: \(WebSocketClient.key)\r\n", "Upgrade: websocket\r\n"])
    func otherUpgradesStayRequests(fields: String) async throws {
        try await with(.http2) { rig, backend in
            let answer = try rig.get("/echo", "Connection: upgrade\r\n" + fields)
            #expect(answer.status == 200)
            #expect(backend.seen.first?.header(":method") == "GET")
        }
    }
}
