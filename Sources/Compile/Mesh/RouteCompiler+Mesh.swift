/// The mesh as the proxy is told of it.
import Cluster
import RouteIR

extension RouteCompiler {
    /// The workloads are looked up again at the addresses that the update names.
    mutating func take(_ new: MeshView) {
        mesh = new
        // Until all pods are listed nothing is handed over.
        if !new.reach.isListed { mesh.reach.unknown = [] }
        let unknown = mesh.reach.unknown
        guard
            snapshot.mesh != new.mesh || snapshot.meshPods != new.pods || snapshot.policies != new.policies
                || snapshot.unknownPods != unknown
        else { return }
        (snapshot.mesh, snapshot.meshPods, snapshot.unknownPods) = (new.mesh, new.pods, unknown)
        snapshot.policies = new.policies
        changes.snapshot = true
    }

    /// Whether connections of enrolled pods to the service go through the proxy although no route says so.
    func isTunnelled(_ name: ObjectName, _ state: borrowing ClusterState) -> Bool {
        guard !mesh.reach.isEmpty, let service = state.services[name], options.handles(service),
            service.type != .externalName, !service.clusterIPs.isEmpty
        else { return false }
        return mesh.reach.includes(oneOf: state.slices(of: name).filter(options.handles))
    }
}
