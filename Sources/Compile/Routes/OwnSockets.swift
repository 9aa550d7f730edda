/// Where requests are never sent. Tenants choose the addresses of endpoints (spec row 70: anything that can be routed
/// to, a node's own addresses with host-network pods among them), and the proxy stands on the node: what listens there
/// for Heddle alone, or on loopback for the node alone, is not for them.
package import Addressing

package struct OwnSockets: Equatable, Sendable {
    /// Of this node's interfaces.
    package var addresses: Set<IPAddress>
    /// What listens at which port, on any of the addresses: `the L7 proxy`.
    package var ports: [UInt16: String]

    package init(addresses: Set<IPAddress> = [], ports: [UInt16: String] = [:]) {
        // Those that are no machine's alone are refused anyway; link-local ones come and go with every pod.
        self.addresses = addresses.filter(\.isOfOneMachine)
        self.ports = ports
    }

    /// Why nothing is sent to `address`, as the end of a sentence; nil: it may be an endpoint. `isRouted`: it is
    /// a cluster IP of a routed service, where a connection of the proxy would come back to it.
    package func refusal(of address: SocketAddress, isRouted: Bool) -> String? {
        guard address.address.isOfOneMachine else { return "it is a loopback, link-local or multicast address" }
        if let owner = ports[address.port], addresses.contains(address.address) {
            return "\(owner) of this node is there"
        }
        return isRouted ? "it is the cluster IP of a routed Service" : nil
    }
}
