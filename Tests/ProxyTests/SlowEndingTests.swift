/// The ends of connections: a slow reader gets everything, one that is gone leaves nothing, and who waits behind a
/// connection that dies loses nothing.
import Addressing
import Balancing
import Glibc
import Posix
import RouteIR
import Synchronization
import Testing
import TestSupport

@testable import Proxy

@Suite struct SlowEndingTests {
    /// The last piece that the proxy reads of it is a long one.
    private static let size = 900_000
    private static let request = "GET / HTTP/1.1\r\nHost: a\r\n"

    private func large() throws -> TestBackend {
        let chunk = String(Self.size, radix: 16) + "\r\n" + String(repeating: "x", count: Self.size) + "\r\n"
        return try TestBackend("one") { _ in
            .raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)0\r\n\r\n")
        }
    }
    /// For the proxy the answer is over, and a part of it is still in the process.
    @Test(arguments: [
        (request + "Connection: close\r\n\r\n", false), (request + "\r\n", true), ("GET / HTTP/1.0\r\n\r\n", false),
    ]) func whoReadsSlowlyGetsAll(_ request: String, _ endsOutput: Bool) async throws {
        let backend = try large()
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try TestClient(rig.address, isTight: true)
            client.send(request)
            if endsOutput { client.endOutput() }
            var bytes: [UInt8] = []
            while rig.log.records.isEmpty, readMore(client.descriptor, &bytes) {}
            while readMore(client.descriptor, &bytes) {}
            #expect(bytes.count { $0 == UInt8(ascii: "x") } == Self.size)
            try eventually("everything is given back") { rig.engine.stats.held == 0 }
        }
    }

    /// It has had its answer, as far as the proxy is concerned, and says that it will ask nothing more.
    @Test func whoEndsItsSideAfterTheAnswerGetsAll() async throws {
        let backend = try large()
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try TestClient(rig.address, isTight: true)
            client.send(Self.request + "\r\n")
            var bytes: [UInt8] = []
            while rig.log.records.isEmpty, readMore(client.descriptor, &bytes) {}
            client.endOutput()
            while readMore(client.descriptor, &bytes) {}
            #expect(bytes.count { $0 == UInt8(ascii: "x") } == Self.size)
        }
    }

    /// The reset is in the kernel before the first answer goes out.
    @Test(arguments: ["G", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
    func whoIsGoneLeavesNothing(_ behind: String) async throws {
        let backend = try TestBackend("one") { _ in .silence }
        defer { backend.stop() }
        let routed = rule(RouteMatch(path: .exact("/")), to: [("cart", 1)])
        try await ProxyRig.with([routed], [upstream("cart", [backend])]) { rig in
            let clients = try (0..<20).map { _ in try rig.connect() }
            try eventually("all are there") { rig.engine.connectionCount == clients.count }
            rig.paused {
                for client in clients {
                    client.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" + behind)
                    client.reset()
                }
            }
            try eventually("nothing is left of them") {
                rig.engine.stats.active == 0 && rig.engine.stats.held == 0
            }
        }
    }

    /// The answer before comes with a reset behind it: the connection dies under the next request, whose body is needed
    /// for another one.
    @Test func aBodyOutlivesTheConnectionThatDiedUnderIt() async throws {
        let listener = try TestListener(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        let (mayAnswer, hasAnswered) = (Semaphore(), Semaphore())
        let bodies = Mutex<[String]>([])
        try listener.start { descriptor, number in
            var buffer: [UInt8] = []
            while let (_, body) = readMessage(descriptor, &buffer) {
                bodies.withLock { $0.append(String(decoding: body, as: UTF8.self)) }
                if number == 1 { mayAnswer.wait() }
                deliver(descriptor, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                guard number == 1 else { continue }
                // Without a peer any more: a reset.
                var nowhere = sockaddr()
                connect(descriptor, &nowhere, socklen_t(MemoryLayout<sockaddr>.size))
                hasAnswered.signal()
                return
            }
        }
        defer { listener.stop() }
        var limited = Upstream(id: upstreamID("cart"), endpoints: [Endpoint(listener.address)])
        limited.policy.maxConnections = 1
        let retrying = rule(to: [("cart", 1)]) { $0.retry = RetryPolicy(attempts: 1, backoff: .milliseconds(1)) }
        try await ProxyRig.with([retrying], [limited]) { rig in
            let clients = try ["first", "second"].map { body in
                let client = try rig.connect()
                client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n" + body)
                try eventually("it is in the proxy") {
                    body == "first" ? bodies.withLock(\.count) == 1 : rig.engine.stats.active == 2
                }
                return client
            }
            rig.paused {
                mayAnswer.signal()
                hasAnswered.wait()
            }
            for client in clients { #expect(client.answer()?.status == 200) }
            #expect(bodies.withLock { $0 } == ["first", "second"])
        }
    }

    @Test func whoTakesSomethingIsWaitedFor() {
        var ending = SlowEnding(since: .start, unsent: .max)
        func isOver(after seconds: Int, unsent: Int) -> Bool {
            ending.isOver(.start + .seconds(seconds), unsent: unsent, patience: .seconds(60))
        }
        for piece in 0..<100 { #expect(!isOver(after: 50 * piece, unsent: 100 - piece)) }
        #expect(!isOver(after: 5010, unsent: 1) && isOver(after: 5011, unsent: 1) && !ending.isSent)
        #expect(!isOver(after: 5012, unsent: 0) && ending.isSent)
        #expect(!isOver(after: 5014, unsent: 0) && isOver(after: 5015, unsent: 0))
    }
}
