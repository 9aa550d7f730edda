/// Connections to endpoints that speak HTTP/2: whom they take, and who takes over.
import Addressing
import Balancing
import HTTP2TestSupport
@testable import HTTP2Wire
import RouteIR
import Synchronization
import TestSupport
import Testing

@testable import Proxy

@Suite struct HTTP2UpstreamTests {
    /// The numbers of streams end (RFC 9113, 5.1.1); requests go on, on another connection.
    @Test func connectionsThatHaveNoNumbersLeftAreReplaced() async throws {
        let gate = LoopGate(1)
        let backend = try HTTP2TestBackend("one") { request in
            if request.target == "/slow" { gate.wait() }
            return .reply(200, body: request.target)
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            #expect(try rig.get("/first").text == "/first")
            // Three numbers are left: 2^31 - 5, - 3 and - 1.
            _ = rig.engine.collect { shard in
                shard.pools.values.first?.http2(0)?.machine.lastOwnStream = HTTP2Machine.largestStream - 6
            }
            for number in 0..<2 { #expect(try rig.get("/\(number)").text == "/\(number)") }
            #expect(backend.connections == 1)
            // The last one is under way while others come.
            let slow = try rig.connect()
            slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            try eventually("it is under way") { rig.engine.stats.active == 1 && backend.requests.count == 4 }
            for number in 0..<20 { #expect(try rig.get("/more/\(number)").text == "/more/\(number)") }
            #expect(backend.connections == 2)
            gate.signal()
            #expect(slow.answer()?.text == "/slow")
            try eventually("all are told") { rig.log.records.count == 24 }
            #expect(rig.log.records.allSatisfy { $0.status == 200 && $0.flags == [] && $0.attempts == 1 })
            try eventually("the old one is closed") {
                rig.engine.collect { $0.pools.values.first?.load.connections ?? 0 } == [1]
            }
        }
    }

    /// Servers end a connection after so many requests (RFC 9113, 6.8). What was on its way then goes on another one,
    /// however much that is: no retry of the route's, and nothing against the endpoint.
    @Test(arguments: [nil, RetryPolicy(attempts: 1, classes: .neverSent)])
    func connectionsThatEndInOrderCostNoRequest(_ retry: RetryPolicy?) async throws {
        let served = Mutex<[Int: Int]>([:])
        let backend = try HTTP2TestBackend("one") { request in
            let number = served.withLock { served in
                served[request.connection, default: 0] += 1
                return served[request.connection] ?? 0
            }
            return number == 20 ? .goAway : .reply(200, body: "\(request.body.count)")
        }
        defer { backend.stop() }
        let rules = [rule(to: [("cart", 1)]) { $0.retry = retry }]
        try await ProxyRig.with(rules, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("/").status == 200)
            for _ in 0..<10 {
                let streams = (0..<60).map { _ in client.begin("/", method: "POST", end: false) }
                for stream in streams { client.peer.sendData(stream, [1], end: true) }
                for stream in streams { #expect(client.answer(stream)?.text == "1") }
            }
            try eventually("all are told") { rig.log.records.count == 601 }
            #expect(rig.log.records.allSatisfy { $0.flags == [] && $0.attempts == 1 })
            #expect(rig.engine.stats.retries == 0 && rig.engine.stats.ejections == 0 && backend.connections > 5)
        }
    }

    /// An endpoint that ends every connection at its first request has failed.
    @Test func whoAlwaysLeavesHasFailed() async throws {
        let backend = try HTTP2TestBackend("one") { _ in .goAway }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let answer = try rig.get("/")
            #expect(answer.status == 503 && backend.connections == 3)
        }
    }

    /// An endpoint that allows no streams at first, and some later (RFC 9113, 6.5.2: zero is nothing special).
    @Test(arguments: [false, true]) func noStreamsAtFirstAndSomeLater(refuses: Bool) async throws {
        let allowed = Mutex(UInt32(0))
        let listener = try TestListener.http2(settings: { peer, _ in [0, 3] + peer.word(allowed.withLock { $0 }) }) {
            peer, frame, _ in
            let now = allowed.withLock { allowed in
                defer { allowed = 10 }
                return allowed
            }
            // Sent before the limit was known: served, or refused.
            if refuses, now == 0 {
                peer.sendReset(frame.stream, 7)
            } else {
                peer.sendHeaders(frame.stream, [(":status", "200")], end: true)
            }
            peer.send(HTTP2Peer.settings, [0, 3] + peer.word(10))
        }
        defer { listener.stop() }
        let upstream = Upstream(id: upstreamID("cart"), wire: .h2c, endpoints: [Endpoint(listener.address)])
        try await ProxyRig.with(nil, [upstream]) { rig in
            for _ in 0..<5 {
                let client = try rig.connect()
                client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
                #expect(client.answer()?.status == 200)
            }
            #expect(listener.connections <= 3, "\(listener.connections) connections")
        }
    }

    /// While the endpoint allows none, who may not have a connection more waits, and is served once it allows some.
    @Test func whoWaitsIsServedWhenStreamsAreAllowedAgain() async throws {
        // The descriptor of the first request's connection, and how many requests came.
        let seen = Mutex((first: Int32(-1), count: 0))
        let listener = try TestListener.http2 { peer, frame, _ in
            let isFirst = seen.withLock { seen in
                seen.count += 1
                if seen.count == 1 { seen.first = peer.descriptor }
                return seen.count == 1
            }
            // The first one is answered when the test says so.
            if isFirst {
                peer.send(HTTP2Peer.settings, [0, 3] + peer.word(0))
            } else {
                peer.sendHeaders(frame.stream, [(":status", "200")], end: true)
            }
        }
        defer { listener.stop() }
        var upstream = Upstream(id: upstreamID("cart"), wire: .h2c, endpoints: [Endpoint(listener.address)])
        upstream.policy.maxConnections = 1
        try await ProxyRig.with(nil, [upstream]) { rig in
            let first = try rig.connect()
            first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
            try eventually("the limit is known") {
                rig.engine.collect { $0.pools.values.first?.http2(0) == nil } == [true]
                    && seen.withLock(\.count) == 1
            }
            let others = try (0..<3).map { _ in try rig.connect() }
            for client in others { client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
            try eventually("they wait") { rig.engine.stats.active == 4 }
            #expect(seen.withLock(\.count) == 1)
            let peer = HTTP2Peer(seen.withLock(\.first))
            peer.send(HTTP2Peer.settings, [0, 3] + peer.word(10))
            for client in others { #expect(client.answer()?.status == 200) }
            peer.sendHeaders(1, [(":status", "200")], end: true)
            #expect(first.answer()?.status == 200 && listener.connections == 1)
        }
    }
}
