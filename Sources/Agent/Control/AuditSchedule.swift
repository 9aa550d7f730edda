/// When which part of the dataplane is compared with the kernel. The quick comparison happens at every audit. The full
/// one walks all entries, so it is either paced by what it costs, or waits until the kernel reports a foreign change.
import Reconcile

struct AuditSchedule {
    struct Part {
        let dataplane: any Dataplane
        let fullAudit: OpenDataplane.FullAudit
        /// When the next full comparison is due; nil: when told.
        var fullAt: Duration?
        /// Not before this, whatever we are told: somebody may change things all the time.
        var notBefore = Duration.zero
    }
    /// How long to wait before doing something again that took so long.
    static func pause(after took: Duration, atLeast period: Duration) -> Duration {
        max(period, min(took * shareOfTime, longestPeriod))
    }

    struct Job {
        let index: Int
        let dataplane: any Dataplane
        let isQuick: Bool
    }

    /// A full comparison may take this share of the time: 10 ms every two seconds.
    private static let shareOfTime = 200
    private static let shareWhenTold = 10
    private static let longestPeriod = Duration.seconds(60)

    private(set) var parts: [Part]
    private let period: Duration
    /// The next audit; nil before the first write.
    private(set) var next: Duration?

    init(parts: [OpenDataplane.Part], period: Duration) {
        self.parts = parts.map { Part(dataplane: $0.dataplane, fullAudit: $0.fullAudit, fullAt: .zero) }
        self.period = period
    }

    /// A full plan is proven soon, entry by entry.
    mutating func afterWrite(_ plan: Plan, now: Duration) -> Duration {
        if plan.isFull {
            for index in parts.indices { parts[index].fullAt = .zero }
            next = now + min(period, .milliseconds(500))
        }
        let at = next ?? now + period
        next = at
        return at
    }

    mutating func foreignChange(in name: String, now: Duration) {
        for index in parts.indices where parts[index].dataplane.name == name {
            parts[index].fullAt = parts[index].notBefore
        }
        // Not at once: whoever changes our objects often does so more than once.
        if next != nil { next = min(next ?? now, now + .milliseconds(100)) }
    }

    func jobs(now: Duration) -> [Job] {
        parts.enumerated().map { index, part in
            Job(index: index, dataplane: part.dataplane, isQuick: part.fullAt.map { $0 > now } ?? true)
        }
    }

    mutating func done(_ job: Job, took: Duration, foundDrift: Bool, now: Duration) {
        guard !job.isQuick || foundDrift else { return }
        let pause = Self.pause(after: took, atLeast: period)
        parts[job.index].fullAt = foundDrift ? .zero : parts[job.index].fullAudit == .paced ? now + pause : nil
        if !job.isQuick { parts[job.index].notBefore = now + took * Self.shareWhenTold }
    }

    /// Plans the audit after the one that just ended.
    mutating func finish(now: Duration) -> Duration {
        let at = now + period
        next = at
        return at
    }
}
