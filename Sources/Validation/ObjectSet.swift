/// What is judged together: the objects of some files, or of a whole cluster. What is not in it is unknown, unless the
/// set says that it has all there are of a kind.
package import Addressing
package import Cluster

package struct ObjectSet: Sendable {
    package private(set) var state: ClusterState
    /// Kinds of which what is missing does not exist.
    package var complete: Set<ObjectKind>
    /// By namespace.
    private var pods: [String: PodSources] = [:]
    /// Routes by the Services that their rules name.
    private var users: [ObjectName: Set<ObjectID>] = [:]
    /// Services by what no two of them may have.
    private var claimants: [Claim: Set<ObjectName>] = [:]

    private enum Claim: Hashable {
        case address(IPAddress)
        case nodePort(UInt16)
    }

    package init(state: ClusterState = ClusterState(), complete: Set<ObjectKind> = []) {
        self.state = state
        self.complete = complete
        for id in state.routes.keys { link(id) }
        for name in state.services.keys { link(ObjectID(.service, name)) }
    }

    /// Costs the object, not the set.
    @discardableResult package mutating func apply(_ change: Change) -> Dirty {
        unlink(change.id)
        defer { link(change.id) }
        return state.apply(change)
    }

    package mutating func add(_ object: ClusterObject) {
        apply(.upsert(object))
        guard case .pod(let pod) = object else { return }
        var template = PodTemplate(kind: "Pod", name: pod.name)
        (template.labels, template.namedPorts) = (pod.labels, pod.namedPorts)
        add(template)
    }
    package mutating func add(_ template: PodTemplate) {
        pods[template.name.namespace, default: PodSources()].add(template)
    }

    /// Of the decoder of objects that no API server has seen yet, for its `unallocatedClusterIPs`: each gets addresses
    /// of its own when it is judged. Nobody else has such addresses.
    package static let unallocated = [IPAddress(v4: 0), IPAddress(high: 0, low: 0)]

    /// Among which are the pods of a service, with a selector; nil: nothing is known of pods in its namespace.
    func candidates(for service: Service) -> [PodTemplate]? {
        pods[service.name.namespace]?.candidates(for: service.selector)
    }
    /// Without objects, but with what is known of pods.
    func copyOfPods() -> ObjectSet {
        var copy = ObjectSet(complete: complete)
        copy.pods = pods
        return copy
    }

    // MARK: Neighbours

    func routes(naming service: ObjectName) -> Set<ObjectID> { users[service] ?? [] }
    /// Services that want an address or a node port of this one, which need not be in the set.
    func rivals(of service: Service) -> Set<ObjectName> {
        Self.claims(of: service).reduce(into: []) { $0.formUnion(claimants[$1] ?? []) }
    }

    private mutating func link(_ id: ObjectID) {
        for name in named(by: id) { users[name, default: []].insert(id) }
        for claim in claims(of: id) { claimants[claim, default: []].insert(id.name) }
    }
    private mutating func unlink(_ id: ObjectID) {
        for name in named(by: id) {
            users[name]?.remove(id)
            if users[name]?.isEmpty == true { users[name] = nil }
        }
        for claim in claims(of: id) {
            claimants[claim]?.remove(id.name)
            if claimants[claim]?.isEmpty == true { claimants[claim] = nil }
        }
    }

    private func named(by id: ObjectID) -> Set<ObjectName> {
        Set(state.routes[id]?.backendReferences.map(\.name) ?? [])
    }
    private func claims(of id: ObjectID) -> Set<Claim> {
        guard id.kind == .service, let service = state.services[id.name] else { return [] }
        return Self.claims(of: service)
    }
    private static func claims(of service: Service) -> Set<Claim> {
        let addresses = service.clusterIPs + service.externalIPs + service.ingress.map(\.address)
        return Set(
            addresses.filter { !unallocated.contains($0) }.map(Claim.address)
                + service.ports.compactMap(\.nodePort).map(Claim.nodePort))
    }
}

/// Pods, and what will make some, of a namespace.
private struct PodSources {
    private struct Label: Hashable {
        let key: String
        let value: String
    }
    private var byLabel: [Label: [PodTemplate]] = [:]

    mutating func add(_ template: PodTemplate) {
        for (key, value) in template.labels { byLabel[Label(key: key, value: value), default: []].append(template) }
    }

    /// Those that have the rarest of the labels.
    func candidates(for selector: [String: String]) -> [PodTemplate] {
        let lists = selector.map { byLabel[Label(key: $0, value: $1)] ?? [] }
        return lists.min { $0.count < $1.count } ?? []
    }
}
