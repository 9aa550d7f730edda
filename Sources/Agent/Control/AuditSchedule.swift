/// When which part of the dataplane is compared with the kernel. What costs the same at any size is looked at in every
/// audit. Entries are compared in pieces, so that changes go first: without a pause where there is reason to doubt
/// them, else a piece with each audit, or all of them now and then where the kernel itself tells of foreign changes.
import Reconcile

struct AuditSchedule {
    struct Part {
        let dataplane: any Dataplane
        let fullAudit: OpenDataplane.FullAudit
        /// When there is or will be reason to compare everything without a pause; nil: none.
        fileprivate(set) var doubtAt: Duration?
        /// Being compared without a pause.
        fileprivate(set) var isHurried = false
        /// The next piece is the first.
        fileprivate(set) var isAtStart = true
        /// What the comparison has cost so far.
        fileprivate var cost = Duration.zero
        /// Whatever we are told: somebody may change things all the time.
        fileprivate var notBefore = Duration.zero

        var isDoubted: Bool { isHurried || doubtAt != nil }
    }

    /// How long to wait before doing something again that took so long: an idle agent costs nearly nothing.
    static func pause(after took: Duration, atLeast period: Duration) -> Duration {
        max(period, min(took * shareOfTime, longestPause))
    }
    private static let shareOfTime = 5000
    private static let shareWhenTold = 10
    private static let longestPause = Duration.seconds(3600)

    private(set) var parts: [Part]
    private let period: Duration
    /// The next audit; nil before the first write.
    private(set) var next: Duration?

    init(parts: [OpenDataplane.Part], period: Duration) {
        self.parts = parts.map { Part(dataplane: $0.dataplane, fullAudit: $0.fullAudit, doubtAt: .zero) }
        self.period = period
    }

    /// Something may differ that nobody has looked at since.
    var isDoubted: Bool { parts.contains { part in part.isHurried || part.doubtAt.map { $0 <= next ?? $0 } ?? false } }

    /// A full plan is proven soon, entry by entry.
    mutating func afterWrite(_ plan: Plan, now: Duration) -> Duration {
        if plan.isFull {
            for index in parts.indices { doubt(index, at: now) }
            next = now + min(period, .milliseconds(500))
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
            if let at = parts[index].doubtAt, at <= now, !parts[index].isHurried {
                parts[index].doubtAt = nil
                (parts[index].isHurried, parts[index].isAtStart, parts[index].cost) = (true, true, .zero)
            }
            if !parts[index].isHurried, parts[index].fullAudit == .rolling { pieces.append(index) }
        }
        return pieces
    }

    /// Those whose next piece is wanted as soon as nothing else is to be done.
    var hurried: [Int] { parts.indices.filter { parts[$0].isHurried } }

    mutating func compared(_ index: Int, isLast: Bool, took: Duration, now: Duration) {
        parts[index].cost += took
        parts[index].isAtStart = isLast
        guard isLast, parts[index].isHurried else { return }
        parts[index].isHurried = false
        parts[index].notBefore = now + parts[index].cost * Self.shareWhenTold
        if let told = parts[index].doubtAt {
            parts[index].doubtAt = max(told, parts[index].notBefore)
        } else if parts[index].fullAudit == .whenTold {
            // Nobody should have changed anything: this only makes sure.
            parts[index].doubtAt = now + Self.pause(after: parts[index].cost, atLeast: .seconds(60))
        }
    }

    /// A difference was found or looking failed: whatever is under way is worth nothing.
    mutating func giveUp(_ index: Int, now: Duration) {
        (parts[index].isHurried, parts[index].isAtStart) = (false, true)
        doubt(index, at: now)
    }
}
