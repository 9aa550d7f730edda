/// Which network namespaces' connections the eBPF dataplane makes tunnels of: the map that its connect hooks read.
package import Addressing
import BPF
import CDataplaneABI
package import DataplaneIR

package struct MeshClients {
    private let path: String

    package init(bpffs: String) { path = BPFPins(root: bpffs).maps + "/mesh_clients" }

    /// These are all, by the kernel's names for the namespaces, but for those that have one of the addresses `keeping`
    /// already. False: there is no such map yet.
    package func set(
        _ clients: [UInt64: [IPAddress]], keeping: Set<IPAddress> = []
    ) throws(DataplaneError) -> Bool {
        do throws(BPFError) {
            guard let pinned = try BPFDescriptor.pinned(at: path) else { return false }
            let map = try BPFMap<UInt64, heddle_mesh_client>(pinned, name: "mesh_clients")
            for (cookie, addresses) in clients {
                // What the pod dials at its own addresses stays inside: one of each family, zero where it has none.
                var client = heddle_mesh_client()
                for address in addresses {
                    if address.isIPv4 {
                        client.address.0 = heddle_address(address)
                    } else {
                        client.address.1 = heddle_address(address)
                    }
                }
                try map.update(cookie, client)
            }
            let kept = Set(keeping.map { heddle_address($0).value })
            for (cookie, client) in try map.entries() where clients[cookie] == nil {
                if kept.contains(client.address.0.value) || kept.contains(client.address.1.value) { continue }
                try map.delete(cookie)
            }
            return true
        } catch { throw DataplaneError(error) }
    }
}
