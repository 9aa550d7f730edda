/// What the kernel must do for the mesh: whose connections become tunnels, and what may reach the pods of this node.
package import Addressing

package struct MeshProgram: Equatable, Sendable {
    /// Where tunnels arrive. Nobody is kept from it, so that the proxy's own tunnels do not lead back to the proxy.
    package static let tunnelPort: UInt16 = 15008

    /// The enrolled pods of this node, by each of their addresses.
    package var pods: [IPAddress: MeshPodProgram] = [:]
    /// Every enrolled address of the cluster, those of this node too, and those of pods that are not known yet: what an
    /// enrolled pod sends there by TCP the proxy answers, which makes a tunnel of it.
    package var enrolled: Set<IPAddress> = []
    /// Where pods of other nodes may be that are not listed yet: every address there counts as enrolled, but for
    /// those of services.
    package var unlisted: [IPPrefix] = []

    package init() {}
}

/// What becomes of connections to an enrolled pod that come in the clear (spec 1.6). Tunnels always reach the proxy.
package struct MeshPodProgram: Hashable, Sendable {
    package enum Mode: String, Hashable, Sendable, CaseIterable {
        /// They pass; as in Istio's ambient mode it does not keep tunnels out.
        case disable = "DISABLE"
        /// They pass.
        case permissive = "PERMISSIVE"
        /// They are refused.
        case strict = "STRICT"
    }
    /// `namespace/name`.
    package var name: String
    /// Tells it from a later one of the same name.
    package var uid: String
    package var mode: Mode
    /// Of single ports of the pod, instead of `mode`.
    package var portModes: [UInt16: Mode]
    /// TCP ports where the node's own processes may connect in the clear, because a probe of the pod names them.
    package var probePorts: Set<UInt16>

    package init(
        name: String, uid: String, mode: Mode = .permissive, portModes: [UInt16: Mode] = [:],
        probePorts: Set<UInt16> = []
    ) {
        self.name = name
        self.uid = uid
        self.mode = mode
        self.portModes = portModes
        self.probePorts = probePorts
    }

    package func mode(of port: UInt16) -> Mode { portModes[port] ?? mode }
}
