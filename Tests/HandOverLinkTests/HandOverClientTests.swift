/// The hand-over against the agent's own server, and the configuration on disk.
import AdminServer
import Addressing
import Glibc
import HandOver
import HandOverLink
import Posix
import Proxy
import RouteIR
import Synchronization
import Testing
import TestSupport

@Suite struct HandOverClientTests {
    private let path = "/tmp/heddle-proxy-test-\(getpid())-\(UInt32.random(in: 0 ... .max))"

    private func snapshot(_ generation: UInt64, services: Int = 1) -> ProxySnapshot {
        var snapshot = ProxySnapshot(generation: generation, node: ProxyNode(name: "node-1"))
        for number in 0..<services {
            let id = RoutedServiceID(namespace: "shop", name: "cart-\(number)", port: 80)
            snapshot.services[id] = RoutedService(id: id, portName: "http", clientSpeaks: .http1)
        }
        return snapshot
    }

    @Test func updatesComeIntoForceAndToDisk() async throws {
        let loop = ServerLoop()
        let reported = Reported()
        let server = HandOverServer(on: loop) { reported.set($0) }
        defer {
            unlink(path)
            unlink(path + ".config")
        }
        try await server.start(on: UnixSocket.bind(path, mode: 0o600), admitting: [getuid()])
        server.publish(snapshot(5))
        let engine = ProxyEngine(options: EngineOptions(), snapshot: ProxySnapshot(node: ProxyNode(name: "")))
        let file = LastConfiguration(path: path + ".config")
        let client = HandOverClient(
            socket: path, version: "test", snapshot: engine.snapshot, file: file,
            hooks: .init(
                adopt: { engine.adopt($0) }, answer: { engine.answer($0) }, log: { _, _ in }))
        try client.start()
        try eventually("the first configuration") { engine.snapshot.generation == 5 }
        server.publish(snapshot(6, services: 3))
        try eventually("a change") { engine.snapshot == snapshot(6, services: 3) }
        try eventually("the file") { try file.read() == snapshot(6, services: 3) }
        try eventually("the acknowledgement") { reported.proxies.first?.generation == 6 }
        let answer: [UInt8]? = await withCheckedContinuation { continuation in
            server.ask("config") { continuation.resume(returning: $0) }
        }
        #expect(String(decoding: answer ?? [], as: UTF8.self).hasPrefix(#"{"generation":6,"node":"node-1""#))
        client.stop()
        server.stop()
        await engine.shutdown()
        await loop.shutdown()
    }

    @Test func certificatesAreAskedForFromAnyThread() async throws {
        let loop = ServerLoop()
        let server = HandOverServer(
            on: loop,
            certify: { question, reply in reply(CertificateAnswer(id: question.id, chain: [question.request])) }
        ) { _ in }
        defer { unlink(path) }
        try await server.start(on: UnixSocket.bind(path, mode: 0o600), admitting: [getuid()])
        server.publish(roots: ["root"])
        let answers = Mutex<[CertificateAnswer]>([])
        let ask = Mutex<(@Sendable (CertificateQuestion) -> Bool)?>(nil)
        var hooks = HandOverClient.Hooks(adopt: { _ in }, answer: { _ in [] }, log: { _, _ in })
        hooks.certified = { answer in answers.withLock { $0.append(answer) } }
        hooks.connected = { way in ask.withLock { $0 = way } }
        let client = HandOverClient(
            socket: path, version: "test", snapshot: ProxySnapshot(node: ProxyNode(name: "")), file: nil, hooks: hooks)
        try client.start()
        try eventually("a connection") { ask.withLock { $0 != nil } }
        let way = try #require(ask.withLock { $0 })
        for id in UInt64(1)...20 {
            try startThread {
                _ = way(CertificateQuestion(id: id, identity: "", request: String(repeating: "x", count: 5000)))
            }
        }
        try eventually("all answers") { answers.withLock { Set($0.map(\.id)) } == Set(0...20) }
        #expect(answers.withLock { $0.first { $0.id == 0 }?.roots } == ["root"])
        client.stop()
        try eventually("it is told that the agent is gone") { ask.withLock { $0 == nil } }
        #expect(!way(CertificateQuestion(id: 21, identity: "", request: "")))
        server.stop()
        await loop.shutdown()
    }

    /// The first connection of the first configuration is claimed already.
    @Test func theTokenComesBeforeTheConfiguration() async throws {
        let loop = ServerLoop()
        let server = HandOverServer(on: loop) { _ in }
        defer { unlink(path) }
        try await server.start(on: UnixSocket.bind(path, mode: 0o600), admitting: [getuid()])
        let token = try #require(OwnSocketToken(Array(0..<16)))
        server.publish(snapshot(5))
        server.publish(ownSockets: token)
        let heard = Heard()
        var hooks = HandOverClient.Hooks(
            adopt: { snapshot in heard.add("\(snapshot.generation)") }, answer: { _ in [] },
            log: { _, _ in })
        hooks.claimSockets = { found in
            heard.add(found == token ? "token" : found == nil ? "none" : "another")
        }
        let client = HandOverClient(
            socket: path, version: "test", snapshot: ProxySnapshot(node: ProxyNode(name: "")), file: nil, hooks: hooks)
        try client.start()
        try eventually("both") { heard.words == ["token", "5"] }
        server.publish(ownSockets: token)
        server.publish(ownSockets: nil)
        try eventually("no more") { heard.words == ["token", "5", "token", "none"] }
        client.stop()
        server.stop()
        await loop.shutdown()
    }

    private final class Heard: Sendable {
        private let state = Mutex<[String]>([])
        var words: [String] { state.withLock { $0 } }
        func add(_ word: String) { state.withLock { $0.append(word) } }
    }

    /// An update that cannot be read is refused on the same connection: to come again would only bring it again.
    @Test func whatCannotBeReadIsRefusedOnceAndForAll() async throws {
        let socket = try UnixSocket.bind(path, mode: 0o600)
        defer {
            close(socket.descriptor)
            socket.removeFile()
        }
        listen(socket.descriptor, 4)
        let engine = ProxyEngine(options: EngineOptions(), snapshot: ProxySnapshot(node: ProxyNode(name: "")))
        let client = HandOverClient(
            socket: path, version: "test", snapshot: engine.snapshot, file: nil,
            hooks: .init(adopt: { engine.adopt($0) }, answer: { engine.answer($0) }, log: { _, _ in }))
        try client.start()
        let agent = accept(socket.descriptor, nil, nil)
        defer { close(agent) }
        var received: [UInt8] = []
        func next() throws -> HandOverMessage? {
            while true {
                if let (message, length) = try HandOverFrame.decode(received.span) {
                    received.removeFirst(length)
                    return message
                }
                var chunk = [UInt8](repeating: 0, count: 4096)
                let count = read(agent, &chunk, chunk.count)
                guard count > 0 else { return nil }
                received += chunk[..<count]
            }
        }
        guard case .hello = try next() else { throw TestFailure("no hello") }
        // A service whose protocol is number 99, a message of a later release, and one that can be read.
        let frames =
            HandOverFrame.sealed([2, 4, 4, 3, 3, 1, 99]) + HandOverFrame.encode(.unknown(77))
            + HandOverFrame.encode(.update(snapshot(5).update(since: nil)))
        _ = frames.withUnsafeBytes { write(agent, $0.baseAddress, $0.count) }
        guard case .nack(0, let reason) = try next() else { throw TestFailure("not refused") }
        #expect(reason.contains("99 is no protocol"))
        #expect(try next() == .ack(5))
        #expect(engine.snapshot == snapshot(5))
        client.stop()
        await engine.shutdown()
    }

    /// Its answers tell the agent that it is well, and the agent refuses routed services without it.
    @Test func aDiskThatHangsHoldsUpNoAnswer() async throws {
        let loop = ServerLoop()
        let reported = Reported()
        let server = HandOverServer(on: loop) { reported.set($0) }
        let engine = ProxyEngine(options: EngineOptions(), snapshot: ProxySnapshot(node: ProxyNode(name: "")))
        let file = LastConfiguration(path: path + ".config")
        // Whoever opens it to write waits for a reader.
        #expect(mkfifo(file.path + ".new", 0o600) == 0)
        defer { for name in [path, file.path, file.path + ".new"] { unlink(name) } }
        try await server.start(on: UnixSocket.bind(path, mode: 0o600), admitting: [getuid()])
        let client = HandOverClient(
            socket: path, version: "test", snapshot: engine.snapshot, file: file,
            hooks: .init(adopt: { engine.adopt($0) }, answer: { engine.answer($0) }, log: { _, _ in }))
        try client.start()
        for generation: UInt64 in [5, 6, 7] {
            server.publish(snapshot(generation))
            try eventually("the acknowledgement") { reported.proxies.first?.generation == generation }
        }
        let answer: [UInt8]? = await withCheckedContinuation { continuation in
            server.ask("config") { continuation.resume(returning: $0) }
        }
        #expect(answer != nil)
        // The disk works again: the newest is written, not each.
        let reader = open(file.path + ".new", O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        unlink(file.path + ".new")
        try eventually("the file") { try file.read() == snapshot(7) }
        client.stop()
        server.stop()
        await engine.shutdown()
        await loop.shutdown()
    }

    @Test func aDamagedFileIsRefused() throws {
        let file = LastConfiguration(path: path)
        defer { unlink(path) }
        #expect(try file.read() == nil)
        try file.write(snapshot(7))
        #expect(try file.read() == snapshot(7))
        let descriptor = open(path, O_WRONLY)
        lseek(descriptor, -1, Int32(SEEK_END))
        var byte: UInt8 = 0xff
        write(descriptor, &byte, 1)
        close(descriptor)
        #expect(throws: LastConfiguration.Failure.self) { try file.read() }
        truncate(path, 30)
        #expect(throws: LastConfiguration.Failure.self) { try file.read() }
    }
}

private final class Reported: Sendable {
    private let state = Mutex<[ConnectedProxy]>([])
    var proxies: [ConnectedProxy] { state.withLock { $0 } }
    func set(_ proxies: [ConnectedProxy]) { state.withLock { $0 = proxies } }
}
