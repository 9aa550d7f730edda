/// Everything the L7 proxy of a node needs, as one value: the agent compiles it, the proxy matches against it and keeps
/// it when the agent is away. What travels between the two are `ProxyUpdate`s, the difference of two snapshots.
package import Addressing

package struct ProxySnapshot: Equatable, Sendable {
    /// Grows with every change; 0: nothing was ever received.
    package var generation: UInt64
    package var node: ProxyNode
    package var services: [RoutedServiceID: RoutedService] = [:]
    /// Where requests may be sent: every service port that a route names or that is routed itself.
    package var upstreams: [UpstreamID: Upstream] = [:]
    /// Who has which address, for telemetry and for the namespace of a client: the pods of this node and all endpoints.
    package var workloads: [IPAddress: Workload] = [:]
    /// nil: this node makes no tunnels and takes none.
    package var mesh: ProxyMesh?
    /// The enrolled pods of this node, by each of their addresses.
    package var meshPods: [IPAddress: MeshPod] = [:]
    /// Addresses of pods of which no more is known yet: they may be enrolled. For whoever dials them; of an endpoint
    /// its own service's slices say it.
    package var unknownPods: Set<IPAddress> = []
    /// Those that are about some pod of `meshPods`, by their names.
    package var policies: [String: AccessPolicy] = [:]

    package init(generation: UInt64 = 0, node: ProxyNode) {
        self.generation = generation
        self.node = node
    }
}

/// The node the proxy runs on.
package struct ProxyNode: Hashable, Sendable {
    package var name: String
    package var zone: String?
    /// What stands for the cluster in `source_cluster` and `destination_cluster`.
    package var clusterName: String

    package init(name: String, zone: String? = nil, clusterName: String = "Kubernetes") {
        self.name = name
        self.zone = zone
        self.clusterName = clusterName
    }
}

/// What a pod is called in metrics and logs (spec 5.1).
package struct Workload: Hashable, Sendable {
    package var namespace: String
    package var pod: String
    /// The Deployment, StatefulSet and so on; the pod's own name if it has no owner.
    package var name: String
    package var app: String
    package var version: String
    package var canonicalService: String
    package var canonicalRevision: String
    package var serviceAccount: String
    package var node: String
    /// It takes tunnels (HBONE), and in the clear nothing is sent to it.
    package var isEnrolled = false

    package init(
        namespace: String, pod: String, name: String, app: String = "unknown", version: String = "unknown",
        canonicalService: String, canonicalRevision: String = "latest", serviceAccount: String = "default",
        node: String = ""
    ) {
        self.namespace = namespace
        self.pod = pod
        self.name = name
        self.app = app
        self.version = version
        self.canonicalService = canonicalService
        self.canonicalRevision = canonicalRevision
        self.serviceAccount = serviceAccount
        self.node = node
    }
}

/// The difference of two snapshots. `base` nil: a whole snapshot, which replaces everything.
package struct ProxyUpdate: Equatable, Sendable {
    package var base: UInt64?
    package var generation: UInt64
    package var node: ProxyNode
    package var services: [RoutedService] = []
    package var removedServices: [RoutedServiceID] = []
    package var upstreams: [Upstream] = []
    package var removedUpstreams: [UpstreamID] = []
    package var workloads: [AddressedWorkload] = []
    package var removedWorkloads: [IPAddress] = []
    package var mesh: ProxyMesh?
    package var meshPods: [AddressedPod] = []
    package var removedMeshPods: [IPAddress] = []
    package var unknownPods: [IPAddress] = []
    package var removedUnknownPods: [IPAddress] = []
    package var policies: [AccessPolicy] = []
    package var removedPolicies: [String] = []

    package init(base: UInt64?, generation: UInt64, node: ProxyNode) {
        self.base = base
        self.generation = generation
        self.node = node
    }
}

package struct AddressedWorkload: Hashable, Sendable {
    package var address: IPAddress
    package var workload: Workload

    package init(_ address: IPAddress, _ workload: Workload) {
        self.address = address
        self.workload = workload
    }
}

extension ProxySnapshot {
    /// What leads from `old` to this snapshot; the whole of it without `old`.
    package func update(since old: ProxySnapshot?) -> ProxyUpdate {
        var update = ProxyUpdate(base: old?.generation, generation: generation, node: node)
        (update.services, update.removedServices) = difference(services, old?.services ?? [:])
        (update.upstreams, update.removedUpstreams) = difference(upstreams, old?.upstreams ?? [:])
        let changed = workloads.filter { old?.workloads[$0.key] != $0.value }.sorted { $0.key < $1.key }
        update.workloads = changed.map { AddressedWorkload($0.key, $0.value) }
        update.removedWorkloads = (old?.workloads.keys.filter { workloads[$0] == nil } ?? []).sorted()
        update.mesh = mesh
        let pods = meshPods.filter { old?.meshPods[$0.key] != $0.value }.sorted { $0.key < $1.key }
        update.meshPods = pods.map { AddressedPod($0.key, $0.value) }
        update.removedMeshPods = (old?.meshPods.keys.filter { meshPods[$0] == nil } ?? []).sorted()
        update.unknownPods = unknownPods.subtracting(old?.unknownPods ?? []).sorted()
        update.removedUnknownPods = (old?.unknownPods.subtracting(unknownPods) ?? []).sorted()
        (update.policies, update.removedPolicies) = difference(policies, old?.policies ?? [:])
        return update
    }

    /// The snapshot after the update; nil if the update was made against another generation.
    package func applying(_ update: ProxyUpdate) -> ProxySnapshot? {
        guard update.base == nil || update.base == generation else { return nil }
        var new = update.base == nil ? ProxySnapshot(node: update.node) : self
        new.generation = update.generation
        new.node = update.node
        for service in update.services { new.services[service.id] = service }
        for id in update.removedServices { new.services[id] = nil }
        for upstream in update.upstreams { new.upstreams[upstream.id] = upstream }
        for id in update.removedUpstreams { new.upstreams[id] = nil }
        for entry in update.workloads { new.workloads[entry.address] = entry.workload }
        for address in update.removedWorkloads { new.workloads[address] = nil }
        new.mesh = update.mesh
        for entry in update.meshPods { new.meshPods[entry.address] = entry.pod }
        for address in update.removedMeshPods { new.meshPods[address] = nil }
        new.unknownPods.formUnion(update.unknownPods)
        new.unknownPods.subtract(update.removedUnknownPods)
        for policy in update.policies { new.policies[policy.name] = policy }
        for name in update.removedPolicies { new.policies[name] = nil }
        return new
    }
}

private func difference<Key: Comparable, Value: Equatable>(
    _ new: [Key: Value], _ old: [Key: Value]
) -> (changed: [Value], removed: [Key]) {
    let changed = new.filter { old[$0.key] != $0.value }.sorted { $0.key < $1.key }.map(\.value)
    return (changed, old.keys.filter { new[$0] == nil }.sorted())
}
