/// Keeps what certificates are signed with. Every replica reads it from the Secrets, so that all sign alike; the leader
/// makes it, changes it as `Rotation` says, and publishes the roots. Istio's Secret cacerts wins over an own root.
import AdminAPI
import CertificateAuthority
import Glibc
import KubernetesClient
import Signing
import Synchronization

final class AuthorityKeeper: Sendable {
    struct Timing: Sendable {
        var rotation = Rotation.Timing()
        /// Between two looks at the Secrets.
        var reading = Duration.seconds(10)
        /// In seconds: a Secret cacerts that is away for less is being replaced.
        var absence = 120
    }
    enum Foreign {
        /// Not read yet, or not readable now: nothing may be decided.
        case unknown
        case absent
        case present(Authority, roots: [String])
        case damaged
    }
    /// What is seen and done between two pauses.
    struct Memory {
        var foreign = Foreign.unknown
        var own = OwnKeys()
        /// The Secret as it is; nil: it cannot be used.
        var stored: (data: [String: [UInt8]], version: String)?
        var rotation: Rotation
        var problems: [String] = []
        /// The Secret has nothing of what is published: whoever empties that as well wants a new root.
        var isEmptied = false
        var foreignIsAwaySince: Int?
        /// When both Secrets were read.
        var lastRead: Int?
    }
    struct State {
        var signer: Signer?
        var report = AuthorityReport.Keys()
        var wishes: [Rotation.Event] = []
    }

    let state = Mutex(State())
    private let writer: ObjectWriter
    let leadership: Leadership
    let timing: Timing
    /// Who leads, for those who ask another.
    private let leader: @Sendable () -> String
    let now: @Sendable () -> Int
    let secret: ObjectAddress
    private let cacerts: ObjectAddress
    private let bundle: ObjectAddress
    private let (turns, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    init(
        _ writer: ObjectWriter, _ leadership: Leadership, namespace: String, timing: Timing = Timing(),
        leader: @escaping @Sendable () -> String = { "" }, now: @escaping @Sendable () -> Int = { Glibc.time(nil) }
    ) {
        (self.writer, self.leadership, self.timing) = (writer, leadership, timing)
        (self.leader, self.now) = (leader, now)
        func address(_ plural: String, _ kind: String, _ name: String) -> ObjectAddress {
            ObjectAddress(group: "", plural: plural, kind: kind, namespace: namespace, name: name)
        }
        secret = address("secrets", "Secret", "heddle-ca")
        cacerts = address("secrets", "Secret", "cacerts")
        bundle = address("configmaps", "ConfigMap", "heddle-ca-root")
    }

    /// nil: nothing can be issued yet.
    var signer: Signer? { state.withLock(\.signer) }
    var report: AuthorityReport.Keys { state.withLock(\.report) }

    /// The replica leads now: what is to be done is done at once.
    func lead() { wake.yield() }

    /// nil: begun; otherwise why not.
    func renewRoot() -> String? { renew(.renewRoot) }
    func renewIntermediate() -> String? { renew(.renewIntermediate) }

    private func renew(_ wish: Rotation.Event) -> String? {
        guard leadership.isLeading else {
            let leader = leader()
            return "only the replica that leads changes keys: "
                + (leader.isEmpty ? "nobody leads now, ask again" : "ask it, \(leader)")
        }
        let isOwn = state.withLock { state in
            if state.report.origin == "own", !state.wishes.contains(wish) { state.wishes.append(wish) }
            return state.report.origin == "own"
        }
        guard isOwn else {
            return "Secret cacerts is in force, which others make: put other keys into it, or delete it for an own root"
        }
        wake.yield()
        return nil
    }

    /// Until the task is cancelled. `tell` hears of each problem as it comes, `note` of what was done.
    func run(
        _ tell: @escaping @Sendable (String) -> Void, note: @escaping @Sendable (String) -> Void = { _ in }
    ) async {
        await withDiscardingTaskGroup { group in
            group.addTask { [timing, wake] in
                while !Task.isCancelled {
                    wake.yield()
                    try? await Task.sleep(for: timing.reading)
                }
            }
            var memory = Memory(rotation: Rotation(timing: timing.rotation))
            for await _ in turns {
                let known = memory.problems
                memory.problems = []
                await turn(&memory, note)
                for problem in memory.problems where !known.contains(problem) { tell(problem) }
            }
            group.cancelAll()
        }
    }

    private func turn(_ memory: inout Memory, _ note: @Sendable (String) -> Void) async {
        let isRead = (await readOwn(&memory), await readForeign(&memory))
        if isRead == (true, true) { memory.lastRead = now() }
        if leadership.isLeading {
            await keepForeignRoots(&memory)
            let isPublished = await publish(&memory, note)
            if isPublished { await noteForeignRoots(&memory) }
            if case .absent = memory.foreign, memory.stored != nil {
                let roots = memory.own.roots
                await rotate(isPublished, &memory, note)
                if memory.own.roots != roots { _ = await publish(&memory, note) }
            }
        }
        show(&memory)
    }

    // MARK: What there is

    /// Whether it is known what there is.
    private func readForeign(_ memory: inout Memory) async -> Bool {
        let answer = await writer.keptData(cacerts)
        guard answer == .failure(.gone) else { memory.foreignIsAwaySince = nil; return readForeign(answer, &memory) }
        let since = memory.foreignIsAwaySince ?? now()
        memory.foreignIsAwaySince = since
        switch memory.foreign {
        case .present, .damaged: if now() >= since + timing.absence { memory.foreign = .absent }
        case .unknown: if !memory.own.foreign.areInForce || now() >= since + timing.absence { memory.foreign = .absent }
        case .absent: break
        }
        return true
    }

    private func readForeign(_ answer: Result<KeptData, APIFailure>, _ memory: inout Memory) -> Bool {
        switch answer {
        case .failure(let failure):
            memory.problems.append(failure.sentence)
            return false
        case .success(let kept):
            do throws(SigningError) {
                let text = { (name: String) in String(decoding: kept.data[name] ?? [], as: UTF8.self) }
                let roots = text("root-cert.pem")
                let authority = try Authority(
                    certificate: text("ca-cert.pem"), key: SigningKey(pem: kept.data["ca-key.pem"] ?? []),
                    above: [text("cert-chain.pem"), roots].filter { !$0.isEmpty }, at: now())
                let published = try certificates(inPEM: roots).map(\.pem)
                guard let root = authority.chain.last, published.contains(root) else {
                    throw SigningError("the root of its chain is not in root-cert.pem")
                }
                memory.foreign = .present(authority, roots: published)
            } catch {
                memory.foreign = .damaged
                memory.problems.append(
                    "\(cacerts) cannot be used: \(error.sentence); mend it, or delete it for an own root")
            }
            return true
        }
    }

    /// Whether it is known what there is.
    private func readOwn(_ memory: inout Memory) async -> Bool {
        switch await writer.keptData(secret) {
        case .failure(let failure):
            memory.stored = nil
            memory.problems.append(
                failure == .gone
                    ? "\(secret) does not exist, so no key can be kept; apply the chart, which makes it empty, or turn "
                        + "the authority off with --ca off" : failure.sentence)
            return failure == .gone
        case .success(let kept):
            guard kept.resourceVersion != memory.stored?.version else { return true }
            do throws(SigningError) {
                let own = try OwnKeys(kept.data)
                if own.roots.isEmpty, let problem = await problemOfBeginning(&memory) {
                    memory.stored = nil
                    memory.problems.append(problem)
                    return true
                }
                (memory.own, memory.isEmptied) = (own, false)
                memory.stored = (kept.data, kept.resourceVersion)
                // Others may keep something there, too: what was begun goes on.
                if own.state != memory.rotation.state {
                    memory.rotation = Rotation(timing: timing.rotation, state: own.state)
                }
            } catch {
                memory.stored = nil
                memory.problems.append(
                    "\(secret) is damaged: \(error.sentence); restore it; for a new root remove all data of it "
                        + "and of \(bundle)")
            }
            return true
        }
    }

    /// nil: nobody believes a root yet, so that one may be made. What is not known is no beginning.
    private func problemOfBeginning(_ memory: inout Memory) async -> String? {
        switch await writer.keptData(bundle) {
        case .failure(.gone): return nil
        case .failure(let failure): return failure.sentence
        case .success(let kept):
            memory.isEmptied = kept.data["root-cert.pem"]?.isEmpty == false
            return memory.isEmptied
                ? "\(secret) is empty, and a root is published in \(bundle) that others believe: restore it, or for a "
                    + "new root remove all data of \(bundle), too" : nil
        }
    }

    // MARK: What the leader does

    /// What is in cacerts is remembered before it is published: it is believed for a while after it went.
    private func keepForeignRoots(_ memory: inout Memory) async {
        let current: [String]
        switch memory.foreign {
        case .present(_, let roots): current = roots
        case .absent: current = []
        case .unknown, .damaged: return
        }
        var own = memory.own
        own.foreign.take(
            current, areFirst: own.roots.isEmpty, now: now(),
            overlap: timing.rotation.settling + timing.rotation.leafLife)
        if own.foreign != memory.own.foreign { _ = await store(own, &memory) }
    }

    private func noteForeignRoots(_ memory: inout Memory) async {
        var own = memory.own
        own.foreign.published(now: now())
        if own.foreign != memory.own.foreign { _ = await store(own, &memory) }
    }

    /// Each event is stored with what was made for it before anything follows from it.
    private func rotate(_ isPublished: Bool, _ memory: inout Memory, _ note: @Sendable (String) -> Void) async {
        var events: [Rotation.Event] = isPublished ? [.published(memory.rotation.trusted)] : []
        events += state.withLock(\.wishes) + [.tick]
        while !events.isEmpty {
            let event = events.removeFirst()
            var next = memory.rotation
            let actions = next.take(event, now: now())
            var own = memory.own
            own.state = next.state
            guard await store(own, &memory) else { return }
            memory.rotation = next
            state.withLock { state in
                if let index = state.wishes.firstIndex(of: event) { state.wishes.remove(at: index) }
            }
            do throws(SigningError) {
                for action in actions { events += try carryOut(action, &memory, note) }
            } catch {
                return memory.problems.append("no authority can be made: \(error.sentence)")
            }
        }
    }

    /// What is made is stored with the event that says so. Published is what is kept, and signed with it.
    private func carryOut(
        _ action: Rotation.Action, _ memory: inout Memory, _ note: @Sendable (String) -> Void
    ) throws(SigningError) -> [Rotation.Event] {
        switch action {
        case .makeRoot(let id, let notAfter):
            let root = try Authority.root(name: "Heddle root \(id)", notBefore: now(), notAfter: notAfter)
            memory.own.keep(root, as: id)
            note("root \(id) was made")
            return [.rootMade(id: id)]
        case .makeIntermediate(let id, let root, let notAfter):
            let intermediate = try memory.own.authority(root).intermediate(
                name: "Heddle intermediate \(id)", notBefore: now(), notAfter: notAfter)
            memory.own.keep(intermediate, as: id)
            note("intermediate \(id) was made, under root \(root)")
            return [.intermediateMade(id: id, root: root)]
        case .sign(let intermediate, let root):
            note("intermediate \(intermediate) under root \(root) signs from now on")
        case .forget(let root): note("root \(root) is forgotten")
        case .publish: break
        }
        return []
    }

    private func store(_ own: OwnKeys, _ memory: inout Memory) async -> Bool {
        guard let stored = memory.stored else { return false }
        let changes = own.changes(from: stored.data)
        guard !changes.isEmpty else {
            memory.own = own
            return true
        }
        switch await writer.setData(
            changes, of: secret, resourceVersion: stored.version, fence: leadership)
        {
        case .written(let version), .unchanged(let version):
            memory.own = own
            memory.stored = (stored.data.changed(by: changes), version)
            return true
        // Read again before anything else is decided; another replica leads.
        case .failed(.conflict), .failed(.fenced): return false
        case .failed(let failure):
            memory.problems.append(failure.sentence)
            return false
        }
    }

    /// Whether everybody can read of all roots.
    private func publish(_ memory: inout Memory, _ note: @Sendable (String) -> Void) async -> Bool {
        var roots = memory.own.roots
        switch memory.foreign {
        case .absent: break
        case .present(_, let theirs): roots = theirs.filter { !roots.contains($0) } + roots
        // What is published may be what is not known now.
        case .unknown, .damaged: return false
        }
        guard !roots.isEmpty, !memory.isEmptied else { return false }
        switch await writer.keptData(bundle) {
        case .failure(let failure):
            memory.problems.append(
                failure == .gone
                    ? "\(bundle) does not exist, so nobody can read of the root; apply the chart, which makes it empty"
                    : failure.sentence)
            return false
        case .success(let kept):
            let there = kept.data["root-cert.pem"] ?? []
            if memory.stored == nil {
                // Whether something lives under the others cannot be known now.
                let others = (try? certificates(inPEM: String(decoding: there, as: UTF8.self))) ?? []
                roots += others.map(\.pem).filter { !roots.contains($0) }
            }
            let text = Array(roots.joined().utf8)
            guard there != text else { return true }
            let outcome = await writer.setData(
                ["root-cert.pem": text], of: bundle, resourceVersion: kept.resourceVersion, fence: leadership)
            switch outcome {
            case .written, .unchanged:
                note("\(roots.count == 1 ? "the root is" : "\(roots.count) roots are") published in \(bundle)")
                return true
            case .failed(.conflict), .failed(.fenced): return false
            case .failed(let failure):
                memory.problems.append(failure.sentence)
                return false
            }
        }
    }
}

extension [String: [UInt8]] {
    fileprivate func changed(by changes: [String: [UInt8]?]) -> Self {
        changes.reduce(into: self) { $0[$1.key] = $1.value }
    }
}
