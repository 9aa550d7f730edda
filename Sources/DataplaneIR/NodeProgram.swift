/// What the kernel must know about the node itself, besides the services.
package import Addressing

/// Which traffic comes from a pod of this node (spec row 84).
package enum LocalDetector: Hashable, Sendable {
    /// No detector: cluster-IP traffic is never masqueraded, pods are not told apart (spec row 73).
    case none
    /// Source address in one of these ranges; at most one a family counts (cluster-cidr and node-cidr modes).
    case cidrs([IPPrefix])
    /// Arrived on this interface.
    case bridge(String)
    /// Arrived on an interface whose name starts with this.
    case interfacePrefix(String)

    /// Whether pods can be told from others in this family: ranges of the other family say nothing.
    package func tellsApart(_ family: AddressFamily) -> Bool {
        switch self {
        case .none: false
        case .cidrs: cidr(family) != nil
        case .bridge, .interfacePrefix: true
        }
    }

    package func cidr(_ family: AddressFamily) -> IPPrefix? {
        guard case .cidrs(let all) = self else { return nil }
        return all.first { $0.family == family }
    }
}

package struct NodeProgram: Equatable, Sendable {
    package var nodeName: String
    /// Addresses at which node ports are served: never loopback (spec row 92).
    package var nodePortAddresses: Set<IPAddress> = []
    /// Every address of this node's interfaces. The kernel knows these by itself (`fib saddr type local`); they are
    /// here for the interpreter and for eBPF.
    package var localAddresses: Set<IPAddress> = []
    package var detector: LocalDetector = .none
    /// Interfaces towards other nodes. What comes in there is from no pod of this node, though its source may be in the
    /// range of all pods (spec row 85).
    package var uplinks: Set<String> = []
    package var masqueradeAll = false
    /// The bit of the packet mark that says "masquerade" (spec row 83).
    package var masqueradeBit: UInt8 = 14
    /// Ranges whose unallocated addresses are dropped (spec row 103).
    package var serviceCIDRs: [IPPrefix] = []
    /// Where the L7 proxy of this node listens, at most one address a family, reachable from pods and from the node.
    /// Without one in a family what is routed refuses there.
    package var proxyListeners: Set<SocketAddress> = []
    /// Serve node ports on loopback to processes of this node (eBPF only; spec row 92).
    package var nodePortLoopback = false

    package var mesh = MeshProgram()

    package init(nodeName: String) { self.nodeName = nodeName }

    package func proxyListener(_ family: AddressFamily) -> SocketAddress? {
        proxyListeners.filter { $0.address.family == family }.min()
    }
}

/// Everything the dataplane must do.
package struct DataplaneProgram: Equatable, Sendable {
    package var node: NodeProgram
    package var services: [ServicePortID: ServiceProgram]

    package init(node: NodeProgram, services: [ServicePortID: ServiceProgram] = [:]) {
        self.node = node
        self.services = services
    }
}
