/// What an enrolled pod takes: the policies about it come to one mode, and to modes of single ports (spec 1.6). The
/// policy with a matching selector goes before that of its namespace, and that before the mesh's; the oldest of each.
package import Cluster
package import DataplaneIR

package struct PeerRule: Equatable, Sendable {
    package private(set) var mode = MeshPodProgram.Mode.permissive
    package private(set) var portModes: [UInt16: MeshPodProgram.Mode] = [:]
    /// The policy that the mode is of.
    package private(set) var source = "default"

    init() {}

    package init(of pod: Pod, _ facts: MeshFacts) {
        let own = pod.name.namespace == PeerAuthentication.rootNamespace ? [] : facts.policies(in: pod.name.namespace)
        let mesh = facts.policies(in: PeerAuthentication.rootNamespace).first { $0.selector.isEmpty }
        let namespace = own.first { $0.selector.isEmpty }
        let workload = own.first { policy in
            !policy.selector.isEmpty && policy.selector.allSatisfy { pod.labels[$0.key] == $0.value }
        }
        for policy in [mesh, namespace, workload].compactMap(\.self) {
            guard let mode = policy.mode else { continue }
            (self.mode, source) = (.init(mode), policy.id.description)
        }
        portModes = workload?.portModes.mapValues { $0.map(MeshPodProgram.Mode.init) ?? mode } ?? [:]
    }
}

extension MeshPodProgram.Mode {
    fileprivate init(_ mode: PeerAuthentication.Mode) {
        self =
            switch mode {
            case .disable: .disable
            case .permissive: .permissive
            case .strict: .strict
            }
    }
}
