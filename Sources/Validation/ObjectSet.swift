/// What is judged together: the objects of some files, or of a whole cluster. What is not in it is unknown, unless the
/// set says that it has all there are of a kind.
package import Addressing
package import Cluster

package struct ObjectSet: Sendable {
    package private(set) var state: ClusterState
    /// Kinds of which what is missing does not exist.
    package var complete: Set<ObjectKind>
    /// Pods, and what will make some, by namespace.
    private(set) var podSources: [String: [PodTemplate]] = [:]

    package init(state: ClusterState = ClusterState(), complete: Set<ObjectKind> = []) {
        self.state = state
        self.complete = complete
    }

    package mutating func add(_ object: ClusterObject) {
        _ = state.apply(.upsert(object))
        guard case .pod(let pod) = object else { return }
        var template = PodTemplate(kind: "Pod", name: pod.name)
        (template.labels, template.namedPorts) = (pod.labels, pod.namedPorts)
        add(template)
    }
    package mutating func add(_ template: PodTemplate) {
        podSources[template.name.namespace, default: []].append(template)
    }

    /// Of the decoder of objects that no API server has seen yet, for its `unallocatedClusterIPs`: each gets addresses
    /// of its own when it is judged. Nobody else has such addresses.
    package static let unallocated = [IPAddress(v4: 0), IPAddress(high: 0, low: 0)]

    /// The pods that a service selects; nil: nothing is known of pods in its namespace.
    func pods(of service: Service) -> [PodTemplate]? {
        guard let sources = podSources[service.name.namespace] else { return nil }
        return sources.filter { source in service.selector.allSatisfy { source.labels[$0] == $1 } }
    }
    /// Without objects, but with what is known of pods.
    func copyOfPods() -> ObjectSet {
        var copy = ObjectSet(complete: complete)
        copy.podSources = podSources
        return copy
    }
}
