/// A dataplane ready for use, and how its parts are audited.
import Reconcile

struct OpenDataplane {
    /// When a part is compared with the kernel entry by entry, beside the quick look in every audit.
    enum FullAudit: Sendable {
        /// All the time, a piece with each audit: the kernel does not tell of foreign changes.
        case rolling
        /// When the kernel says that somebody else changed something.
        case whenTold
    }
    struct Part {
        let dataplane: any Dataplane
        let fullAudit: FullAudit

        init(_ dataplane: any Dataplane, fullAudit: FullAudit) {
            self.dataplane = dataplane
            self.fullAudit = fullAudit
        }
    }

    /// Takes the plans.
    let writer: any Dataplane
    let parts: [Part]
    /// Which one and why, for the log and `agentctl status`.
    let reason: String
    let companion: String?
    let foreignChanges: ForeignChanges?
    /// For the log and `agentctl status`.
    let warnings: [String]
    /// `auto` would rather have taken another.
    let isFallback: Bool
    /// Nothing of an earlier agent was in force before this one was opened.
    let isFirstHere: Bool

    /// `fallback`: why `auto` did not take what it prefers.
    init(
        writer: any Dataplane, parts: [Part], reason: String, companion: String? = nil,
        foreignChanges: ForeignChanges? = nil, fallback: String? = nil, isFirstHere: Bool = false
    ) {
        self.isFirstHere = isFirstHere
        self.writer = writer
        self.parts = parts
        self.reason = reason
        self.companion = companion
        self.foreignChanges = foreignChanges
        warnings = fallback.map { [$0] } ?? []
        isFallback = fallback != nil
    }
}
