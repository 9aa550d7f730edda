/// Where requests are never sent, whatever the configuration says: endpoints are addresses that tenants choose, and the
/// proxy stands on the node, where loopback servers trust whoever reaches them. The agent leaves such endpoints out and
/// says so; here it is looked at again, because addresses come to a node and go, and asked just before connecting.
import Addressing
import Glibc

package struct TargetGuard: Sendable {
    /// What listens there, on any address of this node, is not for requests: the proxy's own ports and the agent's.
    package var ports: Set<UInt16>
    /// Tests have their backends there.
    package var allowsLoopback = false

    package init(ports: Set<UInt16> = []) { self.ports = ports }

    /// Why nothing is sent to `target`; nil: it may be.
    func refusal(of target: SocketAddress, in table: RoutingTable) -> String? {
        if !target.address.isOfOneMachine, !(allowsLoopback && target.address.isLoopback) {
            return "\(target) is a loopback, link-local or multicast address"
        }
        if table.service(at: target) != nil { return "\(target) is routed itself: the request would come back" }
        guard ports.contains(target.port), isOfThisNode(target.address) else { return nil }
        return "\(target) is a port of Heddle's own on this node"
    }
}

/// The kernel lets a socket have only addresses of this network namespace, and nobody translates them on the way.
func isOfThisNode(_ address: IPAddress) -> Bool {
    let family = address.isIPv4 ? AF_INET : AF_INET6
    let descriptor = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    // Without a socket nothing can be said, and nothing be connected either.
    guard descriptor >= 0 else { return true }
    defer { close(descriptor) }
    return SocketAddress(address, 0).withSockaddr { bind(descriptor, $0, $1) } == 0
}
