/// What each version of the cluster means for kernel and proxies, to see that an agent never claims one that is not in
/// force.
import Cluster
import Compile
import DataplaneIR
import NodeControl
import Reconcile
import RouteIR

struct VersionHistory {
    private struct Entry {
        let version: Int
        /// With the proxy off, up and down.
        let programs: [[ServicePortID: ServiceProgram]]
        let routed: Set<RoutedServiceID>
    }
    private var entries: [Entry] = []

    mutating func learn(_ world: World, _ compiled: [[ServicePortID: ServiceProgram]]) {
        guard let version = world.toldVersion else { return }
        entries.append(Entry(version: version, programs: compiled, routed: world.routed))
    }

    /// nil: every service in the kernel, and every one that a proxy serves, is as the claimed version or a later one
    /// means it.
    mutating func ahead(
        _ kernel: SimulatedKernel, _ proxies: SimulatedProxies, _ controller: NodeController
    ) -> String? {
        let marks = controller.marks
        guard let written = marks.written[.service].flatMap({ Int($0) }) else { return nil }
        let acknowledged = marks.acknowledged[.httpRoute].flatMap { Int($0) }
        entries.removeAll { $0.version < min(written, acknowledged ?? written) }
        let later = entries.filter { $0.version >= written }
        let refused = controller.reconciler.status.refused
        let ids = Set(kernel.programs.keys).union(later.flatMap { $0.programs.flatMap(\.keys) })
        for id in ids.sorted() where refused[id] == nil && !kernel.lost.contains(id) {
            let isMeant = later.contains { $0.programs.contains { $0[id] == kernel.programs[id] } }
            if !isMeant { return "version \(written) is in the kernel, says the agent, but \(id) is as it was before" }
        }
        guard let acknowledged, controller.routes.isNeeded else { return nil }
        let meant = entries.filter { $0.version >= acknowledged }
        for configuration in proxies.served {
            for id in Set(configuration.services.keys).union(meant.flatMap(\.routed)).sorted() {
                // What is not routed any more may stay with the proxy a while.
                let isMeant = configuration.services[id] != nil || meant.contains { !$0.routed.contains(id) }
                if !isMeant { return "version \(acknowledged) is in force, says the agent, but \(id) is not routed" }
            }
        }
        return nil
    }
}
