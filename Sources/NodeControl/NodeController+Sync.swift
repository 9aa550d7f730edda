/// From events to plans.
package import Addressing
import Cluster
import Compile
import DataplaneIR
import Reconcile

/// What came in since the last write, for metrics.
package struct ChangeLog: Sendable {
    /// When the control plane says that a change happened (spec row 149).
    package struct Trigger: Equatable, Sendable {
        package var family: AddressFamily
        /// Seconds since 1970.
        package var time: Double
    }
    package internal(set) var services = 0
    package internal(set) var endpoints = 0
    var triggers: [Trigger] = []

    var isEmpty: Bool { services == 0 && endpoints == 0 }
}

extension NodeController {
    mutating func take(_ event: SourceEvent, from source: Int) {
        switch event {
        case .changes(let changes):
            for change in changes { take(change) }
            sources[source].changedAt = now
        case .synced: sources[source].isComplete = true
        case .podsKnown(let round, let ofAll): notePodsKnown(of: source, round, ofAll: ofAll)
        case .reached(let versions): marks.take(versions)
        case .problems(let problems): report(problems, of: source)
        }
    }

    private mutating func take(_ change: Change) {
        if snapshot.isInForce { snapshot.unconfirmed.remove(change.id) }
        if !isComplete, settings.snapshots != nil { snapshot.toldIDs.insert(change.id) }
        let touched = state.apply(change)
        // Nothing but the listing of others' pods depends on one without an address.
        if case .upsert(.pod(let pod)) = change, pods.scope == .ofNode, state.mesh.localPods[pod.name] != nil,
            state.enrolment(of: pod) == .out(.noAddress)
        {
            mustCompile = true
        }
        guard !touched.isEmpty else { return }
        dirty.formUnion(touched)
        var decisive = touched
        decisive.pods = []
        if !decisive.isEmpty { noteStateChange() }
        switch change {
        case .upsert(.service): noteServiceChange()
        case .upsert(.endpointSlice(let slice)):
            noteEndpointChange()
            if let family = slice.addressType.family, let time = slice.lastChangeTriggerTime,
                time >= startedAtWallTime
            {
                changeLog.triggers.append(.init(family: family, time: time))
            }
        case .delete(let id) where id.kind == .service: noteServiceChange()
        case .delete(let id) where id.kind == .endpointSlice: noteEndpointChange()
        default: break
        }
    }

    private mutating func noteServiceChange() {
        changeLog.services += 1
        act(.measure(.serviceChange))
    }
    private mutating func noteEndpointChange() {
        changeLog.endpoints += 1
        act(.measure(.endpointChange))
    }

    private mutating func report(_ problems: [SourceProblem], of source: Int) {
        let sentences = problems.map(\.description)
        let known = Set(sources[source].problems)
        for sentence in sentences where !known.contains(sentence) { log(.error, sentence) }
        if sentences.isEmpty, !known.isEmpty { log(.info, "\(settings.sourceNames[source]) is readable again") }
        sources[source].problems = sentences
        act(.measure(.sourceProblems(source: source, problems.count)))
    }

    /// Brings the desired state up to date, and plans how the kernel gets there, as far as that may happen now.
    mutating func settle() {
        if !isComplete, hasAddresses, sources.allSatisfy(\.isComplete) {
            (isComplete, mustCompile) = (true, true)
            snapshot.toldIDs = []
            deadlines.snapshot = nil
            confirmSnapshot()
            reconciler.sourceIsComplete()
            noteStateChange()
            // An API server that does not know this node will not get it; a directory need not contain it.
            if settings.sourceKnowsNodes { nodeWasSeen = true }
            noteEligibility(state.nodes[settings.nodeName])
        }
        // Nothing is compiled before everything is known: half a list would compile twice (spec row 158).
        let isDue = mustCompile || !dirty.isEmpty || proxy.deadline.map { $0 <= now } ?? false
        if isDue, isComplete || snapshot.isInForce { compile() }
        // Before that the kernel may hold what is gone meanwhile.
        if isComplete { marks.compiled(proxy.promisedGeneration) }
        deadlines.reconcile = nil
        let mayWrite = proxy.mayWrite(now: now) && mayWriteMesh
        deadlines.proxy = proxy.deadline
        if mayWrite {
            switch reconciler.next(now: now, programs: compiler.programs, node: node) {
            case .rest: trimHandedOver()
            case .wait(let until): deadlines.reconcile = until
            case .apply(let plan): apply(plan)
            }
        }
        if reconciler.status.applied > 0, reconciler.oldestPending == nil {
            closeChangeLog()
            marks.nothingIsPending(now: now)
        }
        marks.acknowledged(acknowledgedGeneration, now: now)
    }

    private mutating func compile() {
        mustCompile = false
        compilations += 1
        let ours = settings.nodeName
        compileMesh()
        // Once a snapshot was in force the kernel holds this agent's work, and no earlier one's routes.
        var (changed, routesDiffer) = compileRoutes(followsAnother: mayFollowAnother)
        // Whether a pod makes tunnels is known with the pods.
        mayFollowAnother = mayFollowAnother && mesh != nil && !knowsPods
        if dirty.nodes.contains(ours) {
            let node = state.nodes[ours]
            nodeInputs.node = node
            noteEligibility(node)
            changed.formUnion(noted(compiler.update(node: NodeFacts(name: ours, zone: node?.zone), from: state)))
        }
        if dirty.serviceCIDRs { nodeInputs.serviceCIDRs = state.serviceCIDRRanges }
        if !dirty.services.isEmpty { changed.formUnion(noted(compiler.update(dirty.services, from: state))) }
        tellFindings(of: dirty.services.union(changed.map { ObjectName($0.namespace, $0.service) }))
        let healthChecksMayDiffer = !dirty.services.isEmpty || !dirty.nodes.isEmpty
        dirty = Dirty()
        if !changed.isEmpty {
            serviceAddresses.update(changed, programs: compiler.programs)
            policyGaps.update(changed, programs: compiler.programs)
            reconciler.changed(changed, now: now)
            act(.measure(.queued(Set(changed.map(\.family)))))
        }
        handOver(changed, routesDiffer: routesDiffer)
        let nodeDiffers = updateNode()
        if healthChecksMayDiffer || nodeDiffers { act(.healthChecks(compiler.healthChecks, node)) }
    }

    /// True if the node program is another than before.
    private mutating func updateNode() -> Bool {
        nodeInputs.serviceAddresses = serviceAddresses.addresses
        var result = nodeProgram(settings, nodeInputs)
        result.program.proxyListeners = proxyListeners()
        result.program.mesh = meshProgram
        for warning in result.warnings where !nodeWarnings.contains(warning) { log(.warning, warning) }
        nodeWarnings = result.warnings
        guard result.program != node else { return false }
        node = result.program
        reconciler.nodeChanged(now: now)
        return true
    }

    private mutating func noteEligibility(_ node: Node?) {
        nodeWasSeen = nodeWasSeen || node != nil
        // Never seen is not deleted: a directory of manifests need not contain the node (spec rows 144, 146).
        nodeIsEligible = node.map { !$0.isToBeDeleted && !$0.hasDeletionTimestamp } ?? !nodeWasSeen
    }

    /// The kernel is up to date with every change so far, also with those that changed nothing there.
    mutating func closeChangeLog() {
        guard !changeLog.isEmpty else { return }
        act(.measure(.programmed(changeLog.triggers)))
        changeLog = ChangeLog()
    }
}
