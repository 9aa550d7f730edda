/// The agent's end of what PodMessage draws: hands the listeners of the node's pods to every proxy that connects, and
/// sockets of their network namespaces to those that ask. It keeps a listener of its own each: a proxy's end refuses
/// nobody, what comes meanwhile waits for the next.
package import Addressing
import Glibc
import HandOver
package import Posix
import Synchronization

package final class PodSocketServer: Sendable {
    /// One proxy serves, another may take its place; more are somebody's mistake.
    private static let mostSessions = 16

    private struct State {
        var listeners: [IPAddress: Int32] = [:]
        var sessions: [Int32: PodSession] = [:]
        var sockets: [BoundUnixSocket] = []
        var connectsInside = false
        /// A pod that is not among the listeners is no pod of the mesh (any more).
        var isComplete = false
        /// Of pods that live on outside the mesh.
        var others: Set<IPAddress> = []
        var isStopped = false

        func tellAll(_ session: PodSession) {
            for pod in others where listeners[pod] == nil { session.tell(.hasLeft(pod)) }
            session.tell(.isComplete)
        }
    }
    private let state = Mutex(State())
    private let makeSocket: @Sendable (IPAddress) -> Int32?

    /// `makeSocket`: a fresh one in the network namespace of that pod, to be given away; nil: there is none to be had.
    package init(makeSocket: @escaping @Sendable (IPAddress) -> Int32?) { self.makeSocket = makeSocket }

    /// What a proxy that connects from now on is told of it.
    package func connectInside() { state.withLock { $0.connectsInside = true } }

    /// From now on a proxy may forget what it is not told of. Before, an agent that has just begun knows of nothing yet
    /// and what its predecessor handed over goes on. `others`: the addresses of pods outside the mesh. One that left it
    /// while agent or proxy did not listen has connections of before.
    package func complete(others: Set<IPAddress>) {
        state.withLock { state in
            state.others = others
            guard !state.isComplete else { return }
            state.isComplete = true
            for session in state.sessions.values { state.tellAll(session) }
        }
    }

    /// Listens on a thread of its own. Whoever is not one of `users` is disconnected, whatever the socket's mode.
    package func start(on socket: BoundUnixSocket, admitting users: Set<UInt32>) throws(PosixError) {
        guard listen(socket.descriptor, 16) == 0 else { throw .errno("listen on \(socket.path)") }
        state.withLock { $0.sockets.append(socket) }
        try startThread { self.accept(on: socket.descriptor, users) }
    }

    package func stop() {
        state.withLock { state in
            state.isStopped = true
            for socket in state.sockets { shutdown(socket.descriptor, Int32(SHUT_RDWR)) }
            for session in state.sessions.values { session.end() }
        }
    }

    /// Takes the listening socket over and hands it to every proxy, in place of the one it had for this pod.
    package func add(_ pod: IPAddress, listener: Int32) {
        let former = state.withLock { state in
            for session in state.sessions.values { session.tell(.pod(pod)) }
            return state.listeners.updateValue(listener, forKey: pod)
        }
        if let former { close(former) }
    }

    /// A pod that is gone takes its connections with it, and nothing may keep its network namespace; of one that lives
    /// on outside the mesh they go on.
    package func remove(_ pod: IPAddress, isGone: Bool = true) {
        let former = state.withLock { state in
            for session in state.sessions.values { session.tell(isGone ? .isGone(pod) : .hasLeft(pod)) }
            if !isGone { state.others.insert(pod) }
            return state.listeners.removeValue(forKey: pod)
        }
        if let former { close(former) }
    }

    package var proxyCount: Int { state.withLock(\.sessions.count) }

    // MARK: Threads

    private func accept(on listener: Int32, _ users: Set<UInt32>) {
        while true {
            let descriptor = Glibc.accept(listener, nil, nil)
            if descriptor < 0 {
                if state.withLock(\.isStopped) { return }
                // What has no descriptors left has them again some day.
                if errno != EINTR, errno != ECONNABORTED { usleep(100_000) }
                continue
            }
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            let isServed = UnixSocket.peer(of: descriptor).map { users.contains($0.user) } ?? false
            do throws(PosixError) {
                if isServed { try startThread { self.serve(descriptor) } } else { close(descriptor) }
            } catch { close(descriptor) }
        }
    }

    private func serve(_ descriptor: Int32) {
        defer { close(descriptor) }
        UnixSocket.limitSending(descriptor, seconds: 5)
        let session = PodSession(descriptor)
        let isWelcome = state.withLock { state in
            guard !state.isStopped, state.sessions.count < Self.mostSessions else { return false }
            state.sessions[descriptor] = session
            if state.connectsInside { session.tell(.connectsInside) }
            for pod in state.listeners.keys { session.tell(.pod(pod)) }
            if state.isComplete { state.tellAll(session) }
            return true
        }
        guard isWelcome, let writer = try? JoinableThread(nil, { session.write { self.packet($0) } }) else {
            state.withLock { $0.sessions[descriptor] = isWelcome ? nil : $0.sessions[descriptor] }
            return
        }
        while let packet = PodPacket.receive(from: descriptor) {
            if packet.descriptor >= 0 { close(packet.descriptor) }
            guard case .wantsSocket(let pod) = packet.message else { continue }
            let answer = PodPacket(message: .socket(pod), descriptor: makeSocket(pod) ?? -1)
            let isSent = answer.send(to: descriptor)
            if answer.descriptor >= 0 { close(answer.descriptor) }
            guard isSent else { break }
        }
        state.withLock { $0.sessions[descriptor] = nil }
        session.end()
        writer.join()
    }

    /// As it is now: nil for a listener that is gone meanwhile. The descriptor is a copy.
    private func packet(_ message: PodMessage) -> PodPacket? {
        guard case .pod(let pod) = message else { return PodPacket(message: message) }
        let copy = state.withLock { $0.listeners[pod].map { fcntl($0, F_DUPFD_CLOEXEC, 3) } } ?? -1
        return copy < 0 ? nil : PodPacket(message: message, descriptor: copy)
    }
}

/// What one proxy is still to be told, at most three things of each pod: it is told how things are, not how they were.
private final class PodSession: Sendable {
    private struct State {
        var queue: [PodMessage] = []
        var isEnded = false
    }
    private let descriptor: Int32
    private let state = Mutex(State())
    private let news = Semaphore()

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    func tell(_ message: PodMessage) {
        state.withLock { state in
            if let earlier = state.queue.firstIndex(of: message) { state.queue.remove(at: earlier) }
            state.queue.append(message)
        }
        news.signal()
    }

    func end() {
        state.withLock { state in
            state.isEnded = true
            shutdown(descriptor, Int32(SHUT_RDWR))
        }
        news.signal()
    }

    /// Until the end.
    func write(_ packet: (PodMessage) -> PodPacket?) {
        while !state.withLock(\.isEnded) {
            news.wait()
            while let message = state.withLock({ $0.queue.isEmpty ? nil : $0.queue.removeFirst() }) {
                guard let packet = packet(message) else { continue }
                let isSent = packet.send(to: descriptor)
                if packet.descriptor >= 0 { close(packet.descriptor) }
                // One that does not listen comes again, and is told everything.
                guard isSent else { return end() }
            }
        }
    }
}
