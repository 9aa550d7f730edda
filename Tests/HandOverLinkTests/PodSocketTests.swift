// Sockets of pods change hands between agent and proxy, over a real Unix socket.
import Addressing
import Glibc
import HandOverLink
import Posix
import Synchronization
import TestSupport
import Testing

@Suite struct PodSocketTests {
    private let path = "/tmp/heddle-pods-test-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    private let pods = (1...3).map { IPAddress(v4: 0x0af4_0100 + $0) }

    /// What a proxy was given: the port tells which listener it is.
    private final class Given: Sendable {
        private struct State {
            var listeners: [IPAddress: Int32] = [:]
            var closed: [IPAddress] = []
            var left: [IPAddress] = []
        }
        private let state = Mutex(State())
        func take(_ event: PodSocketClient.Event) {
            state.withLock { state in
                switch event {
                case .listen(let descriptor, let pod):
                    if let former = state.listeners.updateValue(descriptor, forKey: pod) { close(former) }
                case .close(let pod):
                    if let former = state.listeners.removeValue(forKey: pod) { close(former) }
                    state.closed.append(pod)
                case .unlisten(let pod):
                    if let former = state.listeners.removeValue(forKey: pod) { close(former) }
                    state.left.append(pod)
                }
            }
        }
        var closed: [IPAddress] { state.withLock(\.closed) }
        var left: [IPAddress] { state.withLock(\.left) }
        func ports() throws -> [IPAddress: UInt16] { try state.withLock { try $0.listeners.mapValues(port) } }
        deinit { state.withLock { for descriptor in $0.listeners.values { close(descriptor) } } }
    }

    private func start(_ makeSocket: @escaping @Sendable (IPAddress) -> Int32? = { _ in nil }) throws
        -> PodSocketServer
    {
        let server = PodSocketServer(makeSocket: makeSocket)
        try server.start(on: UnixSocket.bind(path, .packets, mode: 0o600), admitting: [getuid()])
        return server
    }
    private func client(_ given: Given) -> PodSocketClient {
        PodSocketClient(socket: path, log: { _, _ in }, tell: { given.take($0) })
    }

    @Test func aProxyIsGivenWhatThereIsAndWhatComes() throws {
        let server = try start()
        defer { unlink(path) }
        let first = try listener()
        let firstPort = try port(first)
        server.add(pods[0], listener: first)
        let (one, two) = (Given(), Given())
        let clients = [client(one), client(two)]
        for client in clients { try client.start() }
        for given in [one, two] { try eventually("the first pod") { try given.ports() == [pods[0]: firstPort] } }

        let second = try listener()
        let secondPort = try port(second)
        server.add(pods[1], listener: second)
        server.remove(pods[0])
        for given in [one, two] {
            try eventually("a change") { try given.ports() == [pods[1]: secondPort] && given.closed == [pods[0]] }
        }
        let third = try listener()
        let thirdPort = try port(third)
        server.add(pods[1], listener: third)
        try eventually("another listener of the same pod") { try one.ports() == [pods[1]: thirdPort] }
        for client in clients { client.stop() }
        server.stop()
    }

    /// A proxy serves while the agent is away; what is gone then it hears from the next agent.
    @Test func theNextAgentTellsEverythingAnew() throws {
        let server = try start()
        for pod in pods { server.add(pod, listener: try listener()) }
        let given = Given()
        let client = client(given)
        try client.start()
        try eventually("all pods") { try given.ports().count == 3 }
        let before = try given.ports()
        server.stop()
        unlink(path)
        let next = PodSocketServer(makeSocket: { _ in nil })
        let kept = try listener()
        let keptPort = try port(kept)
        next.add(pods[0], listener: kept)
        #expect(try given.ports() == before)
        try next.start(on: UnixSocket.bind(path, .packets, mode: 0o600), admitting: [getuid()])
        defer { unlink(path) }
        try eventually("what the next agent says") { try given.ports()[pods[0]] == keptPort }
        // It has just begun, and may not know them yet.
        #expect(given.closed.isEmpty)
        next.complete(others: [pods[0], pods[1]])
        try eventually("what is gone") { given.closed == [pods[2]] }
        #expect(given.left == [pods[1]], "connections of a pod that has only left go on")
        client.stop()
        next.stop()
    }

    /// A pod leaves the mesh before the proxy has found the agent that has just begun.
    @Test func aPodThatHasLeftBeforeTheProxyListensKeepsItsConnections() throws {
        let server = try start()
        defer { unlink(path) }
        for pod in pods { server.add(pod, listener: try listener()) }
        let given = Given()
        let client = client(given)
        try client.start()
        try eventually("all pods") { try given.ports().count == 3 }
        server.stop()
        unlink(path)
        let next = PodSocketServer(makeSocket: { _ in nil })
        next.add(pods[0], listener: try listener())
        next.remove(pods[0], isGone: false)
        next.complete(others: [pods[0]])
        try next.start(on: UnixSocket.bind(path, .packets, mode: 0o600), admitting: [getuid()])
        try eventually("what is gone") { Set(given.closed) == [pods[1], pods[2]] }
        #expect(given.left == [pods[0]])
        client.stop()
        next.stop()
    }

    @Test func socketsAreKeptInStock() throws {
        let made = Mutex<[IPAddress]>([])
        let server = try start { pod in
            made.withLock { $0.append(pod) }
            return socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        }
        defer { unlink(path) }
        let given = Given()
        let client = client(given)
        try client.start()
        server.add(pods[0], listener: try listener())
        try eventually("a stock") { made.withLock(\.count) == PodSocketClient.stock }
        #expect(client.takeSocket(of: pods[1]) == nil)
        for taken in 1...10 {
            var socket: Int32?
            try eventually("socket \(taken)") {
                socket = client.takeSocket(of: pods[0])
                return socket != nil
            }
            #expect(fcntl(socket ?? -1, F_GETFD) == FD_CLOEXEC)
            close(socket ?? -1)
        }
        try eventually("what was taken is made good") { made.withLock(\.count) >= PodSocketClient.stock + 10 }
        #expect(made.withLock { Set($0) } == [pods[0]])
        server.remove(pods[0])
        try eventually("nothing of a pod that is gone") { client.takeSocket(of: pods[0]) == nil }
        client.stop()
        server.stop()
    }

    /// So that the next time there are enough.
    @Test func whoeverFindsNoneMakesTheStockLarger() throws {
        let isMaking = Atomic(true)
        let made = Mutex(0)
        let server = try start { _ in
            guard isMaking.load(ordering: .relaxed) else { return nil }
            made.withLock { $0 += 1 }
            return socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        }
        defer { unlink(path) }
        let client = client(Given())
        try client.start()
        server.add(pods[0], listener: try listener())
        try eventually("a stock") { made.withLock { $0 } == PodSocketClient.stock }
        isMaking.store(false, ordering: .relaxed)
        try eventually("none is left") {
            guard let socket = client.takeSocket(of: pods[0]) else { return true }
            close(socket)
            return false
        }
        isMaking.store(true, ordering: .relaxed)
        try eventually("a larger stock") {
            if let socket = client.takeSocket(of: pods[0]) { close(socket) }
            return made.withLock { $0 } >= PodSocketClient.stock * 3
        }
        client.stop()
        server.stop()
    }

    @Test func nobodyElseIsGivenAnything() throws {
        let server = PodSocketServer(makeSocket: { _ in nil })
        try server.start(on: UnixSocket.bind(path, .packets, mode: 0o600), admitting: [getuid() + 1])
        defer { unlink(path) }
        server.add(pods[0], listener: try listener())
        let stranger = try UnixSocket.connect(path, .packets)
        defer { close(stranger) }
        var byte: UInt8 = 0
        #expect(read(stranger, &byte, 1) <= 0)
        #expect(server.proxyCount == 0)
        server.stop()
    }

    @Test func oneThatSpeaksNonsenseHarmsNobody() throws {
        let server = try start { _ in socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) }
        defer { unlink(path) }
        server.add(pods[0], listener: try listener())
        let other = try UnixSocket.connect(path, .packets)
        for bytes: [UInt8] in [[9], Array(repeating: 7, count: 17), Array(repeating: 1, count: 60)] {
            #expect(write(other, bytes, bytes.count) == bytes.count)
        }
        let tooLong = [UInt8](repeating: 4, count: 4000)
        _ = write(other, tooLong, tooLong.count)
        let given = Given()
        let client = client(given)
        try client.start()
        try eventually("the proxy beside it") { try given.ports().count == 1 }
        close(other)
        client.stop()
        server.stop()
    }

    @Test func itsPathIsBesideTheHandOvers() {
        #expect(PodSockets.path(beside: "/run/heddle/proxy.sock") == "/run/heddle/proxy-pods.sock")
        #expect(PodSockets.path(beside: "agent.sock") == "agent-pods.sock")
        #expect(PodSockets.path(beside: "/tmp/x") == "/tmp/x-pods.sock")
    }
}

private func listener() throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0, listen(descriptor, 1) == 0 else { throw TestFailure.errno("listen") }
    return descriptor
}

private func port(_ descriptor: Int32) throws -> UInt16 {
    var address = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    guard result == 0 else { throw TestFailure.errno("getsockname") }
    return UInt16(bigEndian: address.sin_port)
}
