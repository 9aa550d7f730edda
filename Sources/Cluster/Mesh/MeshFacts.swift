/// What of the cluster decides who is in the mesh. Where there is none, only the labels are kept, so that whoever wrote
/// one can be told; of the pods of other nodes no more is kept anywhere.
package import Addressing

package struct MeshFacts: Sendable {
    /// Whose pods are kept as they are; nil: there is no mesh.
    package let node: String?
    /// Also those that have ended, or have no address yet.
    package private(set) var localPods: [ObjectName: Pod] = [:]
    /// Of pods that say something.
    package private(set) var labels: [ObjectName: MeshLabel] = [:]
    package internal(set) var access = AccessPolicies()
    private var policiesByNamespace: [String: [ObjectName: PeerAuthentication]] = [:]
    private var podsByNamespace: [String: Set<ObjectName>] = [:]
    private var slicesByAddress: [IPAddress: Set<ObjectName>] = [:]

    init(node: String?) { self.node = node }

    /// Those that were told of, whatever became of them.
    package func pods(in namespace: String) -> Set<ObjectName> { podsByNamespace[namespace] ?? [] }
    /// The policies of a namespace, the older first.
    package func policies(in namespace: String) -> [PeerAuthentication] {
        policiesByNamespace[namespace]?.values.sorted { $0.goesBefore($1) } ?? []
    }
    package var policies: [PeerAuthentication] { policiesByNamespace.values.flatMap(\.values) }

    /// The EndpointSlices with an endpoint at this address.
    func slices(at address: IPAddress) -> Set<ObjectName> { slicesByAddress[address] ?? [] }

    /// Whether anything that is kept of it is another than before.
    mutating func put(_ pod: Pod) -> Bool {
        let label = MeshLabel(pod.labels)
        var differs = labels[pod.name] != label
        labels[pod.name] = label
        guard let node else { return false }
        podsByNamespace[pod.name.namespace, default: []].insert(pod.name)
        if pod.nodeName == node {
            differs = localPods.updateValue(pod, forKey: pod.name) != pod || differs
        } else if localPods.removeValue(forKey: pod.name) != nil {
            differs = true
        }
        return differs
    }

    /// Whether it is another than before.
    mutating func put(_ policy: PeerAuthentication) -> Bool {
        policiesByNamespace[policy.name.namespace, default: [:]].updateValue(policy, forKey: policy.name) != policy
    }
    /// Whether it was there.
    mutating func remove(policy name: ObjectName) -> Bool {
        guard policiesByNamespace[name.namespace]?.removeValue(forKey: name) != nil else { return false }
        if policiesByNamespace[name.namespace]?.isEmpty == true { policiesByNamespace[name.namespace] = nil }
        return true
    }

    mutating func remove(pod name: ObjectName) {
        podsByNamespace.remove(name, under: name.namespace)
        labels[name] = nil
        localPods[name] = nil
    }

    mutating func replace(_ old: EndpointSlice?, with new: EndpointSlice?) {
        guard node != nil, old?.endpoints != new?.endpoints else { return }
        if let old { for endpoint in old.endpoints { slicesByAddress.remove(old.name, under: endpoint.address) } }
        if let new { for endpoint in new.endpoints { slicesByAddress[endpoint.address, default: []].insert(new.name) } }
    }
}

extension ClusterState {
    /// Whether a slice says that a pod has the address, and nobody has told of that pod: it may be in the mesh. Known
    /// only where there is one.
    package func isUnknownPod(at address: IPAddress) -> Bool {
        pods(at: address).isEmpty
            && mesh.slices(at: address).contains { name in
                slices[name]?.endpoints.contains { $0.address == address && $0.conditions.contains(.ofPod) } ?? false
            }
    }
    /// A walk over all endpoints.
    package var unknownPods: Set<IPAddress> {
        guard mesh.node != nil else { return [] }
        return Set(slices.values.lazy.flatMap { $0.unknownPods(self) })
    }

    /// The services with an endpoint at one of these addresses. Known only where there is a mesh.
    package func services(withEndpointsAt addresses: Set<IPAddress>) -> Set<ObjectName> {
        Set(addresses.lazy.flatMap(mesh.slices(at:)).compactMap { slices[$0]?.service })
    }
    /// Known only where there is a mesh.
    package func slices(withEndpointAt address: IPAddress) -> [EndpointSlice] {
        mesh.slices(at: address).compactMap { slices[$0] }
    }
}

extension EndpointSlice {
    func unknownPods(_ state: borrowing ClusterState) -> [IPAddress] {
        endpoints.filter { $0.conditions.contains(.ofPod) && state.pods(at: $0.address).isEmpty }.map(\.address)
    }
}
