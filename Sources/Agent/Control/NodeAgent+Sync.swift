/// From events to kernel writes.
import Addressing
import AdminAPI
import CLinux
import Cluster
import Compile
import DataplaneIR
import Glibc
import Logging
import Reconcile
import Telemetry

/// What came in since the last write, for metrics.
struct ChangeLog {
    var services = 0
    var endpoints = 0
    /// When the control plane says the change happened (spec row 149), by family.
    var triggers: [(family: AddressFamily, time: Double)] = []

    var isEmpty: Bool { services == 0 && endpoints == 0 }
}

extension NodeAgent {
    /// How long readers may still use what a write replaced.
    private static let gracePeriod = Duration.milliseconds(200)

    func take(_ event: SourceEvent, from source: Int) {
        switch event {
        case .changes(let changes):
            for change in changes { take(change) }
            environment.board.update { $0.sourceChangedAt[source] = now }
        case .synced:
            completeSources.insert(source)
            environment.board.update { $0.status.sources[source].complete = true }
        case .podsKnown: pods.told.insert(source)
        case .problems(let problems): report(problems, of: source)
        }
        settleSoon()
    }

    private func take(_ change: Change) {
        if snapshot.isInForce { snapshot.unconfirmed.remove(change.id) }
        if !isComplete, environment.snapshot.load != nil { toldIDs.insert(change.id) }
        let touched = state.apply(change)
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
                changeLog.triggers.append((family, time))
            }
        case .delete(let id) where id.kind == .service: noteServiceChange()
        case .delete(let id) where id.kind == .endpointSlice: noteEndpointChange()
        default: break
        }
    }

    private func noteServiceChange() {
        changeLog.services += 1
        metrics.serviceChanges.add()
    }
    private func noteEndpointChange() {
        changeLog.endpoints += 1
        metrics.endpointChanges.add()
    }

    private func report(_ problems: [SourceProblem], of source: Int) {
        let sentences = problems.map(\.description)
        let known = Set(environment.board.now.status.sources[source].problems)
        for sentence in sentences where !known.contains(sentence) { log.error("\(sentence)") }
        if sentences.isEmpty, !known.isEmpty { log.info("\(environment.sources[source].name) is readable again") }
        environment.board.update { $0.status.sources[source].problems = sentences }
        metrics.sourceProblems.set(Double(problems.count), environment.sources[source].name)
    }

    /// Brings the kernel to where it should be, as far as that may happen now.
    func settle() {
        let isFirst = !isComplete
        if !isComplete, hasAddresses, completeSources.count == environment.sources.count {
            isComplete = true
            toldIDs = []
            deadlines.snapshot = nil
            confirmSnapshot()
            reconciler.sourceIsComplete()
            noteStateChange()
            // An API server that does not know this node will not get it; a directory need not contain it.
            if case .kubernetes = configuration.source { nodeWasSeen = true }
            noteEligibility(state.nodes[configuration.nodeName])
        }
        // Nothing is compiled before everything is known: half a list would compile twice (spec row 158).
        if isComplete || snapshot.isInForce { compile(isFirst: isFirst) }
        deadlines.reconcile = nil
        let mayWrite = proxy.mayWrite(now: now)
        deadlines.proxy = proxy.deadline
        planning: while mayWrite {
            switch reconciler.next(now: now, programs: compiler.programs, node: node) {
            case .rest:
                trimHandedOver()
                break planning
            case .wait(let until):
                deadlines.reconcile = until
                break planning
            case .apply(let plan): apply(plan)
            }
        }
        if reconciler.status.applied > 0, reconciler.oldestPending == nil { closeChangeLog() }
        armTimer()
        publish()
    }

    private func compile(isFirst: Bool) {
        let ours = configuration.nodeName
        var (changed, routesDiffer) = compileRoutes(isFirst: isFirst)
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
            noteQueued(changed)
        }
        handOver(changed, routesDiffer: routesDiffer)
        let nodeDiffers = updateNode()
        if healthChecksMayDiffer || nodeDiffers { environment.healthChecks(compiler.healthChecks, node) }
    }

    /// True if the node program is another than before.
    private func updateNode() -> Bool {
        nodeInputs.serviceAddresses = serviceAddresses.addresses
        var result = nodeProgram(configuration, nodeInputs)
        result.program.proxyListeners = proxyListeners()
        for warning in result.warnings where !nodeWarnings.contains(warning) { log.warning("\(warning)") }
        nodeWarnings = result.warnings
        guard result.program != node else { return false }
        node = result.program
        reconciler.nodeChanged(now: now)
        return true
    }

    private func noteEligibility(_ node: Node?) {
        nodeWasSeen = nodeWasSeen || node != nil
        // Never seen is not deleted: a directory of manifests need not contain the node (spec rows 144, 146).
        let eligible = node.map { !$0.isToBeDeleted && !$0.hasDeletionTimestamp } ?? !nodeWasSeen
        environment.board.update { $0.nodeEligible = eligible }
    }

    private func apply(_ plan: Plan) {
        let start = now
        do throws(DataplaneError) {
            let receipt = try dataplane.writer.apply(plan)
            let end = now
            reconciler.succeeded(receipt, now: end)
            noteSuccess(plan, receipt, start: start, end: end)
            deadlines.garbage = end + Self.gracePeriod
            deadlines.audit = audit.afterWrite(plan, now: end)
        } catch {
            reconciler.failed(error, now: now, jitter: .random(in: 0..<1))
            metrics.failures.add()
            for family in AddressFamily.allCases { metrics.syncFailures.add(1, family.description) }
            log.error(
                "writing to the kernel failed and will be tried again: \(error)",
                metadata: ["generation": "\(plan.generation)", "failures": "\(reconciler.status.failuresInARow)"])
        }
    }

    private func noteSuccess(_ plan: Plan, _ receipt: Receipt, start: Duration, end: Duration) {
        noteMetrics(plan, receipt, took: (end - start).seconds)
        environment.board.update { contents in
            contents.lastSyncAt = end
            contents.status.sync.lastSyncDurationSeconds = (end - start).seconds
            contents.status.dataplane.attached = true
        }
        tellRefused(receipt)
        for (id, reason) in receipt.refused { log.error("\(id.displayName) was not programmed: \(reason)") }
        log.log(
            level: plan.isFull ? .info : .debug, "wrote generation \(plan.generation)",
            metadata: [
                "servicePorts": "\(plan.upserts.count)", "removed": "\(plan.removals.count)",
                "operations": "\(receipt.operations)", "full": "\(plan.isFull)",
                "ms": "\(((end - start).seconds * 10000).rounded() / 10)",
            ])
        if plan.isFull { clinux_trim_heap() }
    }

    func collectGarbage() {
        do throws(DataplaneError) {
            try dataplane.writer.collectGarbage()
        } catch {
            // It stays for the next time; nothing that serves traffic depends on it.
            for family in AddressFamily.allCases { metrics.cleanupFailures.add(1, family.description) }
            log.warning("freeing replaced kernel entries failed: \(error)")
            deadlines.garbage = now + .seconds(1)
        }
    }
}
