/// How full the maps are.
import BPF
import CDataplaneABI
import Reconcile

extension BPFMaps {
    /// `counts`: entries in use where the caller knows them; the others are looked at.
    func usage(_ counts: [String: Int]) throws(BPFError) -> [MapUsage] {
        var result: [MapUsage] = []
        for name in Self.names {
            guard let descriptor = descriptors[name] else { continue }
            let maxEntries = try descriptor.mapSizes().maxEntries
            let entries: Int
            switch name {
            case "affinity": entries = try affinity.entries().count
            case "udp_sockets": entries = try udpSockets.entries().count
            case "config", "meta", "reasons": entries = maxEntries
            // Storage on sockets: the kernel keeps no count of it.
            case "socket_origin", "socket_flows": entries = 0
            default: entries = counts[name] ?? 0
            }
            result.append(
                MapUsage(
                    name: name, type: try BPFMapKind(of: descriptor)?.rawValue ?? "unknown", entries: entries,
                    maxEntries: maxEntries,
                    bytes: descriptor.memory))
        }
        return result
    }
}
