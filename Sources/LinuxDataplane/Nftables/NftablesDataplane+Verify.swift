/// Compares what we wrote with what the kernel holds, and measures the latter.
import Addressing
import DataplaneIR
import Netlink
import Nftables
package import Reconcile

extension NftablesDataplane {
    /// `quick` trusts nftables' own count of commits, and where that moved looks at everything but the elements.
    package func verify(quick: Bool) throws(DataplaneError) -> [Drift] {
        guard let node else { return [] }
        do throws(NetlinkError) {
            let current = try connection.generation()
            if quick, current == kernelGeneration { return [] }
            var result: [Drift] = []
            for mirror in mirrors {
                let label = mirror.table.label
                let observed = try TableObservation.read(mirror.table, connection, withElements: !quick)
                guard let observed else {
                    result.append(Drift(object: "table \(label)", detail: "is missing"))
                    continue
                }
                result += chainDrift(mirror, observed) + setDrift(mirror, observed)
                if !quick { result += elementDrift(expectedElements(mirror), observed.elements, label) }
            }
            if !quick, result.isEmpty { kernelGeneration = current }
            return result
        } catch {
            throw DataplaneError(error)
        }

        func chainDrift(_ mirror: TableMirror, _ observed: TableObservation) -> [Drift] {
            let label = mirror.table.label
            let specs = ConstantChain.all(mirror.family, node) + mirror.chainsInUse
            var result: [Drift] = []
            for spec in specs {
                let object = "chain \(label) \(spec.name)"
                guard let found = observed.chains[spec.name] else {
                    result.append(Drift(object: object, detail: "is missing"))
                    continue
                }
                // Found garbage was never ours to describe.
                if mirror.chains.garbage.contains(spec.name) { continue }
                if found.base != spec.base { result.append(Drift(object: object, detail: "has another hook")) }
                let wanted = spec.rules.map { $0.fingerprint(in: mirror.table) }
                if found.fingerprints != wanted {
                    let detail = "has \(found.fingerprints.count) rules that are not our \(wanted.count)"
                    result.append(Drift(object: object, detail: detail))
                }
            }
            let names = Set(specs.map(\.name))
            for name in observed.chains.keys.sorted() where !names.contains(name) {
                result.append(Drift(object: "chain \(label) \(name)", detail: "is not ours"))
            }
            return result
        }
    }

    private func setDrift(_ mirror: TableMirror, _ observed: TableObservation) -> [Drift] {
        let label = mirror.table.label
        var result: [Drift] = []
        for set in TableSet.allCases where !observed.hasSet(set, mirror.family) {
            let detail = observed.sets[set.name] == nil ? "is missing" : "has another type"
            result.append(Drift(object: "set \(label) \(set.name)", detail: detail))
        }
        let affinity = Set(mirror.chainsInUse.compactMap(\.affinitySet))
        for name in affinity.sorted() where observed.sets[name] == nil {
            result.append(Drift(object: "set \(label) \(name)", detail: "is missing"))
        }
        let known = affinity.union(TableSet.allCases.map(\.name)).union(mirror.garbageSets)
        for name in observed.sets.keys.sorted() where !known.contains(name) {
            result.append(Drift(object: "set \(label) \(name)", detail: "is not ours"))
        }
        return result
    }

    private func expectedElements(_ mirror: TableMirror) -> [ElementKey: TableElement] {
        guard let node else { return [:] }
        var result = mirror.garbageElements
        for element in nodeElements(node, mirror.family) { result[element.key] = element }
        for key in mirror.sharedElements { result[key] = TableElement(key: key) }
        if let key = mirror.generation { result[key] = TableElement(key: key) }
        for program in programs.values where program.id.family == mirror.family {
            for element in elements(program, node) { result[element.key] = element }
        }
        return result
    }

    private func elementDrift(
        _ expected: [ElementKey: TableElement], _ observed: [ElementKey: TableElement], _ label: String
    ) -> [Drift] {
        var result: [Drift] = []
        for (key, element) in expected {
            let object = "\(label) \(key.set.name)"
            guard let found = observed[key] else {
                result.append(Drift(object: object, detail: "element \(key) is missing"))
                continue
            }
            guard key.set != .generation, found != element else { continue }
            result.append(Drift(object: object, detail: "element \(found) should be \(element)"))
        }
        for key in observed.keys where expected[key] == nil {
            result.append(Drift(object: "\(label) \(key.set.name)", detail: "element \(key) is not ours"))
        }
        return result.sorted { ($0.object, $0.detail) < ($1.object, $1.detail) }
    }

    package func capacity() throws(DataplaneError) -> [MapUsage] {
        do throws(NetlinkError) {
            var result: [MapUsage] = []
            for mirror in mirrors { result += try TableUsage.read(mirror.table, connection) }
            return result
        } catch {
            throw DataplaneError(error)
        }
    }
}

struct TableUsage {
    private let table: Table
    private(set) var maps: [MapUsage] = []

    init(_ table: Table) { self.table = table }

    /// From elements that were read already; sticky clients are not among them.
    mutating func note(_ set: TableSet, _ elements: [TableElement]) {
        let definition = set.definition(table.family)
        let valueSize = definition.value == .verdict ? 16 : definition.valueSize
        let size = Self.overhead + definition.keySize + valueSize
        maps.append(
            MapUsage(
                name: "\(table.label) \(set.name)", type: definition.value != .none ? "map" : "set",
                entries: elements.count, maxEntries: 0,
                bytes: elements.reduce(0) { $0 + size + $1.comment.utf8.count }))
    }

    /// What an element costs besides key, value and comment: hash node, generation mask, allocator's rounding.
    private static let overhead = 48

    static func read(_ table: Table, _ connection: NftablesConnection) throws(NetlinkError) -> [MapUsage] {
        var result: [MapUsage] = []
        for set in try connection.sets(table) {
            let sizes = try connection.elements(of: set.name, in: table) { (element) -> Int? in
                overhead + element.key.byteCount + element.keyEnd.byteCount + element.value.byteCount
                    + element.comment.utf8.count
                    + (set.isVerdictMap ? 16 : 0)
            }
            let isMap = set.isVerdictMap || set.valueSize > 0
            result.append(
                MapUsage(
                    name: "\(table.label) \(set.name)", type: isMap ? "map" : "set", entries: sizes.count,
                    maxEntries: 0, bytes: sizes.reduce(0, +)))
        }
        return result
    }
}
