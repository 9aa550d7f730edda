/// How often a request is sent, and in which order requests that wait get their turn (spec 6.3, 6.4).
import Addressing
import HTTP2TestSupport
import Posix
import RouteIR
import Synchronization
import Testing
import TestSupport

@testable import Proxy

@Suite struct TriesTests {
    /// Answers the first request of all and then closes every connection on which one comes.
    private func closing() throws -> TestBackend {
        try TestBackend("closing") { $0.number == 1 ? .reply(200) : .raw("", closes: true) }
    }

    @Test(arguments: [UInt32(0), 1, 2]) func anIdleConnectionsEndIsATryLikeAnyOther(_ attempts: UInt32) async throws {
        let backend = try closing()
        defer { backend.stop() }
        let retrying = rule(to: [("cart", 1)]) {
            $0.retry = RetryPolicy(attempts: attempts, codes: [503], backoff: .milliseconds(1))
        }
        try await ProxyRig.with([retrying], [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            for status in [200, 503] {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(client.answer()?.status == status)
            }
            #expect(backend.requests.count == 1 + 1 + Int(attempts))
        }
    }

    @Test(arguments: [("GET", 2), ("POST", 1)])
    func withoutAPolicyOnlyWhatMayBeDoneTwiceIs(_ method: String, _ tries: Int) async throws {
        let backend = try closing()
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            for status in [200, 503] {
                client.send("\(method) / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                #expect(client.answer()?.status == status)
            }
            #expect(backend.requests.count == 1 + tries)
        }
    }

    /// A reset stream was seen, whatever its connection did before; REFUSED_STREAM after the beginning of an answer is
    /// no proof of the contrary.
    @Test func whatAnEndpointHasSeenIsNotSentAgain() async throws {
        let resetting = try HTTP2TestBackend("resetting") { $0.target == "/" ? .reply(200) : .reset(2) }
        let seen = Mutex(0)
        let listener = try TestListener.http2 { peer, frame, _ in
            seen.withLock { $0 += 1 }
            peer.sendHeaders(frame.stream, [(":status", "103"), ("link", "x")])
            peer.sendReset(frame.stream, 7)
        }
        defer {
            resetting.stop()
            listener.stop()
        }
        var early = Upstream(id: upstreamID("early"), endpoints: [Endpoint(listener.address)])
        early.wire = .h2c
        let rules = [
            rule(RouteMatch(path: .exact("/early")), to: [("early", 1)]), rule(to: [("cart", 1)]),
        ]
        try await ProxyRig.with(rules, [upstream("cart", [resetting]), early]) { rig in
            #expect(try rig.get("/").status == 200)
            #expect(try rig.get("/reset").status == 503)
            #expect(resetting.connections == 1 && resetting.requests.count == 2)
            let client = try rig.connect()
            client.send("GET /early HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.answer()?.status == 103)
            #expect(client.answer()?.status == 503)
            #expect(seen.withLock { $0 } == 1)
        }
    }

    /// What the endpoint's port says may change meanwhile; the answer is in the form of the request that it is to.
    @Test func anAnswerIsReadAsItsRequestWasSent() async throws {
        let (isSeen, mayAnswer) = (Semaphore(), Semaphore())
        let listener = try TestListener.http2 { peer, frame, _ in
            isSeen.signal()
            mayAnswer.wait()
            peer.sendHeaders(frame.stream, [(":status", "200")])
            peer.sendData(frame.stream, Array("first ".utf8), end: false)
            peer.sendData(frame.stream, Array("second".utf8), end: true)
        }
        defer { listener.stop() }
        var changing = Upstream(id: upstreamID("cart"), wire: .h2c, endpoints: [Endpoint(listener.address)])
        try await ProxyRig.with(nil, [changing]) { rig in
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            isSeen.wait()
            changing.wire = .http1
            rig.configure(nil, [changing])
            mayAnswer.signal()
            #expect(client.answer()?.text == "first second")
        }
    }

    /// More wait than a connection has places: all of those are used at once, and who came first is first.
    @Test func whoWaitsIsServedInOrderAndByTheHundred() async throws {
        let backend = try HTTP2TestBackend("one") { _ in .silence }
        defer { backend.stop() }
        let limited = upstream("cart", [backend]) { $0.maxConnections = 1 }
        try await ProxyRig.with(nil, [limited]) { rig in
            // Two connections of the client's, because each has a hundred streams as well.
            let (first, second, late) = (try rig.connectHTTP2(), try rig.connectHTTP2(), try rig.connectHTTP2())
            defer { for client in [first, second, late] { client.hangUp() } }
            // POST: nobody sends them again when their connection goes.
            let streams = (0..<100).map { first.begin("/\($0)", method: "POST") }
            try eventually("a hundred at the backend") { backend.requests.count == 100 }
            for number in 0..<90 { second.begin("/waiting/\(number)") }
            try eventually("the others in the proxy") { rig.engine.stats.active == 190 }
            for number in 0..<30 { late.begin("/late/\(number)") }
            try eventually("the last in the proxy") { rig.engine.stats.active == 220 }
            backend.hangUp()
            for stream in streams { #expect(first.answer(stream)?.status == 503) }
            try eventually("as many as fit") { backend.requests.count == 200 }
            first.begin("/overtaking")
            let order = (0..<90).map { "/waiting/\($0)" } + (0..<10).map { "/late/\($0)" }
            #expect(backend.requests[100...].map(\.target) == order)
            // A client that gives up makes room for the next in line.
            second.reset()
            try eventually("all") { backend.requests.count == 221 }
            let rest = (10..<30).map { "/late/\($0)" } + ["/overtaking"]
            #expect(backend.requests[200...].map(\.target) == rest)
        }
    }

    /// One event, the end of a connection for one request, makes room for all that wait.
    @Test func oneEventWakesAsManyAsThereArePlaces() async throws {
        let seen = Mutex<[String]>([])
        // The first connection takes one stream at a time (MAX_CONCURRENT_STREAMS).
        let listener = try TestListener.http2(settings: { peer, connection in
            connection == 1 ? [0, 3] + peer.word(1) : []
        }) { peer, frame, connection in
            let path = peer.fields(frame).first { $0.0 == ":path" }?.1 ?? ""
            seen.withLock { $0.append(path) }
            if connection == 1 { peer.sendHeaders(frame.stream, [(":status", "103"), ("link", "x")]) }
        }
        defer { listener.stop() }
        var limited = Upstream(id: upstreamID("cart"), endpoints: [Endpoint(listener.address)])
        limited.wire = .h2c
        limited.policy.maxConnections = 1
        try await ProxyRig.with(nil, [limited]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            let first = client.begin("/", method: "POST")
            // What came before this answer was read before it: the proxy knows the limit.
            #expect(client.partial(first)?.status == 103)
            for number in 0..<30 { client.begin("/\(number)") }
            try eventually("the others in the proxy") { rig.engine.stats.active == 31 }
            listener.hangUp()
            try eventually("all at the backend") { seen.withLock(\.count) == 31 }
            #expect(seen.withLock { Array($0[1...]) } == (0..<30).map { "/\($0)" })
        }
    }

    /// Without a route connect(2) fails at once, within the call: whoever waits behind gets an answer all the same.
    @Test(arguments: Upstream.Wire.allCases) func nobodyWaitsForAConnectionThatFailedAtOnce(
        _ wire: Upstream.Wire
    ) async throws {
        let held = try TestBackend("held") { _ in .silence }
        let heldOverHTTP2 = try HTTP2TestBackend("held") { _ in .silence }
        defer {
            held.stop()
            heldOverHTTP2.stop()
        }
        var limited = Upstream(
            id: upstreamID("cart"), wire: wire,
            endpoints: [Endpoint(wire == .http1 ? held.address : heldOverHTTP2.address)])
        limited.policy.maxConnections = 1
        try await ProxyRig.with(nil, [limited]) { rig in
            let first = try rig.connect()
            first.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            try eventually("at the backend") { held.requests.count + heldOverHTTP2.requests.count == 1 }
            // The broadcast address of loopback: no connection ever leads there.
            limited.endpoints = [Endpoint(SocketAddress(IPAddress(v4: 0x7fff_ffff), 80))]
            rig.configure(nil, [limited])
            let others = try (0..<3).map { _ in try rig.connect() }
            for (number, client) in others.enumerated() {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                try eventually("in the proxy") { rig.engine.stats.active == 2 + number }
            }
            first.reset()
            for client in others { #expect(client.answer()?.status == 503) }
            #expect(try rig.get("/").status == 503)
        }
    }

    @Test func overHTTP1TheyAreServedInOrderToo() async throws {
        let backend = try TestBackend("one") { $0.target == "/0" ? .silence : .reply(200) }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend]) { $0.maxConnections = 1 }]) { rig in
            let clients = try (0..<20).map { _ in try rig.connect() }
            for (number, client) in clients.enumerated() {
                client.send("GET /\(number) HTTP/1.1\r\nHost: a\r\n\r\n")
                try eventually("the request in the proxy") { rig.engine.stats.active == number + 1 }
            }
            clients[0].reset()
            for client in clients[1...] { #expect(client.answer()?.status == 200) }
            #expect(backend.requests.map(\.target) == (0..<20).map { "/\($0)" })
        }
    }
}
