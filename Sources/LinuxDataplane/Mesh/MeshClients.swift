/// Which network namespaces' connections the eBPF dataplane makes tunnels of: the map that its connect hooks read.
package import Addressing
import BPF
import CDataplaneABI
package import DataplaneIR

package struct MeshClients {
    private let path: String

    /// The pod's own addresses, IPv4 and IPv6, zero where it has none: what it dials there stays inside.
    private struct OwnAddresses: BitwiseCopyable {
        var v4 = heddle_address(high: 0, low: 0)
        var v6 = heddle_address(high: 0, low: 0)
    }

    package init(bpffs: String) { path = BPFPins(root: bpffs).maps + "/mesh_clients" }

    /// These are all, by the kernel's names for the namespaces. False: there is no such map yet.
    package func set(_ clients: [UInt64: [IPAddress]]) throws(DataplaneError) -> Bool {
        do throws(BPFError) {
            guard let pinned = try BPFDescriptor.pinned(at: path) else { return false }
            let map = try BPFMap<UInt64, OwnAddresses>(pinned, name: "mesh_clients")
            for (cookie, addresses) in clients {
                var own = OwnAddresses()
                for address in addresses {
                    if address.isIPv4 { own.v4 = heddle_address(address) } else { own.v6 = heddle_address(address) }
                }
                try map.update(cookie, own)
            }
            for (cookie, _) in try map.entries() where clients[cookie] == nil { try map.delete(cookie) }
            return true
        } catch { throw DataplaneError(error) }
    }
}
