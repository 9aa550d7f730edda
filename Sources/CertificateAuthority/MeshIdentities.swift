/// Who the pods of a node are.
package import RouteIR

extension ProxyMesh {
    /// nil: a pod without a ServiceAccount is nobody.
    package func identity(namespace: String, serviceAccount: String) -> WorkloadIdentity? {
        ServiceAccount(namespace: namespace, name: serviceAccount).map {
            WorkloadIdentity(trustDomain: trustDomain, account: $0)
        }
    }
}

extension ProxySnapshot {
    /// Of the enrolled pods of this node: whose certificates its proxy needs, and may ask for.
    package var identities: Set<WorkloadIdentity> {
        guard let mesh else { return [] }
        return Set(
            meshPods.values.compactMap { mesh.identity(namespace: $0.namespace, serviceAccount: $0.serviceAccount) })
    }
}
