/// What clients of HTTP/2 do wrong, or too much of: windows that stay shut, floods, heads that HTTP/1 could not carry.
import Addressing
import HTTP2TestSupport
import HTTP2Wire
import RouteIR
import Testing
import TestSupport

@testable import Proxy

@Suite struct HTTP2LimitTests {
    @Test func aSlowReaderHoldsUpItsBackendAndNobodyElse() async throws {
        let size = 8 << 20
        let backend = try TestBackend("one") { request in
            request.target == "/big"
                ? .reply(200, body: String(repeating: "x", count: size)) : .reply(200, body: "small")
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let slow = try rig.connectHTTP2()
            defer { slow.hangUp() }
            slow.peer.acknowledges = false
            let big = slow.begin("/big")
            // What fits into the windows, which are 65,535 bytes until the client says otherwise.
            #expect(slow.partial(big, bytes: 65_535)?.body.count == 65_535)
            // Its connection's window is used up; another connection is as fast as ever.
            let other = try rig.connectHTTP2()
            defer { other.hangUp() }
            #expect(try other.ask("/").text == "small")
            // What the proxy holds is bounded: the socket buffers of loopback and its own watermark.
            try eventually("the record of the other") { rig.log.records.count == 1 }
            let held = rig.engine.collect { $0.stats.active }.reduce(0, +)
            #expect(held == 1)
            // The window opens: everything comes.
            slow.peer.acknowledges = true
            slow.peer.send(HTTP2Peer.windowUpdate, slow.peer.word(UInt32(size)))
            slow.peer.send(HTTP2Peer.windowUpdate, stream: big, slow.peer.word(UInt32(size)))
            #expect(slow.answer(big)?.body.count == size)
        }
    }

    @Test func aBackendThatDoesNotReadHoldsUpItsClient() async throws {
        let backend = try HTTP2TestBackend("one", acknowledges: false) { .reply(200, body: "\($0.body.count)") }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            // The proxy's window holds from the moment the client has acknowledged it, which it does while it reads.
            #expect(try client.ask("/first").status == 200)
            let stream = client.begin("/", method: "POST", end: false)
            client.peer.sendData(stream, [UInt8](repeating: 1, count: 16384))
            try eventually("the body") { backend.received == 16384 }
            // Three more make 65,536, one byte too many for the backend's window.
            for _ in 0..<3 { client.peer.sendData(stream, [UInt8](repeating: 1, count: 16384)) }
            try eventually("what fits") { backend.received == 65_535 }
            // Another request of the client goes elsewhere or waits, but the first one's bytes are not lost.
            client.peer.sendReset(stream, 8)
            try eventually("the reset") { backend.resets == [8] }
            try eventually("the record") { rig.log.records.last?.flags == .downstreamClosed }
        }
    }

    @Test func bigBodiesPassBothWays() async throws {
        let backend = try HTTP2TestBackend("one") { request in
            // Within the window the proxy offers: this backend sends without regard to it.
            .reply(200, body: "\(request.body.count) " + String(repeating: "x", count: 200_000))
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            let body = String(repeating: "0123456789abcdef", count: 300_000)
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n" + body)
            let answer = try #require(client.answer())
            #expect(answer.text.hasPrefix("4800000 ") && answer.body.count == 200_008)
        }
    }

    /// Who uses what was offered must not go over the bound of a connection.
    private static let windows: [Int: [UInt32]] = [
        512: [262_144, 1_048_576, 4_194_304], 64: [131_072, 524_288, 2_097_152], 16: [65_535, 131_072, 524_288],
    ]
    @Test(arguments: [512, 64, 16]) func windowsKnowTheMemoryLimit(megabytes: Int) async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        var options = EngineOptions()
        options.memoryLimit = megabytes << 20
        try await ProxyRig.with(nil, [upstream("cart", [backend])], options: options) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("/").status == 200)
            let limits = rig.engine.collect { shard in
                shard.connections.values.compactMap { ($0 as? HTTP2Connection)?.machine.limits }
            }
            let found = limits.joined().map { [$0.streamWindow, $0.connectionWindow, $0.largestWindow] }
            #expect(found == [Self.windows[megabytes]])
        }
    }

    // MARK: Floods

    /// Sends what `flood` makes until the connection is ended, and expects to be told to calm down.
    private func isCalmed(_ flood: (HTTP2TestClient, Int) -> [UInt8]) async throws {
        let backend = try TestBackend("one") { _ in .silence }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            var bytes: [UInt8] = []
            for number in 0..<3000 { bytes += flood(client, number) }
            deliver(client.peer.descriptor, bytes)
            client.readToEnd()
            #expect(client.goAway == 11, "\(client.goAway.map { "\($0)" } ?? "no GOAWAY")")
            try eventually("the end of its requests") { rig.engine.stats.active == 0 }
            try eventually("the end") { rig.engine.connectionCount == 0 }
            // The proxy is well.
            let other = try rig.connectHTTP2()
            other.peer.send(HTTP2Peer.ping, [1, 2, 3, 4, 5, 6, 7, 8])
            other.hangUp()
        }
    }

    @Test func rapidResetIsCalmed() async throws {
        try await isCalmed { client, number in
            let stream = UInt32(2 * number + 1)
            let peer = client.peer
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
            return peer.frame(HTTP2Peer.headers, flags: 5, stream: stream, peer.block(fields))
                + peer.frame(HTTP2Peer.reset, stream: stream, peer.word(8))
        }
    }
    @Test func pingFloodsAreCalmed() async throws {
        try await isCalmed { client, _ in client.peer.frame(HTTP2Peer.ping, [0, 0, 0, 0, 0, 0, 0, 0]) }
    }
    @Test func settingsFloodsAreCalmed() async throws {
        try await isCalmed { client, _ in client.peer.frame(HTTP2Peer.settings) }
    }
    @Test func emptyDataFloodsAreCalmed() async throws {
        try await isCalmed { client, number in
            let peer = client.peer
            let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
            return number == 0
                ? peer.frame(HTTP2Peer.headers, flags: 4, stream: 1, peer.block(fields))
                : peer.frame(HTTP2Peer.data, stream: 1)
        }
    }
    @Test func endlessHeadersAreCalmed() async throws {
        try await isCalmed { client, number in
            let peer = client.peer
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
            return number == 0
                ? peer.frame(HTTP2Peer.headers, stream: 1, peer.block(fields))
                : peer.frame(HTTP2Peer.continuation, stream: 1, peer.block([("x-\(number)", "1")]))
        }
    }

    // MARK: Malformed requests

    @Test func whatHTTP1CouldNotCarryIsRefused() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        let malformed: [(String, [(String, String)])] = [
            ("/", [("x", "a\r\nx-smuggled: 1")]), ("/", [("x", "a\nb")]), ("/", [("x", "a\u{0}b")]),
            ("/", [("x y", "1")]), ("/", [("x:y", "1")]), ("/", [("X-Upper", "1")]), ("/", [("", "1")]),
            ("/", [("connection", "close")]), ("/", [("transfer-encoding", "chunked")]), ("/", [("upgrade", "h2c")]),
            ("/a b", []), ("/a HTTP/1.1\r\nx-smuggled: 1\r\n", []), ("", []), ("nowhere", []),
            ("/", [("host", "other")]), ("/", [("host", "cart"), ("host", "cart")]),
            ("/", [("content-length", "5")]), ("/", [("content-length", "x")]),
            ("/", [("te", "gzip"), (":path", "/")]),
        ]
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            for (path, headers) in malformed {
                let client = try rig.connectHTTP2()
                let stream = client.begin(path, headers)
                let answer = client.answer(stream)
                let isRefused = answer == nil || answer?.reset != nil || answer?.status == 400
                #expect(isRefused, "\(path) \(headers): \(answer?.headers ?? [])")
                client.hangUp()
            }
            #expect(backend.requests.isEmpty, "\(backend.requests.map(\.head))")
            // A body longer or shorter than was said.
            for (length, body) in [("3", "1234"), ("5", "1234")] {
                let client = try rig.connectHTTP2()
                let answer = try client.ask("/", method: "POST", [("content-length", length)], body: body)
                #expect(answer.status == 400 || answer.reset != nil)
                client.hangUp()
            }
            try eventually("no request is left") { rig.engine.stats.active == 0 }
        }
    }

    @Test func anUpstreamThatSpeaksGarbageIsReported() async throws {
        let backend = try TestBackend("one") { _ in .silence }
        let garbage = try HTTP2TestBackend("garbage") { _ in .reply(200, [("x", "a\r\nb: c")], body: "x") }
        defer {
            backend.stop()
            garbage.stop()
        }
        // A backend of HTTP/1 where HTTP/2 is expected, and one whose fields HTTP/1 could not carry.
        var wrong = upstream("one", [backend])
        wrong.wire = .h2c
        let rules = [
            rule(RouteMatch(path: .exact("/one")), to: [("one", 1)]),
            rule(RouteMatch(path: .exact("/garbage")), to: [("garbage", 1)]),
        ]
        let raw = try TestBackend("raw") { _ in .raw("HTTP/1.1 400 Bad Request\r\n\r\n", closes: true) }
        defer { raw.stop() }
        wrong.endpoints = [Endpoint(raw.address)]
        try await ProxyRig.with(rules, [wrong, upstream("garbage", [garbage])]) { rig in
            for (path, status) in [("/one", 503), ("/garbage", 502)] {
                let answer = try rig.get(path)
                #expect(answer.status == status, "\(path)")
            }
        }
    }
}
