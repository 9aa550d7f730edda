/// Decides when to write what: a state machine without clock, threads or kernel. The driver tells it what happened and
/// does what `next` says; time and randomness come as arguments. Level-triggered: only the names of what is out of
/// date are kept, so any number of edits between two writes collapse into one (spec rows 66, 160).
package import DataplaneIR

package struct Reconciler: Sendable {
    package struct Options: Sendable {
        /// Least time between two writes; the first change after a quiet time is written at once.
        package var minSyncPeriod: Duration = .zero
        package var firstRetry: Duration = .milliseconds(100)
        package var lastRetry: Duration = .seconds(30)
        /// After so many failures in a row the next try is a full plan.
        package var failuresBeforeFull = 3
        /// How long a service that did not fit waits before it is tried again without any other reason.
        package var refusedRetry: Duration = .seconds(30)

        /// Always in the kernel, whatever the cluster's services are.
        package var ownPrograms: [ServiceProgram] = []

        package init() {}
    }
    package enum Action: Sendable {
        /// Nothing to do until something happens.
        case rest
        /// Nothing to do before this time.
        case wait(until: Duration)
        case apply(Plan)
    }
    package struct Status: Sendable, Equatable {
        /// The last generation that is in the kernel; 0: none yet.
        package var applied: UInt64 = 0
        package var attempted: UInt64 = 0
        /// Nothing is waiting to be written, and nothing was refused or failed.
        package var isInSync = false
        package var failuresInARow = 0
        package var lastError: String?
        package var lastApplied: Duration?
        package var pending = 0
        package var refused: [ServicePortID: String] = [:]
        package var plans: UInt64 = 0
        package var fullPlans: UInt64 = 0
        package var failures: UInt64 = 0
    }

    private let options: Options
    private let own: [ServicePortID: ServiceProgram]
    private var isReady = false
    private var needsFull = true
    private var nodeChanged = false
    private var pending: Set<ServicePortID> = []
    /// What the plan in flight covers, put back if it fails.
    private var inFlight: (ids: Set<ServicePortID>, node: Bool, full: Bool)?
    private var notBefore: Duration = .zero
    private var retryRefusedAt: Duration?
    /// When the oldest change now waiting was announced (spec row 146).
    package private(set) var oldestPending: Duration?
    package private(set) var status = Status()

    package init(options: Options = Options()) {
        self.options = options
        own = Dictionary(uniqueKeysWithValues: options.ownPrograms.map { ($0.id, $0) })
    }

    // MARK: What happened

    /// The source has delivered everything there was at the start: writing may begin (spec row 158).
    package mutating func sourceIsComplete() { isReady = true }

    package mutating func changed(_ ids: Set<ServicePortID>, now: Duration) {
        guard !ids.isEmpty else { return }
        pending.formUnion(ids)
        oldestPending = oldestPending ?? now
        updateStatus()
    }

    package mutating func nodeChanged(now: Duration) {
        nodeChanged = true
        oldestPending = oldestPending ?? now
        updateStatus()
    }

    /// The kernel differs from what was written, or may: write everything that differs, now.
    package mutating func driftFound(now: Duration) {
        needsFull = true
        notBefore = min(notBefore, now)
        oldestPending = oldestPending ?? now
        updateStatus()
    }

    // MARK: What to do

    /// `programs` and `node` are the desired state at this moment.
    package mutating func next(
        now: Duration, programs: [ServicePortID: ServiceProgram], node: NodeProgram
    ) -> Action {
        guard isReady, inFlight == nil else { return .rest }
        if let at = retryRefusedAt, now >= at {
            retryRefusedAt = nil
            changed(Set(status.refused.keys), now: now)
        }
        guard needsFull || nodeChanged || !pending.isEmpty else {
            return retryRefusedAt.map { .wait(until: $0) } ?? .rest
        }
        guard now >= notBefore else { return .wait(until: notBefore) }

        let own = own
        let program = { (id: ServicePortID) in programs[id] ?? own[id] }
        let upserts = needsFull ? Array(programs.values) + options.ownPrograms : pending.compactMap(program)
        let removals = needsFull ? [] : pending.filter { program($0) == nil }.sorted()
        // What goes makes room: the services that did not fit get another try in the next plan.
        let retried = removals.isEmpty ? [] : Set(status.refused.keys).subtracting(pending)
        pending.formUnion(retried)
        inFlight = (pending, nodeChanged, needsFull)
        status.attempted += 1
        status.plans += 1
        status.fullPlans += needsFull ? 1 : 0
        let plan = Plan(
            generation: status.attempted, node: node,
            upserts: (upserts + retried.compactMap(program)).sorted { $0.id < $1.id }, removals: removals,
            isFull: needsFull)
        pending = []
        (needsFull, nodeChanged) = (false, false)
        updateStatus()
        return .apply(plan)
    }

    package mutating func succeeded(_ receipt: Receipt, now: Duration) {
        guard let done = inFlight else { return }
        inFlight = nil
        status.applied = receipt.generation
        status.failuresInARow = 0
        status.lastError = nil
        status.lastApplied = now
        if done.full {
            status.refused = receipt.refused
        } else {
            for id in done.ids { status.refused[id] = nil }
            status.refused.merge(receipt.refused) { $1 }
        }
        retryRefusedAt = status.refused.isEmpty ? nil : now + options.refusedRetry
        notBefore = now + options.minSyncPeriod
        oldestPending = pending.isEmpty && !needsFull && !nodeChanged ? nil : now
        updateStatus()
    }

    /// `jitter` is a random number in 0..<1: retries of many nodes must not fall together.
    package mutating func failed(_ error: DataplaneError, now: Duration, jitter: Double) {
        guard let failedPlan = inFlight else { return }
        inFlight = nil
        pending.formUnion(failedPlan.ids)
        nodeChanged = nodeChanged || failedPlan.node
        status.failures += 1
        status.failuresInARow += 1
        status.lastError = error.description
        needsFull = needsFull || failedPlan.full || status.failuresInARow >= options.failuresBeforeFull
        let doublings = min(status.failuresInARow - 1, 20)
        let delay = min(options.firstRetry * (1 << doublings), options.lastRetry)
        notBefore = now + delay * (0.5 + jitter / 2)
        updateStatus()
    }

    private mutating func updateStatus() {
        status.pending = pending.count
        status.isInSync =
            status.applied > 0 && inFlight == nil && pending.isEmpty && !needsFull && !nodeChanged
            && status.failuresInARow == 0 && status.refused.isEmpty
    }
}
