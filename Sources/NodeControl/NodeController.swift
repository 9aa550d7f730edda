/// What the agent decides, as a value: it takes in what sources and watchers tell, keeps the desired state, and says
/// what is to be done. It has no clock, makes no system call and waits for nobody, so that a whole agent can be run in
/// a test, with any order of events and any failure.
///
/// Events only mark what is out of date; `next` does the work. So a burst of events costs one compilation and one
/// write. Whoever drives it feeds events with `take`, and does what `next` says until it says nothing; then nothing is
/// to do before `deadline` or the next event.
import Addressing
import AdminAPI
package import Cluster
package import Compile
package import DataplaneIR
import HandOver
package import Reconcile
import RouteIR

package struct NodeController: Sendable {
    let settings: NodeSettings
    /// As of what was said last.
    var now: Duration
    /// In seconds since 1970: what happened before says nothing about us.
    let startedAtWallTime: Double
    private var outbox: [NodeAction] = []

    package internal(set) var state: ClusterState
    var dirty = Dirty()
    /// Something other than the state came in that decides what is compiled: addresses, proxies, pods that are known.
    var mustCompile = true
    /// How often everything was compiled that was out of date (tested: not more often than needed).
    package internal(set) var compilations = 0
    package internal(set) var compiler: Compiler
    package internal(set) var routes: RouteCompiler
    /// nil: there is no mesh, or no proxy that could make tunnels.
    package internal(set) var mesh: MeshCompiler?
    package internal(set) var proxy: ProxyControl
    var proxyWasNeeded = false
    /// Proxies that run another program than the installed one.
    var outdatedProxies: Set<UInt32> = []
    /// Proxies that were asked to end and have not yet.
    var toldToLeave: Set<UInt32> = []
    var tended: TendedProxies?
    var pods = PodFollowing()
    package internal(set) var reconciler: Reconciler
    package internal(set) var marks = Marks()
    private var isStopping = false
    /// A plan is being applied.
    private(set) var isWriting = false
    package internal(set) var lastWrite: (at: Duration, took: Duration)?
    private var writeBegan = Duration.zero
    private var plannedNow: Plan?
    var nodeInputs = NodeInputs()
    package internal(set) var node: NodeProgram
    var nodeWarnings: [String] = []
    package internal(set) var hasAddresses = false
    var nodeWasSeen = false
    /// Of our Node object (spec row 144).
    package internal(set) var nodeIsEligible = true
    var serviceAddresses = ServiceAddressIndex()
    package internal(set) var policyGaps = LocalPolicyGaps()
    package internal(set) var sources: [SourceState]
    package internal(set) var isComplete = false
    /// Routes may be in force that this agent knows nothing of yet.
    var mayFollowAnother: Bool
    /// An earlier agent has written of the mesh, and this one does not know yet who is in it.
    var awaitsMesh: Bool
    package internal(set) var changeLog = ChangeLog()
    var removedBackends = RemovedBackends()
    package internal(set) var snapshot = SnapshotPolicy()
    var deadlines = Deadlines()
    var flowNames = FlowNames()
    /// Counts up when findings of routes differ, which no write to the kernel shows.
    package internal(set) var findingsVersion = 0

    /// What a source has said of itself.
    package struct SourceState: Equatable, Sendable {
        package internal(set) var isComplete = false
        package internal(set) var changedAt: Duration?
        package internal(set) var problems: [String] = []
    }

    struct TendedProxies: Equatable {
        var isNeeded: Bool
        var succession: ProxySuccession
    }

    struct Deadlines {
        var reconcile: Duration?
        var garbage: Duration?
        var snapshot: Duration?
        var proxy: Duration?
        var pods: Duration?

        var next: Duration? { [reconcile, garbage, snapshot, proxy, pods].compactMap { $0 }.min() }
    }

    /// `generation`: of hand-overs, larger than any that an earlier agent gave. `wallTime`: seconds since 1970.
    /// `isFirstHere`: nothing of an earlier agent is in force in the kernel.
    package init(
        _ settings: NodeSettings, generation: UInt64, isFirstHere: Bool = false, now: Duration, wallTime: Double
    ) {
        self.settings = settings
        mayFollowAnother = !isFirstHere
        self.now = now
        startedAtWallTime = wallTime
        mesh = settings.proxy == .off ? nil : settings.mesh.map(MeshCompiler.init)
        state = ClusterState(meshNode: mesh == nil ? nil : settings.nodeName)
        var options = CompilerOptions(proxyName: settings.serviceProxyName)
        options.servesExternalIPs = settings.servesExternalIPs
        options.failsOpen = settings.l7Failure == .open
        let facts = NodeFacts(name: settings.nodeName)
        compiler = Compiler(node: facts, options: options)
        routes = RouteCompiler(node: facts, options: options)
        proxy = ProxyControl(nodeName: settings.nodeName, generation: generation)
        var reconcilerOptions = Reconciler.Options()
        reconcilerOptions.minSyncPeriod = settings.minSyncPeriod
        reconcilerOptions.ownPrograms = settings.ownPrograms
        reconciler = Reconciler(options: reconcilerOptions)
        node = NodeProgram(nodeName: settings.nodeName)
        sources = Array(repeating: SourceState(), count: settings.sourceNames.count)
        deadlines.snapshot = settings.snapshots.map { now + $0.patience }
        awaitsMesh = mesh != nil && !isFirstHere
    }

    /// When `next` is to be called although nothing happened.
    package var deadline: Duration? { deadlines.next }

    package mutating func take(_ event: NodeEvent, now: Duration) {
        self.now = now
        switch event {
        case .source(let index, let event): take(event, from: index)
        case .addresses(let addresses):
            nodeInputs.addresses = addresses
            (hasAddresses, mustCompile) = (true, true)
            serviceAddresses.reset(local: nodeInputs.interfaceAddresses, programs: compiler.programs)
        case .proxies(let proxies, let outdated): take(proxies, outdated)
        case .applied(let result, let jitter): applied(result, jitter)
        case .collected(let result): collected(result)
        case .drift: reconciler.driftFound(now: now)
        case .snapshot(let finding): take(finding)
        case .observed:
            pods.observedUntil = now + settings.observerPatience
            followPods()
        case .stopping:
            isStopping = true
            saveSnapshot()
        }
    }

    /// What is to be done now, in this order; nothing: everything is done. A plan is the last of them.
    package mutating func next(now: Duration) -> [NodeAction] {
        self.now = now
        if !isWriting, !isStopping {
            passDeadlines()
            settle()
        }
        defer { outbox = [] }
        return outbox
    }

    mutating func act(_ action: NodeAction) { outbox.append(action) }
    mutating func log(_ level: NodeLogLine.Level, _ text: String, _ metadata: [String: String] = [:]) {
        outbox.append(.log(NodeLogLine(level, text, metadata)))
    }

    private mutating func passDeadlines() {
        if let at = deadlines.garbage, at <= now {
            deadlines.garbage = nil
            act(.collectGarbage)
        }
        if let at = deadlines.snapshot, at <= now {
            deadlines.snapshot = nil
            passSnapshotDeadline()
        }
        if let at = deadlines.pods, at <= now { followPods() }
    }
}

extension NodeController {
    /// How long readers may still use what a write replaced.
    private static let gracePeriod = Duration.milliseconds(200)

    mutating func apply(_ plan: Plan) {
        isWriting = true
        marks.planned()
        plannedNow = plan
        writeBegan = now
        act(.apply(plan))
    }

    private mutating func applied(_ result: Result<Receipt, DataplaneError>, _ jitter: Double) {
        guard isWriting, let plan = plannedNow else { return }
        (isWriting, plannedNow) = (false, nil)
        switch result {
        case .success(let receipt):
            reconciler.succeeded(receipt, now: now)
            marks.written(now: now)
            lastWrite = (now, now - writeBegan)
            noteSuccess(plan, receipt, took: now - writeBegan)
            deadlines.garbage = now + Self.gracePeriod
        case .failure(let error):
            reconciler.failed(error, now: now, jitter: jitter)
            act(.measure(.writeFailed))
            log(
                .error, "writing to the kernel failed and will be tried again: \(error)",
                ["generation": "\(plan.generation)", "failures": "\(reconciler.status.failuresInARow)"])
        }
    }

    private mutating func noteSuccess(_ plan: Plan, _ receipt: Receipt, took: Duration) {
        act(.measure(.written(plan, receipt, took: took)))
        closeChangeLog()
        tellRefused(receipt)
        for (id, reason) in receipt.refused { log(.error, "\(id.displayName) was not programmed: \(reason)") }
        log(
            plan.isFull ? .info : .debug, "wrote generation \(plan.generation)",
            [
                "servicePorts": "\(plan.upserts.count)", "removed": "\(plan.removals.count)",
                "operations": "\(receipt.operations)", "full": "\(plan.isFull)",
                "ms": "\((took.seconds * 10000).rounded() / 10)",
            ])
    }

    private mutating func collected(_ result: Result<Void, DataplaneError>) {
        guard case .failure(let error) = result else { return }
        // It stays for the next time; nothing that serves traffic depends on it.
        act(.measure(.collectionFailed))
        log(.warning, "freeing replaced kernel entries failed: \(error)")
        deadlines.garbage = now + .seconds(1)
    }
}
