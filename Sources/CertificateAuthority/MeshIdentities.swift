/// Who the pods of a node are.
package import RouteIR

extension ProxyMesh {
    /// nil: a pod without a ServiceAccount is nobody.
    package func identity(namespace: String, serviceAccount: String) -> WorkloadIdentity? {
        ServiceAccount(namespace: namespace, name: serviceAccount).map {
            WorkloadIdentity(trustDomain: trustDomain, account: $0)
        }
    }
    package func identity(of pod: MeshPod) -> WorkloadIdentity? {
        identity(namespace: pod.namespace, serviceAccount: pod.serviceAccount)
    }
    package func identity(of workload: Workload) -> WorkloadIdentity? {
        identity(namespace: workload.namespace, serviceAccount: workload.serviceAccount)
    }
}

extension ProxySnapshot {
    /// Of the enrolled pods of this node: whose certificates its proxy needs, and may ask for.
    package var identities: Set<WorkloadIdentity> {
        guard let mesh else { return [] }
        return Set(meshPods.values.compactMap { mesh.identity(of: $0) })
    }
}
