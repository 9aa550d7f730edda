/// Finds the network namespaces of pods by their addresses, among those that processes of the node live in, then among
/// those with names. No container runtime is asked.
package import Addressing
import BPF
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

    /// `cgroup`: the cgroup v2 directory whose processes are looked at; nil: where most of it is seen.
    package init(cgroup: String?) { self.cgroup = cgroup ?? CgroupMount.current?.path ?? "/sys/fs/cgroup" }

    /// Those that an interface leads to from the calling thread's own: pods of the host's network are none of ours, and
    /// a namespace that a container has made for itself can have any address.
    package func inhabited() throws(NetnsError) -> [NetworkNamespace] {
        let own = try NetworkNamespace.current()
        return try CgroupTree(path: cgroup).networkNamespaces().filter { $0.id != own.id && Self.leads($0, to: own) }
    }
    private static func leads(_ namespace: NetworkNamespace, to own: NetworkNamespace) -> Bool {
        (try? namespace.run { try NamespaceLinks.lead(to: own.descriptor) }) == true
    }

    /// Those with a name that no process lives in (yet), as a pod's is before its first container starts. A name says
    /// nothing of the node: there must be an interface whose other end is in the calling thread's own.
    package func named(besides inhabited: [NetworkNamespace]) -> [NetworkNamespace] {
        guard let own = try? NetworkNamespace.current() else { return [] }
        let known = Set(inhabited.map(\.id)).union([own.id])
        var result: [NetworkNamespace] = []
        for name in BPFFileSystem.names(in: NetworkNamespace.directory) {
            guard let namespace = try? NetworkNamespace(path: "\(NetworkNamespace.directory)/\(name)"),
                !known.contains(namespace.id),
                Self.leads(namespace, to: own)
            else { continue }
            result.append(namespace)
        }
        return result
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
