/// Who gets a TCP connection that comes to a pod of the mesh (spec 1.6, 3.4). This is the meaning of the steering: both
/// dataplanes are tested against it, and `agentctl explain` tells it.
package import Addressing

package struct MeshDoor: Sendable {
    package enum Visitor: Sendable, CaseIterable {
        case itself
        /// The node's own process that probes it.
        case probe
        case anybody
    }
    package enum Verdict: Sendable {
        /// The listener of the node's proxy.
        case tunnel
        case application
        case refused
    }
    private let addresses: [IPAddress: MeshPodProgram]

    /// All addresses of one pod that Kubernetes knows.
    package init(_ addresses: [IPAddress: MeshPodProgram]) { self.addresses = addresses }

    /// Somewhere plaintext is refused: then at addresses of the pod that nobody told us of it is refused on all ports.
    package var isStrict: Bool {
        addresses.values.contains { $0.mode == .strict || $0.portModes.values.contains(.strict) }
    }

    package func verdict(for visitor: Visitor, to destination: SocketAddress) -> Verdict {
        guard visitor != .itself else { return .application }
        guard let pod = addresses[destination.address] else { return isStrict ? .refused : .application }
        guard destination.port != MeshProgram.tunnelPort else { return .tunnel }
        guard pod.mode(of: destination.port) == .strict else { return .application }
        return visitor == .probe && pod.probePorts.contains(destination.port) ? .application : .refused
    }
}
