/// Finds the network namespaces of pods by their addresses, among those that processes of the node live in. Nobody is
/// asked: neither a container runtime nor names of files say more than what the kernel does.
package import Addressing
import Glibc
import Netlink
package import Netns

package struct PodNamespaces {
    package enum Finding {
        case found(NetworkNamespace)
        /// As often as containers without a sandbox of their own play a node, or somebody gave an address twice.
        case ambiguous(Int)
    }

    private let cgroup: String

    /// `cgroup`: the cgroup v2 directory whose processes are looked at.
    package init(cgroup: String) { self.cgroup = cgroup }

    /// All but the calling thread's own: pods of the host's network are none of ours.
    package func inhabited() throws(NetnsError) -> [NetworkNamespace] {
        let own = try NetworkNamespace.current().id
        return try CgroupTree(path: cgroup).networkNamespaces().filter { $0.id != own }
    }

    /// Costs a thread and two system calls for each namespace, some 150 µs: to be called when a pod is new.
    package func find(
        _ wanted: Set<IPAddress>, among namespaces: [NetworkNamespace]
    ) -> [IPAddress: Finding] {
        var result: [IPAddress: Finding] = [:]
        for namespace in namespaces {
            // One that ends meanwhile is nobody's.
            for address in (try? Self.addresses(of: namespace)) ?? [] where wanted.contains(address) {
                switch result[address] {
                case nil: result[address] = .found(namespace)
                case .found: result[address] = .ambiguous(2)
                case .ambiguous(let count): result[address] = .ambiguous(count + 1)
                }
            }
        }
        return result
    }

    private static func addresses(of namespace: NetworkNamespace) throws -> Set<IPAddress> {
        try namespace.run { Set(try AddressClient().addresses().map(\.address)) }
    }
}
