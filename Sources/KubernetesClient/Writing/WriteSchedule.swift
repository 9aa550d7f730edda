/// What is to be written, and when: each key once at a time, a few at once, with pauses that grow while writing fails.
/// A key stands for whatever should be written when its turn comes, so that a newer wish costs nothing.

package struct WriteSchedule<Key: Hashable & Sendable>: Sendable {
    /// What came of a turn.
    package enum Result: Equatable, Sendable {
        /// There was nothing to write any more.
        case nothing
        case outcome(WriteOutcome)
    }
    private let concurrency: Int
    private let unused: Backoff
    /// In the order in which they were wanted; `begun` of them have had their turn.
    private var line: [Key] = []
    private var begun = 0
    private var inLine: Set<Key> = []
    private var underWay: Set<Key> = []
    /// Wanted again while under way.
    private var again: Set<Key> = []
    /// Had a conflict, or too little time: their turn comes again then, unless they are wanted earlier.
    private var later: [Key: Duration] = [:]
    private var waits: [Key: Backoff] = [:]
    /// Nothing is written before.
    private var pausedUntil = Duration.zero
    private var trouble: Backoff
    /// Why the last write was not done, for people; nil once one is.
    package private(set) var problem: String?

    package init(concurrency: Int = 8) { self.init(concurrency: concurrency, backoff: Backoff()) }
    init(concurrency: Int, backoff: Backoff) {
        self.concurrency = concurrency
        (unused, trouble) = (backoff, backoff)
    }

    /// Those that wait for a turn, or have it.
    package var count: Int { inLine.count + underWay.count + later.count }

    package mutating func want(_ keys: some Sequence<Key>) {
        for key in keys {
            if underWay.contains(key) {
                again.insert(key)
            } else if inLine.insert(key).inserted {
                later[key] = nil
                line.append(key)
            }
        }
    }

    /// What has no turn yet gets none.
    package mutating func forgetAll() {
        (line, begun, inLine) = ([], 0, [])
        (again, later, waits) = ([], [:], [:])
        (pausedUntil, trouble, problem) = (.zero, unused, nil)
    }

    /// Whose turn it is; `ended` must follow.
    package mutating func next(now: Duration) -> Key? {
        guard underWay.count < concurrency, pausedUntil <= now else { return nil }
        // While the server has trouble one at a time finds out whether it still has.
        guard trouble.failures == 0 || underWay.isEmpty else { return nil }
        for key in later.isEmpty ? [] : later.filter({ $0.value <= now }).map(\.key) {
            later[key] = nil
            if inLine.insert(key).inserted { line.append(key) }
        }
        guard begun < line.count else { return nil }
        let key = line[begun]
        begun += 1
        if begun > 64, begun * 2 > line.count {
            line.removeFirst(begun)
            begun = 0
        }
        inLine.remove(key)
        underWay.insert(key)
        return key
    }

    /// When `next` may say something although nothing happens; nil: never.
    package func nextTurn(now: Duration) -> Duration? {
        guard underWay.count < concurrency, trouble.failures == 0 || underWay.isEmpty else { return nil }
        let first = begun < line.count ? now : later.values.min()
        return first.map { max($0, pausedUntil) }
    }

    package mutating func ended(
        _ key: Key, _ result: Result, now: Duration, using random: inout some RandomNumberGenerator
    ) {
        guard underWay.remove(key) != nil else { return }
        let isWanted = again.remove(key) != nil
        switch result {
        case .nothing, .outcome(.written), .outcome(.unchanged), .outcome(.failed(.gone)):
            trouble.reset()
            problem = nil
            waits[key] = nil
        case .outcome(.failed(.conflict(let sentence))):
            // The watch brings what we have not seen yet, and with it the wish; this is for when it already has.
            trouble.reset()
            problem = sentence
            if !isWanted { postpone(key, now, &random) }
        case .outcome(.failed(.fenced)):
            // Too little time was left to this term; the next renewal may give more. Whoever leads no more forgets all.
            if !isWanted { postpone(key, now, &random) }
        case .outcome(.failed(.refused(let sentence))), .outcome(.failed(.tooLarge(let sentence))):
            // The same will be refused again; another wish may not be.
            trouble.reset()
            problem = sentence
        case .outcome(.failed(.throttled(let sentence, let time))):
            pause(time, sentence, now, &random)
            want([key])
        case .outcome(.failed(.forbidden(let sentence))), .outcome(.failed(.trouble(let sentence))):
            pause(nil, sentence, now, &random)
            want([key])
        }
        if isWanted { want([key]) }
    }

    private mutating func postpone(_ key: Key, _ now: Duration, _ random: inout some RandomNumberGenerator) {
        later[key] = now + waits[key, default: unused].next(using: &random)
    }

    private mutating func pause(
        _ asked: Duration?, _ sentence: String, _ now: Duration, _ random: inout some RandomNumberGenerator
    ) {
        pausedUntil = now + max(asked ?? .zero, trouble.next(using: &random))
        problem = sentence
    }
}
