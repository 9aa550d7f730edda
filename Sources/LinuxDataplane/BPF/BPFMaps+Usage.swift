/// How full the maps are.
import BPF
import CDataplaneABI
import Observation

extension BPFMaps {
    /// `counts`: entries in use where the caller knows them; the others are looked at.
    func usage(_ counts: [String: Int]) throws(BPFError) -> [MapUsage] {
        var result: [MapUsage] = []
        for name in Self.names {
            guard let descriptor = descriptors[name] else { continue }
            var maxEntries = try descriptor.mapSizes().maxEntries
            let entries: Int
            switch name {
            case "affinity": entries = try affinity.entries().count
            case "affinity_shares": entries = try affinityShares.entries().count
            case "proxy_clients": entries = try proxyClients.entries().count
            case "proxy_shares": entries = try proxyShares.entries().count
            case "mesh_clients": entries = try meshClients.keys().count
            // Always all there: they do not fill up.
            case "config", "meta", "reasons": (entries, maxEntries) = (maxEntries, 0)
            // Storage on sockets: the kernel keeps no count of it.
            case "socket_origin", "socket_flows", "proxy_dialled": entries = 0
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
