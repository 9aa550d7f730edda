/// Whether a pod is in the mesh, and why: the pod's own label, or its namespace's (spec 1.8).
package import Cluster

package enum Enrolment: Equatable, Sendable {
    case enrolled(by: MeshLabel, ofNamespace: Bool)
    case out(Reason)

    package enum Reason: Equatable, Sendable {
        case hostNetwork
        case finished
        case noAddress
        /// Nothing says that it is in.
        case notLabelled
        case takenOut(by: MeshLabel)
    }

    /// Of a pod by what it says itself and what its namespace says.
    package init(_ pod: MeshLabel?, namespace: MeshLabel?) {
        if let pod, let enrols = pod.enrols {
            self = enrols ? .enrolled(by: pod, ofNamespace: false) : .out(.takenOut(by: pod))
        } else if let namespace, namespace.enrols == true {
            self = .enrolled(by: namespace, ofNamespace: true)
        } else {
            self = .out(.notLabelled)
        }
    }

    package var isEnrolled: Bool { if case .enrolled = self { true } else { false } }
}

extension ClusterState {
    /// Of a pod that has an address of its own.
    func enrolment(of pod: ObjectName) -> Enrolment {
        Enrolment(mesh.labels[pod], namespace: namespaces[pod.namespace].flatMap { MeshLabel($0.labels) })
    }

    /// Of any pod of this node.
    package func enrolment(of pod: Pod) -> Enrolment {
        let labels = enrolment(of: pod.name)
        if pod.isOnHostNetwork { return .out(.hostNetwork) }
        if pod.isFinished { return .out(.finished) }
        return labels.isEnrolled && pod.addresses.isEmpty ? .out(.noAddress) : labels
    }
}

extension Enrolment: CustomStringConvertible {
    package var description: String {
        switch self {
        case .enrolled(let label, let ofNamespace): "\(label) on the \(ofNamespace ? "namespace" : "pod")"
        case .out(.hostNetwork): "uses the network of its node"
        case .out(.finished): "has ended"
        case .out(.noAddress): "has no address yet"
        case .out(.notLabelled): "neither it nor its namespace is labelled"
        case .out(.takenOut(let label)): "\(label) on the pod"
        }
    }
}
