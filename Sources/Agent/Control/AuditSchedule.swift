/// When which part of the dataplane is compared with the kernel. What costs the same at any size is looked at in every
/// audit. Entries are compared in pieces, so that changes go first: without a pause where there is reason to doubt
/// them, else a thin piece with each audit, so that an idle agent costs the same in every minute.
import Reconcile

struct AuditSchedule {
    struct Part {
        let dataplane: any Dataplane
        let fullAudit: OpenDataplane.FullAudit
        /// When there is or will be reason to compare everything without a pause; nil: none.
        fileprivate(set) var doubtAt: Duration?
        /// When everything is compared without a pause although nobody told, unless it has been in thin pieces before.
        fileprivate var routineAt: Duration?
        /// Being compared without a pause.
        fileprivate(set) var isHurried = false
        /// The next piece is the first.
        fileprivate(set) var isAtStart = true
        /// Before that no thin piece is worth its cost.
        fileprivate var restsUntil = Duration.zero
        /// Somebody writes so often that only a comparison without a pause comes to its end.
        fileprivate var isBusy = false
        /// What the comparison has cost so far, and the entries it has looked at.
        fileprivate var cost = Duration.zero
        fileprivate var looked = 0
        /// Entries of the last whole comparison, and the audits in which the next one is made.
        fileprivate var entries = 0
        fileprivate var audits = 1
        /// Whatever we are told: somebody may change things all the time.
        fileprivate var notBefore = Duration.zero

        /// Of the next piece: some milliseconds at most where it is hurried, which is what a change may wait.
        var pieceSize: Int {
            if isHurried { return 2048 }
            return max(256, entries / audits + 1)
        }

        fileprivate func wantsThinPiece(_ now: Duration) -> Bool {
            guard !isHurried else { return false }
            return fullAudit == .rolling || (!isBusy && doubtAt == nil && restsUntil <= now)
        }
        fileprivate mutating func begin(isHurried: Bool) {
            (self.isHurried, isAtStart, cost, looked) = (isHurried, true, .zero, 0)
        }
        fileprivate func isDue(_ now: Duration) -> Bool {
            [doubtAt, routineAt].contains { at in at.map { $0 <= now } ?? false }
        }
    }

    /// How long to wait before doing something again that took so long: an idle agent costs nearly nothing.
    static func pause(after took: Duration, atLeast period: Duration) -> Duration {
        max(period, min(took * shareOfTime, longestPause))
    }
    private static let shareOfTime = 5000
    private static let shareWhenTold = 10
    private static let longestPause = Duration.seconds(3600)
    /// Where the kernel does not tell of foreign changes everything is looked at within this time.
    private static let longestRound = Duration.seconds(600)

    private(set) var parts: [Part]
    private let period: Duration
    /// The next audit; nil before the first write.
    private(set) var next: Duration?

    init(parts: [OpenDataplane.Part], period: Duration) {
        self.parts = parts.map { Part(dataplane: $0.dataplane, fullAudit: $0.fullAudit, doubtAt: .zero) }
        self.period = period
    }

    /// Something may differ that nobody has looked at since.
    var isDoubted: Bool { parts.contains { $0.isHurried || $0.isDue(next ?? $0.doubtAt ?? .zero) } }

    /// A full plan is proven soon, entry by entry.
    mutating func afterWrite(_ plan: Plan, now: Duration) -> Duration {
        if plan.isFull {
            for index in parts.indices { doubt(index, at: now) }
            next = now + min(period, .milliseconds(500))
        }
        // Thin pieces would only look at the same again and again.
        for index in parts.indices where parts[index].fullAudit == .whenTold && !parts[index].isHurried {
            parts[index].begin(isHurried: false)
        }
        let at = next ?? now + period
        next = at
        return at
    }

    mutating func foreignChange(in name: String, now: Duration) {
        for index in parts.indices where parts[index].dataplane.name == name {
            doubt(index, at: parts[index].notBefore)
        }
        // Not at once: whoever changes our objects often does so more than once.
        if next != nil { next = min(next ?? now, now + .milliseconds(100)) }
    }

    private mutating func doubt(_ index: Int, at time: Duration) {
        parts[index].doubtAt = min(parts[index].doubtAt ?? time, time)
    }

    /// Begins the comparisons that are due, and plans the next audit. Returns the parts of which a piece goes with this
    /// audit.
    mutating func beginAudit(now: Duration) -> [Int] {
        next = now + period
        var pieces: [Int] = []
        for index in parts.indices {
            // One that runs is ended first: else it might never be.
            if !parts[index].isHurried, parts[index].isDue(now) {
                if let at = parts[index].doubtAt, at <= now { parts[index].doubtAt = nil }
                parts[index].begin(isHurried: true)
            }
            if parts[index].wantsThinPiece(now) { pieces.append(index) }
        }
        return pieces
    }

    /// Those whose next piece is wanted as soon as nothing else is to be done.
    var hurried: [Int] { parts.indices.filter { parts[$0].isHurried } }

    mutating func compared(_ index: Int, _ piece: ComparedPiece, took: Duration, now: Duration) {
        parts[index].cost += took
        parts[index].looked += piece.entries
        parts[index].isAtStart = piece.isLast
        let part = parts[index]
        if piece.isSpoilt, !part.isHurried {
            parts[index].isBusy = true
            parts[index].begin(isHurried: false)
        } else if piece.isLast {
            parts[index].begin(isHurried: false)
            parts[index].entries = part.looked
            if part.isHurried { parts[index].notBefore = now + part.cost * Self.shareWhenTold }
            parts[index].isBusy = false
            if let told = part.doubtAt { parts[index].doubtAt = max(told, parts[index].notBefore) }
            planNext(index, after: part.cost, now: now)
        }
    }

    private mutating func planNext(_ index: Int, after cost: Duration, now: Duration) {
        guard parts[index].fullAudit == .whenTold else {
            parts[index].audits = Self.audits(in: Self.longestRound, period)
            return
        }
        // Nobody should have changed anything: this only makes sure.
        let pause = Self.pause(after: cost, atLeast: .seconds(60))
        parts[index].routineAt = now + pause
        // Done somewhat earlier, it need not be done without a pause.
        let round = pause * 3 / 4
        parts[index].audits = Self.audits(in: round, period)
        parts[index].restsUntil = now + round - period * (parts[index].entries / parts[index].pieceSize)
    }
    private static func audits(in time: Duration, _ period: Duration) -> Int { max(1, Int(time / period)) }

    /// A difference was found or looking failed: whatever is under way is worth nothing.
    mutating func giveUp(_ index: Int, now: Duration) {
        parts[index].begin(isHurried: false)
        doubt(index, at: now)
    }
}
