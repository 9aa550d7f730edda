// A proxy that comes for its configuration, over a real Unix socket.
import Addressing
import AdminServer
import Glibc
import HandOver
import HandOverLink
import Posix
import RouteIR
import Synchronization
import TestSupport
import Testing

/// The other end: blocking, one message at a time.
private final class FakeProxy {
    private let descriptor: Int32
    private var received: [UInt8] = []

    init(path: String) throws {
        descriptor = try UnixSocket.connect(path)
        var patience = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    }
    deinit { close(descriptor) }

    func send(_ message: HandOverMessage) { send(HandOverFrame.encode(message)) }
    func send(_ bytes: [UInt8]) { _ = write(descriptor, bytes, bytes.count) }

    /// The next message that is no question about health; nil: the other end closed.
    func next() throws -> HandOverMessage? {
        while true {
            let bytes = received
            let frame = try HandOverFrame.decode(bytes.span)
            if let (message, length) = frame {
                received.removeFirst(length)
                guard case .query(let id, "health") = message else { return message }
                send(.answer(id: id, Array("{}".utf8)))
                continue
            }
            var chunk = [UInt8](repeating: 0, count: 65536)
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { return nil }
            received += chunk[..<count]
        }
    }
}

@Suite struct HandOverServerTests {
    private final class Heard: Sendable {
        private let state = Mutex<[[ConnectedProxy]]>([])
        var all: [[ConnectedProxy]] { state.withLock { $0 } }
        func add(_ proxies: [ConnectedProxy]) { state.withLock { $0.append(proxies) } }
    }

    private func snapshot(_ generation: UInt64, _ names: String...) -> ProxySnapshot {
        var snapshot = ProxySnapshot(generation: generation, node: ProxyNode(name: "n"))
        for name in names {
            let id = RoutedServiceID(namespace: "a", name: name, port: 80)
            snapshot.services[id] = RoutedService(id: id, portName: "", clientSpeaks: .http1)
        }
        return snapshot
    }

    private func withServer(
        limit: Int = HandOverFrame.maximumLength, certify: HandOverServer.Certify? = nil,
        _ body: (HandOverServer, String, Heard) async throws -> Void
    ) async throws {
        let path = "/tmp/heddle-hand-over-\(getpid())-\(UInt32.random(in: 0...UInt32.max)).sock"
        let loop = ServerLoop()
        let heard = Heard()
        let server = HandOverServer(on: loop, limit: limit, certify: certify) { heard.add($0) }
        try await server.start(on: UnixSocket.bind(path, mode: 0o600), admitting: [getuid()])
        do { try await body(server, path, heard) } catch {
            server.stop()
            throw error
        }
        server.stop()
        await loop.shutdown()
        unlink(path)
    }

    @Test func everythingThenDifferencesThenEverythingAfterARefusal() async throws {
        try await withServer { server, path, heard in
            server.publish(snapshot(7, "web"))
            let proxy = try FakeProxy(path: path)
            proxy.send(.hello(version: "1", pid: 42, generation: 3))
            guard case .update(let first)? = try proxy.next() else { throw Unexpected() }
            #expect(first.base == nil && first.generation == 7 && first.services.count == 1)
            proxy.send(.ack(7))
            server.publish(snapshot(8, "web", "api"))
            guard case .update(let second)? = try proxy.next() else { throw Unexpected() }
            #expect(second.base == 7 && second.services.map(\.id.name) == ["api"])
            // While one is under way the next has to wait, and what came in between is skipped.
            server.publish(snapshot(9, "web"))
            server.publish(snapshot(10, "db"))
            // What is published is queued, and the refusal must not overtake it: a question queues behind both.
            let queued = Task {
                await withCheckedContinuation { done in server.ask("stats") { done.resume(returning: $0) } }
            }
            guard case .query(let asked, "stats")? = try proxy.next() else { throw Unexpected() }
            proxy.send(.answer(id: asked, [3]))
            #expect(await queued.value == [3])
            proxy.send(.nack(8, reason: "no"))
            guard case .update(let third)? = try proxy.next() else { throw Unexpected() }
            #expect(third.base == nil && third.generation == 10 && third.services.map(\.id.name) == ["db"])
            proxy.send(.ack(10))
            let answer = Task {
                await withCheckedContinuation { done in server.ask("config") { done.resume(returning: $0) } }
            }
            guard case .query(let id, "config")? = try proxy.next() else { throw Unexpected() }
            proxy.send(.answer(id: id, [1, 2]))
            #expect(await answer.value == [1, 2])
            // What the server tells comes on its own thread.
            try await eventually("the last generation is told") { () async throws -> Bool in
                heard.all.last?.map(\.generation) == [10]
            }
            // Who it is the kernel says, whatever it claims.
            let told = try #require(heard.all.last?.first)
            #expect(told.pid == UInt32(getpid()) && told.version == "1" && told.rights?.user == geteuid())
            #expect(heard.all.contains { $0.first?.refusal == "no" && $0.first?.generation == 7 })
        }
    }

    @Test func aProxyIsToldTheRootsAndHasItsRequestsSigned() async throws {
        let question = CertificateQuestion(id: 5, identity: "web", request: "csr")
        let answer = CertificateAnswer(id: 5, chain: ["leaf"], roots: ["root"])
        try await withServer(certify: { asked, reply in if asked == question { reply(answer) } }) { server, path, _ in
            server.publish(roots: ["root"])
            let proxy = try FakeProxy(path: path)
            #expect(try proxy.next() == .certified(CertificateAnswer(id: 0, roots: ["root"])))
            proxy.send(.certificate(question))
            #expect(try proxy.next() == .certified(answer))
            server.publish(roots: ["root", "other"])
            #expect(try proxy.next() == .certified(CertificateAnswer(id: 0, roots: ["root", "other"])))
            // As many as nobody answers, and one more.
            for id in UInt64(100)..<133 {
                proxy.send(.certificate(CertificateQuestion(id: id, identity: "", request: "")))
            }
            guard case .certified(let refusal)? = try proxy.next() else { throw Unexpected() }
            #expect(refusal.id == 132 && refusal.problem.contains("too many"))
        }
        try await withServer { _, path, _ in
            let proxy = try FakeProxy(path: path)
            proxy.send(.certificate(question))
            guard case .certified(let refusal)? = try proxy.next() else { throw Unexpected() }
            #expect(refusal.id == 5 && refusal.problem.contains("--ca"))
        }
    }

    @Test func whoeverTalksNonsenseIsDisconnected() async throws {
        try await withServer { server, path, _ in
            server.publish(snapshot(1, "web"))
            let stranger = try FakeProxy(path: path)
            stranger.send(Array("GET / HTTP/1.1\r\nHost: nobody\r\n\r\n".utf8))
            #expect(try stranger.next() == nil)
            let proxy = try FakeProxy(path: path)
            proxy.send(.hello(version: "1", pid: 1, generation: 0))
            #expect(try proxy.next() != nil)
        }
    }

    /// A proxy of a release that knew another format: it is known of and left alone, and nobody waits for its answers.
    @Test func anotherFormatIsToldAndKept() async throws {
        try await withServer { server, path, heard in
            server.publish(snapshot(1, "web"))
            let old = try FakeProxy(path: path)
            old.send([72, 68, 76, 55, 1, 0, 0, 0, 5, 0, 0, 0, 188, 200, 225, 25, 149, 203, 98, 160, 1, 1, 49, 7, 9])
            try await eventually("it is told") { () async throws -> Bool in
                heard.all.last?.first?.isForeign == true
            }
            let told = try #require(heard.all.last?.first)
            #expect(
                !told.isUp && told.pid == UInt32(getpid())
                    && told.program == FileIdentity(path: "/proc/self/exe")?.description)
            #expect(told.refusal?.contains("format 1") == true)
            let unanswered: [UInt8]? = await withCheckedContinuation { done in
                server.ask("config") { done.resume(returning: $0) }
            }
            #expect(unanswered == nil)
            // Its successor, meanwhile.
            let proxy = try FakeProxy(path: path)
            proxy.send(.hello(version: "1", pid: 1, generation: 0))
            #expect(try proxy.next() != nil)
            try await eventually("both are there") { () async throws -> Bool in heard.all.last?.count == 2 }
        }
    }

    /// A configuration that is too large is said to be, once; the connection and the last one that fitted stay.
    @Test func aConfigurationThatIsTooLargeIsNotSent() async throws {
        try await withServer(limit: 2000) { server, path, heard in
            server.publish(snapshot(7, "web"))
            let proxy = try FakeProxy(path: path)
            proxy.send(.hello(version: "1", pid: 1, generation: 0))
            #expect(try proxy.next() != nil)
            proxy.send(.ack(7))
            var large = snapshot(8, "web")
            let id = RoutedServiceID(namespace: "a", name: String(repeating: "x", count: 3000), port: 80)
            large.services[id] = RoutedService(id: id, portName: "", clientSpeaks: .http1)
            server.publish(large)
            try await eventually("it is told") { () async throws -> Bool in heard.all.last?.first?.refusal != nil }
            let told = try #require(heard.all.last?.first)
            #expect(told.generation == 7 && told.isUp)
            let reason = told.refusal ?? ""
            #expect(reason.contains("more than the 2000") && reason.contains("stays in force"), "\(reason)")
            // What fits again comes as the difference to what it has.
            server.publish(snapshot(9, "web", "api"))
            guard case .update(let next)? = try proxy.next() else { throw Unexpected() }
            #expect(next.base == 7 && next.generation == 9 && next.services.map(\.id.name) == ["api"])
            proxy.send(.ack(9))
            try await eventually("it has it") { () async throws -> Bool in
                heard.all.last?.first?.generation == 9 && heard.all.last?.first?.refusal == nil
            }
        }
    }

    private struct Unexpected: Error {}
}
