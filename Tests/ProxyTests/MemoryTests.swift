/// Peers that make the proxy keep something and never take it: what it keeps has an end, and others notice nothing.
import Addressing
import Glibc
import HTTP2TestSupport
import RouteIR
import Synchronization
import TestSupport
import Testing

@testable import Proxy

@Suite(.serialized) struct MemoryTests {
    private let other = IPAddress(v4: 0x7f00_0002)

    private func limited(_ rig: ProxyRig, _ limit: ProxyLimit) -> UInt64 { rig.engine.stats.limited[limit] ?? 0 }

    /// What it is once it has not changed for a while, or is what is waited for.
    private func settled(at wanted: Int? = nil, _ value: () -> Int) throws -> Int {
        var (last, times) = (-1, 0)
        try eventually("it stops changing", within: .seconds(120)) {
            let now = value()
            times = now == last ? times + 1 : 0
            last = now
            return now == wanted || times == 400
        }
        return last
    }

    /// A backend of raw sockets.
    private func listener(_ serve: @escaping @Sendable (Int32) -> Void) throws -> (TestListener, Upstream) {
        let listener = try TestListener(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        try listener.start { descriptor, _ in serve(descriptor) }
        return (listener, Upstream(id: upstreamID("evil"), endpoints: [Endpoint(listener.address)]))
    }
    private let rules = [
        rule(RouteMatch(path: .prefix("/evil")), to: [("evil", 1)]), rule(to: [("cart", 1)]),
    ]

    // MARK: Backends

    @Test(arguments: [1, 4000]) func interimAnswersHaveAnEnd(length: Int) async throws {
        let (evil, upstream) = try listener { descriptor in
            let head = "HTTP/1.1 103 Early Hints\r\nlink: <" + String(repeating: "a", count: length) + ">\r\n\r\n"
            let heads = Array(String(repeating: head, count: 64).utf8)
            // Until the proxy has had enough.
            while true {
                let count = heads.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { return }
            }
        }
        let backend = try TestBackend("one")
        defer {
            evil.stop()
            backend.stop()
        }
        try await ProxyRig.with(rules, [upstream, ProxyTests.upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("GET /evil HTTP/1.1\r\nHost: a\r\n\r\n")
            try eventually("the end of it") { limited(rig, .interimAnswers) == 1 }
            var statuses: [Int] = []
            while let answer = client.answer(), statuses.count < 100 {
                statuses.append(answer.status)
                if answer.status >= 200 { break }
            }
            #expect(statuses.last == 502 && statuses.count <= 17)
            #expect(try rig.get("/").status == 200)
        }
    }

    @Test func fewInterimAnswersPass() async throws {
        let hint = "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"
        let backend = try TestBackend("one") { _ in
            .raw(String(repeating: hint, count: 16) + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            for _ in 0..<16 { #expect(client.answer()?.status == 103) }
            #expect(client.answer()?.status == 200)
        }
    }

    @Test func aMirrorThatDoesNotReadIsDropped() async throws {
        let (evil, upstream) = try listener { descriptor in
            // Until it is closed.
            var wanted = pollfd(fd: descriptor, events: 0, revents: 0)
            poll(&wanted, 1, 60_000)
        }
        let backend = try TestBackend("one") { .reply(200, body: "\($0.body.count)") }
        defer {
            evil.stop()
            backend.stop()
        }
        let mirrored = rule(to: [("cart", 1)], filters: [.mirror(Mirror(.upstream(upstreamID("evil"))))])
        try await ProxyRig.with([mirrored], [upstream, ProxyTests.upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            let size = 64 << 20
            let highest = Mutex(0)
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
            let piece = [UInt8](repeating: 0x78, count: 1 << 20)
            for _ in 0..<(size >> 20) {
                deliver(client.descriptor, piece)
                let held = rig.engine.stats.held
                highest.withLock { $0 = max($0, held) }
            }
            // The request itself is not touched.
            #expect(client.answer()?.text == "\(size)")
            #expect(limited(rig, .mirrorBuffer) == 1)
            #expect(highest.withLock { $0 } < 4 << 20, "\(highest.withLock { $0 }) bytes were held")
            client.hangUp()
            try eventually("everything is given back") { rig.engine.stats.held == 0 }
        }
    }

    @Test func copiesUnderWayAreCounted() async throws {
        let (evil, upstream) = try listener { descriptor in
            var byte: UInt8 = 0
            while read(descriptor, &byte, 1) > 0 {}
        }
        let backend = try TestBackend("one")
        defer {
            evil.stop()
            backend.stop()
        }
        let mirrored = rule(to: [("cart", 1)], filters: [.mirror(Mirror(.upstream(upstreamID("evil"))))])
        try await ProxyRig.with([mirrored], [upstream, ProxyTests.upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            for _ in 0..<(MemoryLimits.mirrorsOfUpstream + 20) {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(client.answer()?.status == 200)
            }
            #expect(limited(rig, .mirrorCount) == 20)
        }
    }

    /// Requests that were given up leave heads and resets behind, for a connection that takes nothing.
    @Test func anEndpointThatDoesNotReadLosesItsConnection() async throws {
        let (evil, _) = try listener { descriptor in
            let peer = HTTP2Peer(descriptor)
            guard peer.readPreface() else { return }
            peer.send(HTTP2Peer.settings)
            var wanted = pollfd(fd: descriptor, events: 0, revents: 0)
            poll(&wanted, 1, 60_000)
        }
        defer { evil.stop() }
        let upstream = Upstream(id: upstreamID("cart"), wire: .h2c, endpoints: [Endpoint(evil.address)])
        try await ProxyRig.with(nil, [upstream]) { rig in
            var generator = SeededGenerator()
            for _ in 0..<600 where evil.connections < 2 {
                // What compression cannot make short.
                let noise = (0..<40_000).map { _ in "~^{}|".randomElement(using: &generator).map(String.init) ?? "" }
                let client = try rig.connect()
                client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Noise: \(noise.joined())\r\n\r\n")
                try eventually("it is sent") { rig.engine.stats.active == 1 || evil.connections > 1 }
                client.reset()
                try eventually("it is given up") { rig.engine.stats.active == 0 }
            }
            #expect(evil.connections >= 2)
        }
    }

    // MARK: Tenants

    /// A path that keeps every pattern busy is answered 500; the loop has time for others (counted in steps, see
    /// PatternSetTests).
    @Test func patternsHoldUpNobody() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        let patterns = try (0..<80).map { RouteMatch(path: .regex(try Pattern("/evil(.*[xy]){60}\($0)"))) }
        var evil = rule(to: [("cart", 1)])
        evil.matches = patterns
        try await ProxyRig.with([evil, rule(to: [("cart", 1)])], [upstream("cart", [backend])]) { rig in
            var generator = SeededGenerator()
            let path = (0..<8_000).map { _ in "wxyz".randomElement(using: &generator).map(String.init) ?? "" }.joined()
            let answer = try rig.get("/evil" + path)
            #expect(answer.status == 500 && answer.text.contains("shop/cart:80"))
            #expect(limited(rig, .patternSteps) == 1)
            #expect(try rig.get("/").status == 200)
        }
    }

    // MARK: Clients

    @Test func whoTakesNoAnswersGetsNoMore() async throws {
        let backend = try TestBackend("one") { _ in .reply(200, body: String(repeating: "x", count: 32 << 10)) }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            let count = 1000
            client.send(String(repeating: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", count: count))
            // As much as the kernel takes, and not the rest.
            try eventually("the first answers") { backend.requests.count > 0 }
            let last = try settled { backend.requests.count }
            #expect(last < count, "\(last) answers were fetched for nobody")
            #expect(rig.engine.stats.held < 1 << 20)
            #expect(try rig.get("/").status == 200)
            // Nothing is lost.
            for _ in 0..<count { #expect(client.answer()?.body.count == 32 << 10) }
        }
    }

    @Test func streamsThatAreNeverReadHoldLittle() async throws {
        let size = 4 << 20
        let backend = try TestBackend("one") { request in
            .reply(200, body: request.target == "/" ? "small" : String(repeating: "x", count: size))
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            client.peer.send(HTTP2Peer.settings, [0, 4, 0, 0, 0, 0])
            client.peer.acknowledges = false
            for _ in 0..<100 { client.begin("/evil") }
            try eventually("all have begun") { backend.requests.count == 100 }
            try eventually("much is held") { rig.engine.stats.held > 1 << 20 }
            let last = try settled { rig.engine.stats.held }
            // A MiB, and a little for each stream.
            #expect(last < 8 << 20, "\(last) bytes are held")
            #expect(try rig.get("/").text == "small")
            client.hangUp()
            try eventually("everything is given back") { rig.engine.stats.held == 0 }
        }
    }

    /// The answer is complete, and its request on no account any more.
    @Test func whatTheClientDoesNotTakeOfAnAnswerHasAnEnd() async throws {
        let backend = try TestBackend("one") { _ in .reply(200, body: String(repeating: "x", count: 70_000)) }
        defer { backend.stop() }
        var options = EngineOptions()
        options.streamIdleTimeout = .seconds(1)
        try await ProxyRig.with(nil, [upstream("cart", [backend])], options: options) { rig in
            let client = try rig.connectHTTP2()
            client.peer.acknowledges = false
            let stream = client.begin("/")
            #expect(client.partial(stream, bytes: 65_535)?.body.count == 65_535)
            #expect(client.answer(stream)?.reset == 8)
            client.hangUp()
        }
    }

    /// Its windows let everything out, its socket takes nothing more: what the kernel does not take stays with the
    /// backends.
    @Test func openWindowsOfAnUnreadSocketHoldLittle() async throws {
        let size = 16 << 20
        let backend = try TestBackend("one") { request in
            .reply(200, body: request.target == "/" ? "small" : String(repeating: "x", count: size))
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            client.peer.send(HTTP2Peer.settings, [0, 4, 0x7f, 0xff, 0xff, 0xff])
            client.peer.send(HTTP2Peer.windowUpdate, client.peer.word(0x7fff_0000))
            for _ in 0..<8 { client.begin("/evil") }
            try eventually("all have begun") { backend.requests.count == 8 }
            let last = try settled { rig.engine.stats.held }
            #expect(last < 2 << 20, "\(last) bytes are held")
            #expect(rig.engine.stats.active == 8)
            #expect(try rig.get("/").text == "small")
            client.reset()
            try eventually("everything is given back") { rig.engine.stats.held == 0 }
        }
    }

    /// Heads are under no window: only what is not read at all shows.
    @Test func headsForNobodyHaveAnEnd() async throws {
        let backend = try TestBackend("one") { request in
            request.target == "/"
                ? .reply(200, body: "small")
                : .reply(200, headers: "x: \(String(repeating: "y", count: 8000))\r\n")
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            let (rounds, each) = (60, 50)
            var answered = 0
            // Each round once the last one is answered, as far as the proxy knows: within what a client may have open.
            for round in 1...rounds {
                for _ in 0..<each { client.begin("/evil") }
                answered = try settled(at: round * each) { backend.requests.count }
                try eventually("the end of what was begun") { rig.engine.stats.active == 0 }
                if answered < round * each { break }
            }
            #expect(answered < rounds * each, "\(answered) answers were fetched for nobody")
            #expect(rig.engine.stats.held < 4 << 20)
            #expect(try rig.get("/").text == "small")
            client.reset()
        }
    }

    /// Half a head: what came of it is kept, and counts.
    @Test func aHeadThatNeverEndsIsOnAnAccount() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            let noise = [UInt8](repeating: 0, count: 16_000)
            client.peer.send(HTTP2Peer.headers, stream: 1, noise)
            for _ in 0..<4 { client.peer.send(HTTP2Peer.continuation, stream: 1, noise) }
            try eventually("it counts") { rig.engine.stats.held > MemoryLimits.http2Connection + 16_000 }
            #expect(rig.engine.stats.held < 256 << 10)
            client.hangUp()
            try eventually("everything is given back") { rig.engine.stats.held == 0 }
        }
    }

    /// Bodies in frames of a byte each, for an endpoint that takes none of it: what waits takes little more memory than
    /// it counts.
    @Test func manyShortFramesTakeNoMoreThanTheyCount() async throws {
        let backend = try HTTP2TestBackend("one", acknowledges: false) { _ in .silence }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            let streams = (0..<2).map { _ in client.begin("/", method: "POST", end: false) }
            try eventually("they have begun") { rig.engine.stats.active == 2 }
            let before = residentBytes()
            for stream in streams { sendShortFrames(client.peer, stream) }
            #expect(client.isAnswered(ping: [0, 0, 0, 0, 0, 0, 0, 0]))
            let (held, taken) = (rig.engine.stats.held, residentBytes() - before)
            #expect(held > 200_000 && held < 4 << 20, "\(held)")
            #expect(taken < 16 << 20, "\(taken >> 20) MiB for \(held >> 10) KiB")
            client.reset()
            try eventually("everything is given back") { rig.engine.stats.held == 0 }
        }
    }
    /// 150,000, within the first window.
    private func sendShortFrames(_ peer: HTTP2Peer, _ stream: UInt32) {
        let frame = peer.frame(HTTP2Peer.data, stream: stream, [1])
        let frames = (0..<1000).flatMap { _ in frame }
        for _ in 0..<150 { deliver(peer.descriptor, frames) }
    }

    /// The same of answers, for a client that takes none of them.
    @Test func shortFramesOfAnAnswerTakeNoMoreEither() async throws {
        let listener = try TestListener.http2 { peer, frame, _ in
            peer.sendHeaders(frame.stream, [(":status", "200")])
            self.sendShortFrames(peer, frame.stream)
        }
        defer { listener.stop() }
        let upstream = Upstream(id: upstreamID("cart"), wire: .h2c, endpoints: [Endpoint(listener.address)])
        try await ProxyRig.with(nil, [upstream]) { rig in
            let before = residentBytes()
            let client = try rig.connectHTTP2()
            client.peer.send(HTTP2Peer.settings, [0, 4, 0, 0, 0, 0])
            for _ in 0..<2 { client.begin("/") }
            try eventually("all of it waits") { rig.engine.stats.held > 300_000 }
            let (held, taken) = (rig.engine.stats.held, residentBytes() - before)
            #expect(taken < 16 << 20, "\(taken >> 20) MiB for \(held >> 10) KiB")
            client.reset()
            try eventually("everything is given back") { rig.engine.stats.held == 0 }
        }
    }

    // MARK: The bounds together

    private func small(_ change: (inout EngineOptions) -> Void = { _ in }) -> EngineOptions {
        var options = EngineOptions()
        options.memoryLimit = 16 << 20
        return options
    }

    @Test func oneAddressGetsHalfAtMost() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])], options: small()) { rig in
            let clients = try (0..<600).map { _ in try rig.connect(from: other) }
            try eventually("some are refused") { limited(rig, .sourceMemory) == 88 }
            #expect(rig.engine.connectionCount == 512)
            #expect(try rig.get("/").status == 200)
            for client in clients { client.hangUp() }
            try eventually("they count no more") { rig.engine.stats.held == 0 }
            let again = try rig.connect(from: other)
            again.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(again.answer()?.status == 200)
        }
    }

    /// The largest holder of the largest address goes first.
    @Test func whoHoldsMostGoesFirst() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])], options: small()) { rig in
            let victim = try rig.connect()
            victim.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(victim.answer()?.status == 200)
            let idle = try (0..<100).map { _ in try rig.connect(from: other) }
            // Each begins a head of some KB and never ends it.
            var crowd: [TestClient] = []
            for address in 3..<6 {
                for _ in 0..<220 {
                    crowd.append(try rig.connect(from: IPAddress(v4: 0x7f00_0000 + UInt32(address))))
                    crowd.last?.send("GET / HTTP/1.1\r\nx: " + String(repeating: "y", count: 20_000))
                }
            }
            try eventually("some had to go") { limited(rig, .processMemory) > 0 }
            try eventually("it is within its bound") { rig.engine.stats.held <= 16 << 20 }
            #expect(crowd.contains { !$0.isOpen })
            #expect(idle.allSatisfy { $0.isOpen })
            victim.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(victim.answer()?.status == 200)
        }
    }
}
