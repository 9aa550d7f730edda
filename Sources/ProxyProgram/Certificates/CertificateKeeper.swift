/// The keys and certificates of the enrolled pods of this node: made here, kept in memory only, renewed in time. The
/// agent has the requests signed; private keys never leave this process. `RenewalPlan` says when.
import CertificateAuthority
import Glibc
import HandOver
import Posix
import Proxy
import RouteIR
import Signing
import Synchronization

final class CertificateKeeper: Sendable {
    struct Effects: Sendable {
        var adopt: @Sendable (WorkloadCredentials) -> Void
        var log: @Sendable (_ level: String, _ message: String) -> Void
        var now: @Sendable () -> Int = { time(nil) }
        /// Called before there is a key.
        var hide: @Sendable () -> Void = { hideMemory() }
    }
    /// False: the agent does not listen any more.
    typealias Ask = @Sendable (CertificateQuestion) -> Bool
    /// Of what is valid now.
    struct Held: Sendable {
        let chain: IssuedChain
        let credential: WorkloadCredential
    }
    struct State {
        var plan = RenewalPlan()
        var held: [WorkloadIdentity: Held] = [:]
        /// In PEM.
        var roots: [String] = []
        /// Asked for, by the number of the question.
        var pending: [UInt64: (identity: WorkloadIdentity, key: SigningKey)] = [:]
        var lastQuestion: UInt64 = 0
        /// nil: there is no agent.
        var ask: Ask?
        /// The engine does not have them yet.
        var hasChanged = false
        var hasThread = false
        var issued: UInt64 = 0
        var failed: UInt64 = 0
    }
    let state = Mutex(State())
    let effects: Effects
    private let work = Semaphore()
    /// Seconds after which the clock is looked at again, whoever may have set it.
    private static let longestSleep = 30

    init(_ effects: Effects) { self.effects = effects }

    // MARK: What happens

    /// Other pods are enrolled.
    func want(_ identities: Set<WorkloadIdentity>) {
        let now = effects.now()
        let (needsThread, hasNews) = state.withLock { state in
            let known = state.plan.entries.count
            for identity in state.plan.want(identities, now: now) {
                if state.held.removeValue(forKey: identity) != nil { state.hasChanged = true }
                state.pending = state.pending.filter { $0.value.identity != identity }
            }
            let needsThread = !identities.isEmpty && !state.hasThread
            state.hasThread = state.hasThread || needsThread
            return (needsThread, state.hasChanged || state.plan.entries.count != known)
        }
        if needsThread { begin() }
        if hasNews { work.signal() }
    }

    /// The agent came, or went.
    func connected(_ ask: Ask?) {
        let now = effects.now()
        state.withLock { $0.connected(ask, now: now) }
        work.signal()
    }

    func take(_ answer: CertificateAnswer) {
        let now = effects.now()
        let problem = state.withLock { state -> String? in
            let problem = answer.roots.isEmpty ? nil : state.believe(answer.roots, now: now)
            guard answer.id != 0, let asked = state.pending.removeValue(forKey: answer.id) else { return problem }
            return state.take(answer, to: asked, now: now) ?? problem
        }
        if let problem { effects.log("warning", problem) }
        work.signal()
    }

    // MARK: The thread

    private func begin() {
        effects.hide()
        do throws(PosixError) {
            try startThread { self.run() }
        } catch {
            effects.log("error", "\(error): no certificates are asked for")
        }
    }

    private func run() {
        while true {
            turn()
            let now = effects.now()
            let next = state.withLock { $0.plan.next(after: now) } ?? now + Self.longestSleep
            work.wait(atMost: min(max(next - now, 1), Self.longestSleep))
        }
    }

    /// All that is to be done now.
    func turn() {
        let now = effects.now()
        let (ask, questions, credentials) = state.withLock { state in
            (state.ask, state.questions(now: now), state.changed(now: now))
        }
        if let credentials { effects.adopt(credentials) }
        guard let ask else { return }
        // Whoever does not listen is soon told to be gone.
        for question in questions where !ask(question) { return }
    }
}

// MARK: Decisions

extension CertificateKeeper.State {
    fileprivate mutating func connected(_ ask: CertificateKeeper.Ask?, now: Int) {
        self.ask = ask
        pending = [:]
        plan.forgetAsked(now: now)
    }

    /// Requests for what is due, each with a new key.
    fileprivate mutating func questions(now: Int) -> [CertificateQuestion] {
        guard ask != nil else { return [] }
        var questions: [CertificateQuestion] = []
        for identity in plan.due(now: now) {
            // Of an earlier question nobody will use the key.
            pending = pending.filter { $0.value.identity != identity }
            let key = SigningKey.generate()
            do throws(SigningError) {
                lastQuestion += 1
                questions.append(
                    CertificateQuestion(
                        id: lastQuestion, identity: identity.description,
                        request: try key.request(uris: [identity.description])))
                pending[lastQuestion] = (identity, key)
            } catch {
                plan.fail(identity, error.sentence, now: now, jitter: .random(in: 0...1))
            }
        }
        return questions
    }

    /// For the engine; nil: it has these.
    fileprivate mutating func changed(now: Int) -> WorkloadCredentials? {
        for (identity, held) in held where held.credential.notAfter <= now {
            self.held[identity] = nil
            hasChanged = true
        }
        guard hasChanged else { return nil }
        hasChanged = false
        let roots = roots.flatMap { (try? derCertificates(inPEM: $0)) ?? [] }
        return WorkloadCredentials(byIdentity: held.mapValues(\.credential), roots: roots)
    }

    /// Returns what is wrong with them.
    fileprivate mutating func believe(_ roots: [String], now: Int) -> String? {
        guard roots != self.roots else { return nil }
        do throws(SigningError) {
            for text in roots { _ = try derCertificates(inPEM: text) }
        } catch {
            return "the roots that the agent gave are passed over: \(error)"
        }
        self.roots = roots
        hasChanged = true
        // One that peers believe no more is of no use, however long it would live.
        for (identity, held) in held where held.chain.fault(roots: roots, at: now) != nil {
            plan.renew(identity, now: now)
        }
        return nil
    }

    /// Returns what is wrong with it.
    fileprivate mutating func take(
        _ answer: CertificateAnswer, to asked: (identity: WorkloadIdentity, key: SigningKey), now: Int
    ) -> String? {
        let identity = asked.identity
        do throws(SigningError) {
            guard answer.problem.isEmpty else { throw SigningError(answer.problem) }
            let chain = try IssuedChain(answer.chain, for: asked.key, identity: identity, roots: roots, at: now)
            let end = chain.facts.notAfter
            held[identity] = CertificateKeeper.Held(
                chain: chain,
                credential: WorkloadCredential(
                    identity: identity, chain: chain.certificates, key: asked.key.der, notAfter: end))
            plan.issued(identity, until: end, now: now, jitter: .random(in: 0...1))
            hasChanged = true
            issued += 1
            return nil
        } catch {
            let isNews = plan.entries[identity]?.problem != error.sentence
            plan.fail(identity, error.sentence, now: now, jitter: .random(in: 0...1))
            failed += 1
            return isNews ? "no certificate for \(identity): \(error.sentence)" : nil
        }
    }
}
