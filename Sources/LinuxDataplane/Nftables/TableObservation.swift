/// What the kernel holds under our table's name.
import Addressing
import CLibnftnl
import Netlink
import Nftables

struct TableObservation {
    struct Chain {
        let base: BaseChain?
        /// Of each rule in order; nil: not a rule of ours.
        var fingerprints: [UInt64?] = []
    }
    var comment: String?
    var chains: [String: Chain] = [:]
    var sets: [String: ObservedSet] = [:]
    var elements: [ElementKey: TableElement] = [:]

    /// nil: there is no such table.
    static func read(
        _ table: Table, _ connection: NftablesConnection, withElements: Bool
    ) throws(NetlinkError) -> TableObservation? {
        guard let found = try connection.tables(table.family).first(where: { $0.name == table.name }) else {
            return nil
        }
        var result = TableObservation()
        result.comment = Userdata.comment(in: found.userdata)
        for chain in try connection.chains(table) { result.chains[chain.name] = Chain(base: chain.base) }
        for rule in try connection.rules(table) { result.chains[rule.chain]?.fingerprints.append(rule.fingerprint) }
        for set in try connection.sets(table) { result.sets[set.name] = set }
        guard withElements else { return result }
        for set in TableSet.allCases {
            let elements = try result.readElements(of: set, table, connection)
            result.elements.reserveCapacity(result.elements.count + elements.count)
            for element in elements { result.elements[element.key] = element }
        }
        return result
    }

    /// None if the set is not one of ours.
    func readElements(
        of set: TableSet, _ table: Table, _ connection: NftablesConnection
    ) throws(NetlinkError) -> [TableElement] {
        guard hasSet(set, table.family) else { return [] }
        return try connection.elements(of: set.name, in: table) { TableElement(set, table.family, $0) }
    }

    /// The set exists and has the shape we gave it.
    func hasSet(_ set: TableSet, _ family: AddressFamily) -> Bool {
        let wanted = set.definition(family)
        guard let found = sets[wanted.name] else { return false }
        return found.flags == wanted.flags && found.keySize == wanted.keySize
            && found.isVerdictMap == (wanted.value == .verdict)
            && (wanted.value == .verdict || found.valueSize == wanted.valueSize)
    }

    /// Made by an agent of another version, or bent beyond what changing elements and rules can repair: the table must
    /// be replaced.
    func mustBeReplaced(_ family: AddressFamily) -> Bool {
        guard let comment, let (schema, _) = TableLayout.parse(comment: comment), schema == TableLayout.schema else {
            return true
        }
        if TableSet.allCases.contains(where: { sets[$0.name] != nil && !hasSet($0, family) }) { return true }
        return ConstantChain.bases.contains { name, base in
            chains[name].map { $0.base != base } ?? false
        }
    }
}
