/// The proxy's end of the hand-over: connects to the agent, takes updates into force and answers questions. On a thread
/// of its own, because reading a large configuration must not hold up traffic.
import Glibc
package import HandOver
package import Posix
package import RouteIR
import Synchronization

package final class HandOverClient: Sendable {
    package struct Hooks: Sendable {
        /// Puts a configuration into force; returns when it is.
        package var adopt: @Sendable (ProxySnapshot) -> Void
        /// JSON for a question of the agent.
        package var answer: @Sendable (String) -> [UInt8]
        package var log: @Sendable (_ level: String, _ message: String) -> Void
        /// The token for its sockets, or that there is none any more.
        package var claimSockets: @Sendable (OwnSocketToken?) -> Void = { _ in }
        /// An agent is there, and this is how it is asked for certificates: from any thread, false if it does not
        /// listen any more. nil: it is gone.
        package var connected: @Sendable ((@Sendable (CertificateQuestion) -> Bool)?) -> Void = { _ in }
        package var certified: @Sendable (CertificateAnswer) -> Void = { _ in }

        package init(
            adopt: @escaping @Sendable (ProxySnapshot) -> Void, answer: @escaping @Sendable (String) -> [UInt8],
            log: @escaping @Sendable (_ level: String, _ message: String) -> Void
        ) {
            self.adopt = adopt
            self.answer = answer
            self.log = log
        }
    }

    private let path: String
    private let version: String
    private let file: LastConfiguration?
    private let hooks: Hooks
    private struct State {
        var snapshot: ProxySnapshot
        var descriptor: Int32 = -1
        /// What a newer agent said that we do not know.
        var ignored: Set<String> = []
        var isStopped = false
        /// To be written to disk next.
        var unwritten: ProxySnapshot?
        var isWriting = false

        mutating func takeUnwritten() -> ProxySnapshot? {
            defer { unwritten = nil }
            isWriting = unwritten != nil
            return unwritten
        }
    }
    private let state: Mutex<State>
    /// Where words to the agent go, one at a time; -1: there is none.
    private let output = Mutex<Int32>(-1)

    package init(
        socket path: String, version: String, snapshot: ProxySnapshot, file: LastConfiguration?, hooks: Hooks
    ) {
        self.path = path
        self.version = version
        self.file = file
        self.hooks = hooks
        state = Mutex(State(snapshot: snapshot))
    }

    package func start() throws(PosixError) {
        try startThread { self.run() }
    }

    package func stop() {
        state.withLock { state in
            state.isStopped = true
            if state.descriptor >= 0 { shutdown(state.descriptor, Int32(SHUT_RDWR)) }
        }
    }

    // MARK: The thread

    private func run() {
        var wasAway = false
        var pause: UInt32 = 500_000
        while !state.withLock(\.isStopped) {
            do throws(PosixError) {
                guard let descriptor = try connectToAgent() else { return }
                if !wasAway { hooks.log("info", "connected to the agent at \(path)") }
                output.withLock { $0 = descriptor }
                let wasUseful = serve(descriptor)
                output.withLock { $0 = -1 }
                hooks.connected(nil)
                let isStopped = state.withLock { state in
                    state.descriptor = -1
                    return state.isStopped
                }
                close(descriptor)
                // An agent that says nothing we understand is asked again, less and less often.
                pause = wasUseful ? 500_000 : min(pause * 2, 30_000_000)
                if !isStopped, wasUseful || !wasAway {
                    hooks.log("warning", "the agent is away; going on with the configuration in force")
                }
                wasAway = !wasUseful
            } catch {
                if !wasAway { hooks.log("warning", "\(error): no agent; trying again every second") }
                wasAway = true
            }
            usleep(pause)
        }
    }

    /// nil: it was told to stop meanwhile.
    private func connectToAgent() throws(PosixError) -> Int32? {
        let descriptor = try UnixSocket.connect(path)
        let isWanted = state.withLock { state in
            guard !state.isStopped else { return false }
            state.descriptor = descriptor
            return true
        }
        guard isWanted else {
            close(descriptor)
            return nil
        }
        return descriptor
    }

    /// Until the agent is gone; returns whether it said anything that can be read.
    private func serve(_ descriptor: Int32) -> Bool {
        let generation = state.withLock(\.snapshot.generation)
        var wasUseful = false
        guard send(.hello(version: version, pid: UInt32(getpid()), generation: generation)) else { return false }
        hooks.connected { self.send(.certificate($0)) }
        var received: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 256 << 10)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return wasUseful }
            received += chunk[..<count]
            do throws(WireError) {
                while let frame = try HandOverFrame.read(received.span, from: .agent) {
                    received.removeFirst(frame.length)
                    wasUseful = true
                    guard answer(frame) else { return true }
                }
            } catch {
                // There is no telling where the next message begins: a new session gets everything anew.
                hooks.log("error", "what the agent sent cannot be read: \(error)")
                return wasUseful
            }
        }
    }

    /// False if the agent does not listen any more.
    private func answer(_ frame: HandOverFrame.Decoded) -> Bool {
        switch frame.message {
        case .success(.update(let update)): return send(take(update, ignored: frame.ignored))
        case .success(.query(let id, let question)): return send(.answer(id: id, hooks.answer(question)))
        case .success(.certified(let answer)):
            hooks.certified(answer)
            return true
        case .success(.ownSockets(let token)):
            hooks.claimSockets(token)
            return true
        case .success(.unknown(let number)):
            hooks.log("warning", "the agent is newer: message \(number) is passed over")
            return true
        case .success: return true
        case .failure(let error):
            hooks.log("error", "the configuration is refused, the last one stays in force: \(error)")
            return send(.nack(0, reason: error.description))
        }
    }

    private func take(_ update: ProxyUpdate, ignored: [String]) -> HandOverMessage {
        let current = state.withLock(\.snapshot)
        guard let next = current.applying(update) else {
            let reason = "it changes generation \(update.base ?? 0), but generation \(current.generation) is in force"
            hooks.log("error", "configuration \(update.generation) is refused: \(reason)")
            return .nack(update.generation, reason: reason)
        }
        hooks.adopt(next)
        state.withLock { $0.snapshot = next }
        if let file { keep(next, in: file) }
        hooks.log("info", "configuration \(next.generation) is in force: \(next.services.count) services")
        let news = state.withLock { state in
            defer { state.ignored.formUnion(ignored) }
            return ignored.filter { !state.ignored.contains($0) }
        }
        if !news.isEmpty {
            hooks.log("warning", "the agent is newer: passed over were \(news.joined(separator: ", "))")
        }
        return .ack(update.generation, ignored: ignored)
    }

    // MARK: The disk

    /// By a thread of its own: a disk may take its time, and the agent takes a proxy that does not answer for hung.
    private func keep(_ snapshot: ProxySnapshot, in file: LastConfiguration) {
        let isFirst = state.withLock { state in
            defer { state.isWriting = true }
            state.unwritten = snapshot
            return !state.isWriting
        }
        guard isFirst else { return }
        do throws(PosixError) { try startThread { self.write(to: file) } } catch { write(to: file) }
    }

    /// Until there is none newer than what was written.
    private func write(to file: LastConfiguration) {
        while let snapshot = state.withLock({ $0.takeUnwritten() }) {
            do throws(LastConfiguration.Failure) { try file.write(snapshot) } catch {
                // It is in force all the same; only a start without an agent would miss it.
                hooks.log("error", "\(error)")
            }
        }
    }

    private func send(_ message: HandOverMessage) -> Bool {
        let frame = HandOverFrame.encode(message)
        return output.withLock { $0 >= 0 && sendAll(frame, to: $0).code == 0 }
    }
}
