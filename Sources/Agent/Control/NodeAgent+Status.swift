/// What the actor tells the status board and the metrics.
import Addressing
import AdminAPI
import CLinux
import Cluster
import Compile
import DataplaneIR
import Glibc
import Logging
import NodeControl
import Reconcile
import RouteIR
import Telemetry

/// When the costly part of the status was made.
struct DetailsState {
    var generation: UInt64?
    var findings = 0
    /// Something was written since the maps were counted.
    var mustCount = false
    /// When they may be counted again, and when they are even if nothing was written.
    var capacityAt = Duration.zero
    var recountAt = Duration.zero
    var leftoversAt = Duration.zero
}

extension NodeAgent {
    func prepareStatus() {
        leftovers = environment.leftovers()
        hostWarnings = environment.hostWarnings()
        for warning in dataplane.warnings + hostWarnings + leftovers { log.warning("\(warning)") }
        metrics.leftovers.set(Double(leftovers.count))
        metrics.fallback.set(dataplane.isFallback ? 1 : 0)
        environment.board.update { contents in
            contents.status.dataplane.name = dataplane.writer.name
            contents.status.dataplane.configured = dataplane.reason
            contents.status.dataplane.companion = dataplane.companion
            contents.status.sources = environment.sources.map { AgentStatus.Source(name: $0.name) }
            contents.sourceChangedAt = Array(repeating: nil, count: environment.sources.count)
        }
    }

    /// The part that changes with every write; costs the same however many services there are.
    func publish() {
        let warnings = controller.warnings
        let problems = environment.ownSocketProblems() + [environment.snapshot.problem()].compactMap(\.self)
        environment.board.update { contents in
            controller.report(into: &contents.status)
            contents.status.warnings =
                warnings.node + dataplane.warnings + hostWarnings + leftovers + warnings.proxy + trafficWarnings
                + controller.meshWarnings(environment.meshProblems()) + problems
            contents.oldestPending = controller.reconciler.oldestPending
            contents.lastSyncAt = controller.lastWrite?.at
            contents.written = controller.marks.written
            contents.inForce = controller.marks.acknowledged
            contents.waitsForProxySince = controller.marks.waitsForProxySince
            contents.refused = controller.reconciler.status.refused
            contents.hasNodeAddress = controller.hasNodeAddress
            contents.nodeEligible = controller.nodeIsEligible
            contents.sourceChangedAt = controller.sources.map(\.changedAt)
            contents.snapshotWrittenAt = controller.snapshot.writtenAt
        }
        let status = controller.reconciler.status
        metrics.proxyUp.set(controller.proxy.phase == .up && controller.unreachableFamilies.isEmpty ? 1 : 0)
        metrics.routedServices.set(Double(controller.routedServices))
        metrics.generation.set(Double(status.applied))
        metrics.inSync.set(status.isInSync ? 1 : 0)
        metrics.refused.set(Double(status.refused.count))
        metrics.serviceChangesPending.set(Double(controller.changeLog.services))
        metrics.endpointChangesPending.set(Double(controller.changeLog.endpoints))
    }

    /// The part that needs a walk over everything or a question to the kernel; done at audits and when asked.
    func refreshDetails() {
        let applied = controller.reconciler.status.applied
        if details.generation != applied || details.findings != controller.findingsVersion {
            details.mustCount = true
            refreshCounts()
        }
        (details.generation, details.findings) = (applied, controller.findingsVersion)
        if now >= (details.mustCount ? details.capacityAt : details.recountAt) { refreshCapacity() }
        if !hostWarnings.isEmpty || !leftovers.isEmpty, now >= details.leftoversAt { refreshLeftovers() }
        let counters = (try? dataplane.writer.counters()) ?? [:]
        let watches = environment.sources.map { $0.watches() }
        environment.board.update { contents in
            contents.status.counters = counters
            for (index, watches) in watches.enumerated() { contents.status.sources[index].watches = watches }
        }
        metrics.dataplaneEvents.replace(Dictionary(uniqueKeysWithValues: counters.map { ([$0.key], Double($0.value)) }))
    }

    /// Another proxy's rules may be many.
    private func refreshLeftovers() {
        let start = now
        if !hostWarnings.isEmpty { hostWarnings = environment.hostWarnings() }
        if !leftovers.isEmpty { leftovers = environment.leftovers() }
        details.leftoversAt = now + AuditSchedule.pause(after: now - start, atLeast: environment.auditPeriod)
        metrics.leftovers.set(Double(leftovers.count))
        publish()
    }

    private func refreshCounts() {
        let census = controller.census
        environment.board.update { contents in
            contents.status.counts = census.counts
            contents.localPod = census.localPod
            contents.status.findingCount = census.findingCount
            contents.status.findings = census.shownFindings
            contents.status.nodePortAddresses = census.nodePortAddresses
        }
        metrics.findings.replace(Dictionary(uniqueKeysWithValues: census.findings.map { ([$0.key], Double($0.value)) }))
    }

    /// Counting what a map holds may mean listing it while writes wait, so this is done the less often the more it
    /// costs, and seldom where only programs and rules change what it holds.
    private func refreshCapacity() {
        let start = now
        let capacity = (try? dataplane.writer.capacity()) ?? []
        details.mustCount = false
        details.capacityAt = now + AuditSchedule.pause(after: now - start, atLeast: environment.auditPeriod)
        details.recountAt = now + AuditSchedule.pause(after: (now - start) * 4, atLeast: .seconds(60))
        environment.board.update { $0.status.capacity = capacity }
        metrics.maps.replace(capacity)
    }

    // MARK: Metrics of writes

    static var wallTime: Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    func note(_ measure: NodeMeasure) {
        switch measure {
        case .serviceChange: metrics.serviceChanges.add()
        case .endpointChange: metrics.endpointChanges.add()
        case .sourceProblems(let source, let count):
            metrics.sourceProblems.set(Double(count), environment.sources[source].name)
        case .queued(let families):
            for family in families { metrics.lastQueued.set(Self.wallTime, family.description) }
        case .written(let plan, let receipt, let took): noteWritten(plan, receipt, took: took.seconds)
        case .writeFailed:
            metrics.failures.add()
            for family in AddressFamily.allCases { metrics.syncFailures.add(1, family.description) }
        case .collectionFailed:
            for family in AddressFamily.allCases { metrics.cleanupFailures.add(1, family.description) }
        case .programmed(let triggers):
            for trigger in triggers {
                metrics.networkProgramming.observe(max(0, Self.wallTime - trigger.time), trigger.family.description)
            }
        }
    }

    private func noteWritten(_ plan: Plan, _ receipt: Receipt, took: Double) {
        let time = Self.wallTime
        metrics.operations.add(Double(receipt.operations))
        let touched = Set(plan.upserts.lazy.map(\.id.family)).union(plan.removals.map(\.family))
        for family in AddressFamily.allCases where plan.isFull || touched.contains(family) {
            let label = family.description
            metrics.syncDuration.observe(took, label)
            (plan.isFull ? metrics.fullSyncDuration : metrics.partialSyncDuration).observe(took, label)
            metrics.lastSync.set(time, label)
        }
        // The dataplane does not say which family each flow had; a plan mostly touches one.
        let flowFamily = (touched.count == 1 ? touched.first ?? .ipv4 : .ipv4).description
        metrics.conntrackDeleted.add(Double(receipt.staleFlowsRemoved), flowFamily)
        if let seconds = receipt.staleFlowsSeconds { metrics.conntrackDuration.observe(seconds, flowFamily) }
        for family in AddressFamily.allCases {
            let count = { (sets: [AddressFamily: Set<ServicePortID>]) in Double(sets[family]?.count ?? 0) }
            metrics.noLocalEndpoints.set(count(controller.policyGaps.internal), family.description, "internal")
            metrics.noLocalEndpoints.set(count(controller.policyGaps.external), family.description, "external")
        }
    }
}
