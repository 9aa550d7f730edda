/// When the authority makes a new root or intermediate, and how one takes the other's place while every leaf that lives
/// is believed by everybody: a root is known to all before anything is signed under it, and known until the last leaf
/// under it has ended. Times are in seconds since 1970.

package struct Rotation: Sendable {
    package struct Timing: Equatable, Sendable {
        package var rootLife = 3650 * 86400
        package var intermediateLife = 90 * 86400
        /// The longest life of a leaf.
        package var leafLife = 86400
        /// Until everybody believes what was published.
        package var settling = 3600
        /// Before trying again what has not been reported as done.
        package var retry = 30

        package init() {}
    }
    package struct Authority: Equatable, Sendable, Codable {
        package let id: Int
        package let notBefore: Int
        package let notAfter: Int
    }
    package enum Event: Equatable, Sendable {
        case tick
        /// By command.
        case renewRoot, renewIntermediate
        /// Made, stored and found good; the answers to the actions of that name.
        case rootMade(id: Int)
        case intermediateMade(id: Int, root: Int)
        /// These roots are in the place that everybody reads.
        case published([Int])
    }
    package enum Action: Equatable, Sendable {
        case makeRoot(id: Int, notAfter: Int)
        case makeIntermediate(id: Int, root: Int, notAfter: Int)
        case publish([Int])
        /// Leaves are signed by this from now on.
        case sign(intermediate: Int, root: Int)
        /// Its key and certificate are to be forgotten: nothing alive is under it.
        case forget(root: Int)
    }

    /// What must outlive the process: kept beside the keys, before the actions that came with it are carried out.
    package struct State: Equatable, Sendable, Codable {
        /// Signs; nil: nothing can be issued yet.
        package fileprivate(set) var root: Authority?
        package fileprivate(set) var intermediate: Authority?
        /// Made, and to be believed by all before it signs.
        package fileprivate(set) var nextRoot: Authority?
        /// Signs no more, and is believed until the last leaf under it has ended.
        package fileprivate(set) var retired: [Retired] = []
        fileprivate var wantsRoot = false
        fileprivate var wantsIntermediate = false
        fileprivate var lastID = 0

        package init() {}
    }
    package struct Retired: Equatable, Sendable, Codable {
        package let authority: Authority
        package let until: Int
    }

    package let timing: Timing
    package private(set) var state: State
    /// What is in the place that everybody reads, and since when. A new process asks to publish anew and waits anew.
    private var published: (roots: [Int], since: Int) = ([], 0)
    /// What was asked for and has not been reported as done.
    private var pending: (action: Action, authority: Authority, asked: Int)?
    private var publishAsked: (roots: [Int], asked: Int)?

    package init(timing: Timing = Timing(), state: State = State()) { (self.timing, self.state) = (timing, state) }

    /// The roots that everybody should believe.
    package var trusted: [Int] {
        ([state.root, state.nextRoot].compactMap { $0 } + state.retired.map(\.authority)).map(\.id).sorted()
    }

    /// When a leaf signed now ends: never later than those above it.
    package func leafEnd(now: Int) -> Int? {
        guard let root = state.root, let intermediate = state.intermediate else { return nil }
        let end = min(now + timing.leafLife, intermediate.notAfter, root.notAfter)
        return end > now ? end : nil
    }

    package mutating func take(_ event: Event, now: Int) -> [Action] {
        var actions: [Action] = []
        switch event {
        case .tick: break
        case .renewRoot: state.wantsRoot = true
        case .renewIntermediate: state.wantsIntermediate = true
        case .rootMade(let id): rootMade(id)
        case .intermediateMade(let id, let root): actions += intermediateMade(id, root: root, now: now)
        case .published(let roots):
            // Seen again is no news: what everybody waits for counts from the first time.
            if roots.sorted() != published.roots { published = (roots.sorted(), now) }
        }
        return actions + forgetRetired(now: now) + publish(now: now) + make(now: now)
    }

    private mutating func rootMade(_ id: Int) {
        guard case .makeRoot(id, _)? = pending?.action else { return }
        state.nextRoot = pending?.authority
        (pending, state.wantsRoot) = (nil, false)
    }

    private mutating func intermediateMade(_ id: Int, root under: Int, now: Int) -> [Action] {
        guard case .makeIntermediate(id, under, _)? = pending?.action else { return [] }
        if let next = state.nextRoot, next.id == under {
            // A replica that reads of it late may sign under the old root until then.
            if let root = state.root {
                let until = min(root.notAfter, now + timing.settling + timing.leafLife)
                state.retired.append(Retired(authority: root, until: until))
            }
            (state.root, state.nextRoot) = (next, nil)
        }
        state.intermediate = pending?.authority
        (pending, state.wantsIntermediate) = (nil, false)
        return [.sign(intermediate: id, root: under)]
    }

    private mutating func forgetRetired(now: Int) -> [Action] {
        let gone = state.retired.filter { $0.until <= now }.map(\.authority.id)
        state.retired.removeAll { $0.until <= now }
        return gone.map { .forget(root: $0) }
    }

    private mutating func publish(now: Int) -> [Action] {
        guard published.roots != trusted, !trusted.isEmpty else { return [] }
        if let asked = publishAsked, asked.roots == trusted, now < asked.asked + timing.retry { return [] }
        publishAsked = (trusted, now)
        return [.publish(trusted)]
    }

    private mutating func make(now: Int) -> [Action] {
        if let pending {
            guard now >= pending.asked + timing.retry else { return [] }
            self.pending?.asked = now
            return [pending.action]
        }
        // One change of roots at a time: a second begins when nothing is left of the first.
        if state.nextRoot == nil, state.retired.isEmpty, state.wantsRoot || isHalfOver(state.root, now: now) {
            let authority = authority(life: timing.rootLife, under: nil, now: now)
            return ask(.makeRoot(id: authority.id, notAfter: authority.notAfter), authority, now: now)
        }
        let isBelieved = state.nextRoot.map {
            published.roots.contains($0.id) && now >= published.since + timing.settling
        }
        // The first root waits for nobody: no leaf is there that anybody could disbelieve.
        let under = isBelieved == true || state.root == nil ? state.nextRoot : state.root
        guard let under,
            under != state.root || state.wantsIntermediate || isHalfOver(state.intermediate, now: now)
        else { return [] }
        let authority = authority(life: timing.intermediateLife, under: under, now: now)
        return ask(
            .makeIntermediate(id: authority.id, root: under.id, notAfter: authority.notAfter), authority, now: now)
    }

    private mutating func authority(life: Int, under: Authority?, now: Int) -> Authority {
        state.lastID += 1
        return Authority(id: state.lastID, notBefore: now, notAfter: min(now + life, under?.notAfter ?? Int.max))
    }

    private mutating func ask(_ action: Action, _ authority: Authority, now: Int) -> [Action] {
        pending = (action, authority, now)
        return [action]
    }

    private func isHalfOver(_ authority: Authority?, now: Int) -> Bool {
        guard let authority else { return true }
        // The clock of whoever made it was far ahead.
        if authority.notBefore > now + timing.settling { return true }
        return now >= authority.notBefore + (authority.notAfter - authority.notBefore) / 2
    }
}
