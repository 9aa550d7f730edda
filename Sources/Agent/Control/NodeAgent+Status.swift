/// What the actor tells the status board and the metrics.
import Addressing
import AdminAPI
import CLinux
import Cluster
import Compile
import DataplaneIR
import Glibc
import Logging
import Reconcile
import RouteIR
import Telemetry

/// When the costly part of the status was made.
struct DetailsState {
    var generation: UInt64?
    /// Something was written since the maps were counted.
    var mustCount = false
    /// When they may be counted again, and when they are even if nothing was written.
    var capacityAt = Duration.zero
    var recountAt = Duration.zero
    var leftoversAt = Duration.zero
}

extension NodeAgent {
    private static let findingsShown = 200

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
        let status = reconciler.status
        let oldest = reconciler.oldestPending
        environment.board.update { contents in
            contents.oldestPending = oldest
            contents.status.ready = isComplete && status.applied > 0
            contents.status.sync.inSync = status.isInSync && isComplete
            contents.status.sync.generation = status.applied
            contents.status.sync.pendingChanges = status.pending
            contents.status.sync.failuresInARow = status.failuresInARow
            contents.status.sync.failures = status.failures
            contents.status.sync.lastError = status.lastError
            contents.status.sync.plans = status.plans
            contents.status.sync.fullPlans = status.fullPlans
            contents.status.refused = status.refused.sorted { $0.key < $1.key }
                .map { .init(service: $0.key.description, reason: $0.value) }
            contents.status.warnings =
                nodeWarnings + dataplane.warnings + hostWarnings + leftovers + proxyWarnings + trafficWarnings
            if let problem = environment.snapshot.problem() { contents.status.warnings.append(problem) }
            contents.status.proxy = proxyStatus
        }
        metrics.proxyUp.set(proxy.phase == .up && unreachableFamilies.isEmpty ? 1 : 0)
        metrics.routedServices.set(Double(routes.snapshot.services.count))
        metrics.generation.set(Double(status.applied))
        metrics.inSync.set(status.isInSync ? 1 : 0)
        metrics.refused.set(Double(status.refused.count))
        metrics.serviceChangesPending.set(Double(changeLog.services))
        metrics.endpointChangesPending.set(Double(changeLog.endpoints))
    }

    /// The part that needs a walk over everything or a question to the kernel; done at audits and when asked.
    func refreshDetails() {
        if details.generation != reconciler.status.applied {
            details.mustCount = true
            refreshCounts()
        }
        details.generation = reconciler.status.applied
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
        var counts = AgentStatus.Counts()
        counts.services = Set(compiler.programs.keys.map { ObjectName($0.namespace, $0.service) }).count
        counts.servicePorts = compiler.programs.count
        for program in compiler.programs.values {
            counts.frontends += program.frontends.count
            counts.backends += program.backends.count
        }
        let pod = compiler.programs.values.lazy.flatMap(\.backends).first { backend in
            backend.isLocal && !node.localAddresses.contains(backend.address.address)
        }
        let findings = compiler.findings.values.flatMap { $0 } + routes.findings
        let shown = findings.map(\.description).sorted().prefix(Self.findingsShown)
        let addresses = node.nodePortAddresses.sorted().map(\.description)
        environment.board.update { contents in
            contents.status.counts = counts
            contents.localPod = pod?.address.address
            contents.status.findingCount = findings.count
            contents.status.findings = Array(shown)
            contents.status.nodePortAddresses = addresses
        }
        metrics.findings.replace(Dictionary(findings.map { ([$0.reason], 1.0) }, uniquingKeysWith: +))
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

    var startedAtWallTime: Double { wallTime - (now - environment.board.now.startedAt).seconds }
    var wallTime: Double { Self.wallTime }
    static var wallTime: Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    func noteQueued(_ ids: Set<ServicePortID>) {
        let time = wallTime
        for family in Set(ids.map(\.family)) { metrics.lastQueued.set(time, family.description) }
    }

    func noteMetrics(_ plan: Plan, _ receipt: Receipt, took: Double) {
        let time = wallTime
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
            metrics.noLocalEndpoints.set(count(policyGaps.internal), family.description, "internal")
            metrics.noLocalEndpoints.set(count(policyGaps.external), family.description, "external")
        }
        closeChangeLog()
    }

    /// The kernel is up to date with every change so far, also with those that changed nothing there.
    func closeChangeLog() {
        guard !changeLog.isEmpty else { return }
        let time = wallTime
        for trigger in changeLog.triggers {
            metrics.networkProgramming.observe(max(0, time - trigger.time), trigger.family.description)
        }
        changeLog = ChangeLog()
    }
}
