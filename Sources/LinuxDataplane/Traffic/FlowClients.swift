/// Who the client of a flow is. When a socket connects it has no address yet, but it has a network namespace; which
/// addresses that has, earlier flows have told or the process still tells.
import Addressing
import Glibc
import Netlink
import Netns
import Observation

struct FlowClients {
    /// Cookie of the node's own network namespace.
    private let node: UInt64
    private var known: [UInt64: [IPAddress]] = [:]

    init(node: UInt64) { self.node = node }

    /// Fills in `client` for the node, else `source`, as far as they can be known.
    mutating func complete(_ event: inout FlowEvent, namespace: UInt64, pid: Int32?) {
        if namespace == node {
            event.client = .node
            return
        }
        if let source = event.source {
            learn([source.address], of: namespace)
            return
        }
        let family = event.dialled.address.family
        if !(known[namespace] ?? []).contains(where: { $0.family == family }), let pid {
            learn(Self.addresses(ofProcess: pid), of: namespace)
        }
        if let address = known[namespace]?.first(where: { $0.family == family }) {
            event.source = SocketAddress(address, 0)
        }
    }

    private mutating func learn(_ addresses: [IPAddress], of namespace: UInt64) {
        // Pods come and go: now and then all is learnt anew.
        if known.count >= 10_000 { known = [:] }
        let before = known[namespace] ?? []
        known[namespace] = before + addresses.filter { !before.contains($0) && !$0.isLoopback }.prefix(4)
    }

    /// None when the process is gone: it lived for a moment only.
    private static func addresses(ofProcess pid: Int32) -> [IPAddress] {
        let found = try? NetworkNamespace(pid: pid).run { try AddressClient().addresses().map(\.address) }
        return (found ?? []).filter { !$0.isLinkLocal }
    }
}
