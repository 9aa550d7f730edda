/// Steering by a small table in the pod's own network namespace: where sockets are not chosen by a program. A container
/// with CAP_NET_ADMIN can take it away; the next audit puts it back.
package import Addressing
package import DataplaneIR
import Glibc
import Netlink
import Netns
import Nftables
package import Reconcile

package final class NftablesSteering: PodSteering {
    /// Ports of the listeners that are in the tables.
    private var ports: [IPAddress: UInt16] = [:]
    private let namespaces: PodNamespaces
    private var hasSwept = false

    package init(namespaces: PodNamespaces) { self.namespaces = namespaces }

    /// What an agent with a mesh has left in the pods of this node. Says in how many there was something.
    @discardableResult package static func remove(_ namespaces: PodNamespaces) -> Int {
        let inhabited = (try? namespaces.inhabited()) ?? []
        let all = inhabited + namespaces.named(besides: inhabited)
        return all.count { (try? delete(in: $0)) ?? false }
    }

    package func attach(_ pod: SteeredPod) throws(DataplaneError) -> [IPAddress: Int32] {
        var listeners: [IPAddress: Int32] = [:]
        do throws(DataplaneError) {
            for address in pod.addresses.keys {
                // At the pod's own address: that is where connections are when they were redirected.
                let listener = try PodSocket.listener(at: SocketAddress(address, 0), in: pod.namespace)
                listeners[address] = listener
                ports[address] = PodSocket.port(of: listener)
            }
            try change(pod)
            return listeners
        } catch {
            for listener in listeners.values { close(listener) }
            throw error
        }
    }

    package func change(_ pod: SteeredPod) throws(DataplaneError) {
        let node = try Self.nodeAddresses()
        let tables = AddressFamily.allCases.map { PodTable(pod, $0, ports: ports, node: node) }
        try Self.commit(in: pod.namespace) { batch in
            for table in tables { table.replace(&batch) }
        }
    }

    package func release(_ pod: SteeredPod, keepingConnections: Bool) throws(DataplaneError) {
        for address in pod.addresses.keys { ports[address] = nil }
        guard keepingConnections else {
            try Self.delete(in: pod.namespace)
            return
        }
        try Self.commit(in: pod.namespace) { batch in
            for family in AddressFamily.allCases { PodTable(leaving: family).replace(&batch) }
        }
    }

    package func releaseOthers(than pods: [SteeredPod]) throws(DataplaneError) {
        guard !hasSwept else { return }
        let ours = Set(pods.map(\.namespace.id))
        do throws(NetnsError) {
            for namespace in try namespaces.inhabited() where !ours.contains(namespace.id) {
                _ = try? Self.delete(in: namespace)
            }
        } catch { throw DataplaneError(error) }
        hasSwept = true
    }

    package func drift(of pod: SteeredPod) -> [Drift] {
        do throws(DataplaneError) {
            let node = try Self.nodeAddresses()
            let wanted = AddressFamily.allCases.map { PodTable(pod, $0, ports: ports, node: node) }
            let isRight = try Self.read(in: pod.namespace) { connection throws(NetlinkError) in
                for table in wanted where try !table.isInForce(connection) { return false }
                return true
            }
            if isRight { return [] }
            return [
                Drift(
                    object: "steering of pod \(pod.name)",
                    detail: "table \(PodTable.name) in its network namespace is not as it was written")
            ]
        } catch { return [Drift(object: "steering of pod \(pod.name)", detail: "\(error)")] }
    }

    package func strangers(beside pod: SteeredPod) -> [Drift] { [] }

    // MARK: The kernel

    private static func nodeAddresses() throws(DataplaneError) -> [IPAddress] {
        do throws(NetlinkError) {
            return try AddressClient().addresses().map(\.address).filter(\.isOfOneMachine).sorted()
        } catch { throw DataplaneError(error) }
    }

    /// Whether anything was there.
    @discardableResult
    private static func delete(in namespace: NetworkNamespace) throws(DataplaneError) -> Bool {
        let present = try read(in: namespace) { connection throws(NetlinkError) in
            var present: [Table] = []
            for family in AddressFamily.allCases
            where try connection.tables(family).contains(where: { $0.name == PodTable.name }) {
                present.append(Table(family, PodTable.name))
            }
            return present
        }
        guard !present.isEmpty else { return false }
        try commit(in: namespace) { batch in for table in present { batch.delete(table) } }
        return true
    }

    private static func commit(
        in namespace: NetworkNamespace, _ fill: (inout Batch) -> Void
    ) throws(DataplaneError) {
        try read(in: namespace) { connection throws(NetlinkError) in
            var batch = connection.makeBatch()
            fill(&batch)
            try connection.commit(&batch)
        }
    }

    private static func read<R>(
        in namespace: NetworkNamespace, _ body: (NftablesConnection) throws(NetlinkError) -> R
    ) throws(DataplaneError) -> R {
        try namespace.run(refusal: DataplaneError.init) { () throws(DataplaneError) in
            do throws(NetlinkError) { return try body(NftablesConnection()) } catch { throw DataplaneError(error) }
        }
    }
}
