/// Where the L7 proxies of the node come for their configuration: a Unix socket, one session a proxy. Everything here
/// lives on the server loop; what proxies are there is told to whoever asked to hear of it.
package import AdminServer
import Glibc
package import HandOver
import NIOCore
import NIOPosix
package import Posix
package import RouteIR

package final class HandOverServer: Sendable {
    private struct State {
        var snapshot: ProxySnapshot?
        var token: OwnSocketToken?
        /// What proxies shall believe, in PEM; empty: no certificates are made here.
        var roots: [String] = []
        var sessions: [ObjectIdentifier: HandOverHandler] = [:]
        var reported: [ConnectedProxy] = []
        var listeners: [any Channel] = []
        /// Connections so far.
        var count: UInt64 = 0
        /// Only while there is somebody to ask: without, nothing wakes up.
        var checks: RepeatedTask?
    }
    /// One proxy serves, another may take its place; more are somebody's mistake.
    private static let mostSessions = 16
    fileprivate let loop: any EventLoop
    private let state: NIOLoopBoundBox<State>
    private let onChange: @Sendable ([ConnectedProxy]) -> Void
    /// Has it answered, on any thread.
    package typealias Certify = @Sendable (CertificateQuestion, @escaping @Sendable (CertificateAnswer) -> Void) -> Void

    fileprivate let limit: Int
    fileprivate let certify: Certify?

    /// `limit`: of the bytes of a configuration. `certify`: nil where no certificates are made.
    package init(
        on loop: ServerLoop, limit: Int = HandOverFrame.maximumLength, certify: Certify? = nil,
        onChange: @escaping @Sendable ([ConnectedProxy]) -> Void
    ) {
        self.loop = loop.loop
        self.limit = limit
        self.certify = certify
        state = .makeBoxSendingValue(State(), eventLoop: loop.loop)
        self.onChange = onChange
    }

    /// Listens, or throws. Whoever is not one of `users` is disconnected at once, whatever the socket's mode.
    package func start(on socket: BoundUnixSocket, admitting users: Set<UInt32>) async throws {
        let bootstrap = ServerBootstrap(group: loop).childChannelInitializer { channel in
            guard let options = channel as? any SocketOptionProvider else {
                return channel.eventLoop.makeFailedFuture(PosixError("a connection without socket options"))
            }
            let peer: EventLoopFuture<PeerCredentials> = options.unsafeGetSocketOption(
                level: .socket, name: .init(rawValue: SO_PEERCRED))
            return peer.flatMapThrowing { peer in
                guard users.contains(peer.user), self.state.value.sessions.count < Self.mostSessions else {
                    throw PosixError("user \(peer.user) may not ask for the configuration")
                }
                let handler = HandOverHandler(server: self, process: ProcessHandle(pid: peer.pid))
                try channel.pipeline.syncOperations.addHandler(handler)
            }
        }
        let listener = try await bootstrap.withBoundSocket(socket.descriptor).get()
        try await loop.submit { self.state.value.listeners.append(listener) }.get()
    }

    package func stop() {
        loop.execute {
            for listener in self.state.value.listeners { listener.close(promise: nil) }
            for session in self.state.value.sessions.values { session.close() }
        }
    }

    /// Hands this configuration to every proxy, now and to those that come later.
    package func publish(_ snapshot: ProxySnapshot) {
        loop.execute {
            self.state.value.snapshot = snapshot
            for session in self.state.value.sessions.values { session.offer(snapshot) }
        }
    }

    /// Tells every proxy, now and later ones when they come, what to believe.
    package func publish(roots: [String]) {
        loop.execute {
            self.state.value.roots = roots
            for session in self.state.value.sessions.values { session.tell(roots: roots) }
        }
    }

    /// Hands every proxy the token with which it claims its sockets, now and to those that come later; nil: none. What
    /// it failed to claim before it tries again.
    package func publish(ownSockets token: OwnSocketToken?) {
        loop.execute {
            self.state.value.token = token
            for session in self.state.value.sessions.values { session.claim(with: token) }
        }
    }

    /// Asks a proxy to let others serve: it finishes what it has (`--drain-time`) and ends.
    package func drain(_ pid: UInt32) {
        loop.execute {
            for session in self.state.value.sessions.values where session.proxy?.pid == pid { session.drain() }
        }
    }

    /// Asks the proxy that came last; nil: there is none, or it did not answer.
    package func ask(_ question: String, _ reply: @escaping @Sendable ([UInt8]?) -> Void) {
        loop.execute {
            let sessions = self.state.value.sessions.values.filter { $0.proxy.map { !$0.isForeign } ?? false }
            let newest = sessions.max { $0.number < $1.number }
            if let newest { newest.ask(question, reply) } else { reply(nil) }
        }
    }

    // MARK: On the loop

    fileprivate var token: OwnSocketToken? { state.value.token }

    fileprivate func opened(_ session: HandOverHandler) {
        state.value.count += 1
        session.number = state.value.count
        state.value.sessions[ObjectIdentifier(session)] = session
        if !state.value.roots.isEmpty { session.tell(roots: state.value.roots) }
        if let snapshot = state.value.snapshot { session.offer(snapshot) }
        guard state.value.checks == nil else { return }
        state.value.checks = loop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) {
            [weak self] task in
            guard let self else { return task.cancel() }
            for session in state.value.sessions.values { session.checkHealth() }
            report()
        }
    }
    fileprivate func closed(_ session: HandOverHandler) {
        state.value.sessions[ObjectIdentifier(session)] = nil
        if state.value.sessions.isEmpty {
            state.value.checks?.cancel()
            state.value.checks = nil
        }
        report()
    }
    fileprivate func report() {
        let proxies = state.value.sessions.values.sorted { $0.number < $1.number }.compactMap(\.proxy)
        guard proxies != state.value.reported else { return }
        state.value.reported = proxies
        onChange(proxies)
    }
}

/// One proxy's connection.
private final class HandOverHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private struct Question {
        let reply: @Sendable ([UInt8]?) -> Void
        var ticks = 0
    }
    /// Checks of health, a second apart, that an answer may take.
    private static let patience = 5
    /// Of what a proxy says: an answer with all its upstreams is the longest.
    private static let longestWord = 16 << 20

    private let server: HandOverServer
    private let process: ProcessHandle?
    private let rights: ConnectedProxy.Rights?
    private let program: String?
    private var session = HandOverSession()
    private var context: ChannelHandlerContext?
    private var received: [UInt8] = []
    private var questions: [UInt64: Question] = [:]
    private var lastQuestion: UInt64 = 0
    /// Certificates that were asked for and are not there yet.
    private var certificates = 0
    private static let mostCertificates = 32
    private var isAnswering = true
    private var foreignFormat: UInt32?
    private var isDraining = false
    /// Later connections have larger ones.
    var number: UInt64 = 0

    init(server: HandOverServer, process: ProcessHandle?) {
        self.server = server
        self.process = process
        rights = process?.facts.map(ConnectedProxy.Rights.init)
        program = process?.program?.description
    }

    var proxy: ConnectedProxy? {
        var result: ConnectedProxy
        let pid = process.map { UInt32($0.pid) }
        if let foreignFormat {
            result = .init(
                pid: pid ?? 0, version: "of another release", generation: 0,
                refusal:
                    "it speaks format \(foreignFormat) of the hand-over, this agent format \(HandOverFrame.format)",
                rights: rights)
            result.isForeign = true
        } else if let identity = session.identity {
            result = .init(
                pid: pid ?? identity.pid, version: identity.version, generation: session.generation,
                refusal: session.refusal?.reason, isAnswering: isAnswering, rights: rights)
            result.ignored = session.ignored
        } else {
            return nil
        }
        result.program = program
        return result
    }

    func drain() {
        guard !isDraining else { return }
        isDraining = true
        process?.signal(SIGTERM)
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        server.opened(self)
    }
    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
        for question in questions.values { question.reply(nil) }
        questions = [:]
        server.closed(self)
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    func close() { context?.close(promise: nil) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // One of another format is kept, to be known of until it ends; what it says is not for us.
        guard foreignFormat == nil else { return }
        received += unwrapInboundIn(data).readableBytesView
        // A local: without exclusivity checks, as released, a span of the property counts as escaping.
        let bytes = received
        do throws(WireError) {
            var start = 0
            while let frame = try HandOverFrame.read(
                bytes.span.extracting(droppingFirst: start), from: .proxy, limit: Self.longestWord)
            {
                start += frame.length
                take(try frame.message.get())
            }
            received.removeFirst(start)
        } catch {
            foreignFormat = HandOverFrame.foreignFormat(bytes.span)
            received = []
            if foreignFormat == nil { context.close(promise: nil) }
        }
        server.report()
    }

    private func take(_ message: HandOverMessage) {
        if case .answer(let id, let bytes) = message {
            isAnswering = true
            questions.removeValue(forKey: id)?.reply(bytes)
        } else if case .certificate(let question) = message {
            certify(question)
        } else {
            let answer = session.receive(message)
            // Before the configuration: what that asks for must be done with it.
            if case .hello = message, let token = server.token { send(.ownSockets(token)) }
            if let answer { send(answer) }
        }
    }

    private func certify(_ question: CertificateQuestion) {
        guard let certify = server.certify else {
            return send(.certified(CertificateAnswer(id: question.id, problem: "the agent has no --ca")))
        }
        guard certificates < Self.mostCertificates else {
            return send(.certified(CertificateAnswer(id: question.id, problem: "too many are asked for at one time")))
        }
        certificates += 1
        let this = NIOLoopBound(self, eventLoop: server.loop)
        certify(question) { answer in
            this.eventLoop.execute {
                this.value.certificates -= 1
                this.value.send(.certified(answer))
            }
        }
    }

    func tell(roots: [String]) { send(.certified(CertificateAnswer(id: 0, roots: roots))) }

    func offer(_ snapshot: ProxySnapshot) {
        if let message = session.offer(snapshot) { send(message) }
    }

    func claim(with token: OwnSocketToken?) {
        if session.identity != nil { send(.ownSockets(token)) }
    }

    func ask(_ question: String, _ reply: @escaping @Sendable ([UInt8]?) -> Void) {
        lastQuestion += 1
        questions[lastQuestion] = Question(reply: reply)
        send(.query(id: lastQuestion, question))
    }

    func checkHealth() {
        for (id, var question) in questions {
            question.ticks += 1
            questions[id] = question
            guard question.ticks > Self.patience else { continue }
            isAnswering = false
            questions[id] = nil
            question.reply(nil)
        }
        if session.identity != nil, questions.isEmpty { ask("health") { _ in } }
    }

    private func send(_ message: HandOverMessage) {
        guard let context else { return }
        let frame = HandOverFrame.encode(message)
        if case .update = message, frame.count - HandOverFrame.headerLength > server.limit {
            return session.couldNotSend(frame.count - HandOverFrame.headerLength, limit: server.limit)
        }
        let buffer = context.channel.allocator.buffer(bytes: frame)
        context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
    }
}

extension ConnectedProxy.Rights {
    fileprivate init(_ facts: ProcessFacts) {
        self.init(
            user: facts.user, effective: facts.effective, bounding: facts.bounding,
            hasNoNewPrivileges: facts.hasNoNewPrivileges, filtersCalls: facts.filtersCalls)
    }
}
