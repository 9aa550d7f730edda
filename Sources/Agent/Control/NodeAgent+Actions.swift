/// What the controller decides is done here, and nothing else.
import Addressing
import CLinux
import DataplaneIR
import HandOver
import Logging
import NodeControl
import Reconcile
import Telemetry

extension NodeAgent.Environment {
    func settings(_ configuration: AgentConfiguration) -> NodeSettings {
        var settings = configuration.nodeSettings
        settings.sourceNames = sources.map(\.name)
        settings.podSources = Set(sources.indices.filter { sources[$0].follow != nil })
        settings.ownPrograms = ownPrograms
        settings.observerPatience = observerPatience
        if snapshot.load != nil {
            var times = NodeSettings.Snapshots()
            (times.patience, times.delay, times.interval) = (snapshot.patience, snapshot.delay, snapshot.interval)
            settings.snapshots = times
        }
        return settings
    }
}

extension NodeAgent {
    func perform(_ action: NodeAction) {
        switch action {
        case .apply(let plan): apply(plan)
        case .collectGarbage:
            let result = Result { () throws(DataplaneError) in try dataplane.writer.collectGarbage() }
            controller.take(.collected(result), now: now)
        case .publish(let snapshot): environment.proxy?.publish(snapshot)
        case .tendProxies(let isNeeded, let succession): environment.proxy?.update(isNeeded, succession)
        case .drain(let pid): environment.proxy?.drain(pid)
        case .follow(let scope, let round):
            for source in environment.sources { source.follow?(scope, round) }
        case .healthChecks(let checks, let node): environment.healthChecks(checks, node)
        case .loadSnapshot: controller.take(.snapshot(findSnapshot()), now: now)
        case .saveSnapshot(let state): environment.snapshot.save?(state)
        case .tell(let event):
            for source in environment.sources { source.record(event) }
        case .log(let line):
            log.log(
                level: Logger.Level(line.level), "\(line.text)", metadata: line.metadata.mapValues { .string($0) })
        case .measure(let measure): note(measure)
        }
    }

    private func apply(_ plan: Plan) {
        let result = Result { () throws(DataplaneError) in try dataplane.writer.apply(plan) }
        controller.take(.applied(result, jitter: .random(in: 0..<1)), now: now)
        guard case .success = result else { return }
        environment.mesh(plan.node.mesh, controller.podsHere)
        deadlines.audit = audit.afterWrite(plan, now: now)
        if plan.isFull { clinux_trim_heap() }
    }

    private func findSnapshot() -> SnapshotFinding {
        let access = environment.snapshot
        let age = { (writtenAt: Double) in Duration.seconds(max(0, Self.wallTime - writtenAt)) }
        guard let load = access.load else { return .none }
        guard !access.kernelHoldsServices() else { return .kernelHoldsServices(age: access.writtenAt().map(age)) }
        do throws(SnapshotError) {
            guard let found = try load() else { return .none }
            return .found(found.objects, age: age(found.header.writtenAt))
        } catch { return .unusable(error.description) }
    }

    /// Those that somebody else started are his to replace.
    var outdatedProxies: Set<UInt32> {
        guard configuration.proxy == .spawn, let link = environment.proxy else { return [] }
        return Set(proxies.filter { !link.isCurrent($0) }.map(\.pid))
    }
}

extension Logger.Level {
    fileprivate init(_ level: NodeLogLine.Level) {
        switch level {
        case .debug: self = .debug
        case .info: self = .info
        case .notice: self = .notice
        case .warning: self = .warning
        case .error: self = .error
        }
    }
}
