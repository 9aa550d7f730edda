/// What kube-proxy left in the kernel of this network namespace, in any of its modes. Rules of two service proxies do
/// not break each other (the first translation of a connection counts), but they serve services that may be gone, so
/// they are reported, and removed when asked (spec row 173).
import Addressing
import CLinux
package import DataplaneIR
import Glibc
import Netlink
import Nftables

package struct KubeProxyLeftovers: Equatable, Sendable {
    /// One of iptables' tables, as nftables has it.
    struct IptablesTable: Equatable, Sendable {
        let table: Table
        /// Chains that only kube-proxy makes.
        var chains: [String]
        /// Rules of other chains that lead to them.
        var jumps: [ObservedJump]
        /// Chains of kube-proxy that somebody else's chain leads to: they stay.
        var kept: [String]
    }
    /// kube-proxy's own tables in nftables mode.
    var tables: [Table] = []
    var iptables: [IptablesTable] = []
    /// Rules of the old iptables interface, which nftables does not see.
    var hasLegacyIptables = false
    var hasIPVS = false

    package var isEmpty: Bool { tables.isEmpty && iptables.isEmpty && !hasLegacyIptables && !hasIPVS }

    package static func find() throws(DataplaneError) -> KubeProxyLeftovers {
        do throws(NetlinkError) {
            let connection = try NftablesConnection()
            var found = KubeProxyLeftovers()
            for family in AddressFamily.allCases {
                for table in try connection.tables(family) {
                    let table = Table(family, table.name)
                    if table.name == "kube-proxy" { found.tables.append(table) }
                    guard KubeProxyNames.iptables.contains(table.name) else { continue }
                    if let chains = try iptables(table, connection) { found.iptables.append(chains) }
                }
            }
            found.hasLegacyIptables = [AF_INET, AF_INET6].contains { family in
                KubeProxyNames.iptables.contains { clinux_legacy_iptables_has(family, $0, "KUBE-SERVICES") == 1 }
            }
            found.hasIPVS = if_nametoindex("kube-ipvs0") > 0
            return found
        } catch {
            throw DataplaneError(error, remedy: "reading the rules needs CAP_NET_ADMIN")
        }
    }

    private static func iptables(
        _ table: Table, _ connection: NftablesConnection
    ) throws(NetlinkError) -> IptablesTable? {
        let chains = try connection.chains(table)
        let names = Set(chains.map(\.name).filter(KubeProxyNames.isChain))
        guard !names.isEmpty else { return nil }
        let base = Set(chains.filter { $0.base != nil }.map(\.name))
        let incoming = try connection.jumps(table).filter { names.contains($0.target) && !names.contains($0.chain) }
        let kept = Set(incoming.filter { !base.contains($0.chain) }.map(\.target))
        return IptablesTable(
            table: table, chains: names.subtracting(kept).sorted(),
            jumps: incoming.filter { base.contains($0.chain) && !kept.contains($0.target) }, kept: kept.sorted())
    }

    /// Sentences for the log and `agentctl status`.
    package var warnings: [String] {
        guard !isEmpty else { return [] }
        var places = tables.map { "nftables table \($0.label)" }
        places += iptables.map { "\($0.chains.count + $0.kept.count) iptables chains in table \($0.table.label)" }
        if hasLegacyIptables { places.append("iptables-legacy rules") }
        if hasIPVS { places.append("IPVS interface kube-ipvs0") }
        return [
            "kube-proxy left rules in the kernel: \(places.joined(separator: ", ")); stop kube-proxy and run "
                + "agentctl cleanup --kube-proxy"
        ]
    }

    /// Removes what `find` found and returns what was removed and what could not be, in words.
    package func remove() throws(DataplaneError) -> (removed: [String], left: [String]) {
        var removed: [String] = []
        do throws(NetlinkError) {
            let connection = try NftablesConnection()
            var batch = connection.makeBatch()
            for table in tables {
                batch.delete(table)
                removed.append("table \(table.label)")
            }
            for found in iptables where !found.chains.isEmpty {
                for jump in found.jumps { batch.deleteRule(jump.handle, from: jump.chain, in: found.table) }
                // Their rules go first: they lead to one another.
                for chain in found.chains { batch.flushChain(chain, in: found.table) }
                for chain in found.chains { batch.deleteChain(chain, in: found.table) }
                removed.append(
                    "\(found.chains.count) chains of kube-proxy and \(found.jumps.count) rules that lead to them in "
                        + "table \(found.table.label)")
            }
            if !batch.isEmpty { try connection.commit(&batch) }
        } catch {
            throw DataplaneError(error, remedy: "removing rules needs CAP_NET_ADMIN")
        }
        var left = iptables.flatMap { found in
            found.kept.map { "chain \(found.table.label) \($0): a chain that is not kube-proxy's leads to it" }
        }
        if hasLegacyIptables {
            left.append("iptables-legacy rules: run kube-proxy --cleanup, or restart the node without kube-proxy")
        }
        if hasIPVS {
            left.append("IPVS services and the interface kube-ipvs0: run kube-proxy --cleanup, or restart the node")
        }
        return (removed, left)
    }
}

/// The names kube-proxy gives its chains. kubelet's are not among them: KUBE-FIREWALL, KUBE-KUBELET-CANARY,
/// KUBE-IPTABLES-HINT, KUBE-MARK-DROP.
enum KubeProxyNames {
    static let iptables = ["filter", "nat", "mangle", "raw"]
    private static let chains: Set<String> = [
        "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-NODE-PORT", "KUBE-POSTROUTING",
        "KUBE-MARK-MASQ", "KUBE-FORWARD", "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY", "KUBE-LOAD-BALANCER",
        "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
    ]
    private static let prefixes = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-SEP-", "KUBE-FW-", "KUBE-XLB-"]

    static func isChain(_ name: String) -> Bool {
        chains.contains(name) || prefixes.contains { name.hasPrefix($0) }
    }
}
