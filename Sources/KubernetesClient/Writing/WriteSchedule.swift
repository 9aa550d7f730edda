/// What is to be written, and when: each key once at a time, a few at once. A key that fails is tried again in pauses
/// that grow, and holds nobody else up; when the server has trouble all wait. A key stands for whatever should be
/// written when its turn comes, so that a newer wish costs nothing.

private enum Limits {
    /// So many different keys fail in a row, and not one that failed before: that is the server's trouble.
    static let suspicious = 3
    /// The object is not as we know it. Whatever brings it will want the key again.
    static let conflictsTaken = 4
    /// Turns that come again do so at multiples of this, so that many of them are looked for together.
    static let tick = Duration.milliseconds(100)
}

package struct WriteSchedule<Key: Hashable & Sendable>: Sendable {
    /// What came of a turn.
    package enum Result: Equatable, Sendable {
        /// There was nothing to write any more.
        case nothing
        case outcome(WriteOutcome)
    }
    /// A key whose last turn brought nothing.
    private struct Failing: Sendable {
        var backoff: Backoff
        /// In a row, since it was wanted last.
        var conflicts = 0
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
    /// Their turn comes again then, unless they are wanted earlier.
    private var later: [Key: Duration] = [:]
    /// No turn of those comes earlier.
    private var nextLater: Duration?
    private var failing: [Key: Failing] = [:]
    /// Why; of those that only had too little time there is nothing to tell.
    private var problems: [Key: String] = [:]
    /// Failed since a write was last done; of those some for the first time.
    private var failedInARow: Set<Key> = []
    private var newInARow = 0
    /// Nothing is written before.
    private var pausedUntil = Duration.zero
    private var trouble: Backoff
    /// Why something that is wanted was not written, for people; nil once all is.
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
                if later.isEmpty { nextLater = nil }
                failing[key]?.conflicts = 0
                line.append(key)
            }
        }
    }

    /// What has no turn yet gets none.
    package mutating func forgetAll() {
        (line, begun, inLine) = ([], 0, [])
        (again, later, nextLater, failing) = ([], [:], nil, [:])
        (problems, failedInARow, newInARow) = ([:], [], 0)
        (pausedUntil, trouble, problem) = (.zero, unused, nil)
    }

    /// Whose turn it is; `ended` must follow.
    package mutating func next(now: Duration) -> Key? {
        guard underWay.count < concurrency, pausedUntil <= now else { return nil }
        // While the server has trouble one at a time finds out whether it still has.
        guard trouble.failures == 0 || underWay.isEmpty else { return nil }
        takeThoseDue(now)
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

    private mutating func takeThoseDue(_ now: Duration) {
        guard let at = nextLater, at <= now else { return }
        nextLater = nil
        for (key, at) in later {
            guard at <= now else {
                nextLater = min(nextLater ?? at, at)
                continue
            }
            later[key] = nil
            if inLine.insert(key).inserted { line.append(key) }
        }
    }

    /// When `next` may say something although nothing happens; nil: never.
    package func nextTurn(now: Duration) -> Duration? {
        guard underWay.count < concurrency, trouble.failures == 0 || underWay.isEmpty else { return nil }
        let first = begun < line.count ? now : nextLater
        return first.map { max($0, pausedUntil) }
    }

    /// What is worth a line in the log: each key's problem once, and not what was the last problem already.
    @discardableResult package mutating func ended(
        _ key: Key, _ result: Result, now: Duration, using random: inout some RandomNumberGenerator
    ) -> String? {
        guard underWay.remove(key) != nil else { return nil }
        let (told, known) = (problem, problems[key])
        if again.remove(key) != nil { want([key]) }
        switch result {
        case .nothing, .outcome(.written), .outcome(.unchanged), .outcome(.failed(.gone)):
            succeeded(key, now)
            return nil
        case .outcome(.failed(.refused(let sentence))), .outcome(.failed(.tooLarge(let sentence))):
            // The same will be refused again; another wish may not be.
            succeeded(key, now)
            problem = sentence
        case .outcome(.failed(.conflict(let sentence))):
            // The watch brings what we have not seen yet, and with it the wish; this is for when it already has.
            noteAnswer(now)
            problem = sentence
            failing[key, default: Failing(backoff: unused)].conflicts += 1
            guard failing[key].map({ $0.conflicts < Limits.conflictsTaken }) == true else {
                (failing[key], problems[key]) = (nil, nil)
                break
            }
            postpone(key, sentence, now, &random)
        case .outcome(.failed(.fenced)):
            // Too little time was left to this term; the next renewal may give more. Whoever leads no more forgets all.
            postpone(key, nil, now, &random)
        case .outcome(.failed(.throttled(let sentence, let time))):
            problem = sentence
            pause(time, now, &random)
            want([key])
        case .outcome(.failed(.forbidden(let sentence))), .outcome(.failed(.trouble(let sentence))):
            problem = sentence
            if failedInARow.insert(key).inserted, failing[key] == nil { newInARow += 1 }
            if trouble.failures > 0 || newInARow >= Limits.suspicious { pause(nil, now, &random) }
            postpone(key, sentence, now, &random)
        }
        return problem == told || problem == known ? nil : problem
    }

    private mutating func succeeded(_ key: Key, _ now: Duration) {
        (failing[key], problems[key]) = (nil, nil)
        noteAnswer(now)
        problem = problems.values.first
    }

    /// The server does what it is asked to. What its trouble held up goes on.
    private mutating func noteAnswer(_ now: Duration) {
        if trouble.failures > 0 { want(failedInARow.filter { later[$0] != nil }) }
        trouble.reset()
        (failedInARow, newInARow) = ([], 0)
    }

    private mutating func postpone(
        _ key: Key, _ problem: String?, _ now: Duration, _ random: inout some RandomNumberGenerator
    ) {
        var entry = failing[key] ?? Failing(backoff: unused)
        let at = now + entry.backoff.next(using: &random)
        (failing[key], problems[key]) = (entry, problem)
        // Wanted again meanwhile: perhaps something else is to be written now.
        guard !inLine.contains(key) else { return }
        let ticks = (at / Limits.tick).rounded(.up)
        later[key] = Limits.tick * ticks
        nextLater = min(nextLater ?? Limits.tick * ticks, Limits.tick * ticks)
    }

    /// Those under way when it began say nothing new.
    private mutating func pause(_ asked: Duration?, _ now: Duration, _ random: inout some RandomNumberGenerator) {
        if pausedUntil <= now { pausedUntil = now + trouble.next(using: &random) }
        if let asked { pausedUntil = max(pausedUntil, now + asked) }
    }
}
