/// Which backends went away and when, for `agentctl sockets --stale`.
import Addressing
package import AdminAPI
import Cluster
import Compile
import DataplaneIR
import Reconcile
import RouteIR

/// The last few thousand; what is older has no name and no age any more, but is still found.
struct RemovedBackends: Sendable {
    private struct Entry: Sendable {
        var backend: SocketAddress
        var service: ServicePortID
        var frontends: [Frontend]
        var time: Duration
    }
    private static let limit = 4096
    private var entries: [Entry] = []

    mutating func note(old: ServiceProgram, new: ServiceProgram?, now: Duration) {
        guard new?.backends != old.backends else { return }
        let staying = Set(new?.backends.map(\.address) ?? [])
        for backend in old.backends where !staying.contains(backend.address) {
            entries.append(
                Entry(backend: backend.address, service: old.id, frontends: old.frontends, time: now))
        }
        // Twice as many may gather before they are moved.
        if entries.count > 2 * Self.limit { entries.removeFirst(entries.count - Self.limit) }
    }

    func report(now: Duration) -> [BackendReport.Removed] {
        entries.suffix(Self.limit).map { entry in
            BackendReport.Removed(
                backend: "\(entry.backend)/\(entry.service.transport)", service: entry.service.displayName,
                frontends: entry.frontends.map { name(of: $0, entry.service.transport) },
                secondsAgo: (now - entry.time).seconds)
        }
    }
}

private func name(of frontend: Frontend, _ transport: TransportProtocol) -> String {
    "\(frontend.address.map { SocketAddress($0, frontend.port).description } ?? "*:\(frontend.port)")/\(transport)"
}

extension NodeController {
    /// Which programs changed, after taking down what they do not have any more.
    mutating func noted(_ changes: ProgramChanges) -> Set<ServicePortID> {
        for (id, old) in changes.old { removedBackends.note(old: old, new: compiler.programs[id], now: now) }
        flowNames.update(changes, programs: compiler.programs)
        return changes.upserts.union(changes.removals)
    }

    /// `cgroup`: where connections are translated.
    package func backendReport(cgroup: String) -> BackendReport {
        var report = BackendReport()
        report.isInSync = reconciler.status.isInSync && isComplete
        report.cgroup = cgroup
        report.removed = removedBackends.report(now: now)
        for program in Array(compiler.programs.values) + settings.ownPrograms {
            for backend in program.backends { report.inUse.insert("\(backend.address)/\(program.id.transport)") }
            for frontend in program.frontends {
                report.services[name(of: frontend, program.id.transport)] = program.id.displayName
            }
        }
        for listener in node.proxyListeners { report.inUse.insert("\(listener)/TCP") }
        for (pod, workload) in state.workloads where workload.node == settings.nodeName {
            for address in state.podAddresses[pod] ?? [] { report.pods["\(address)"] = pod.description }
        }
        return report
    }
}
