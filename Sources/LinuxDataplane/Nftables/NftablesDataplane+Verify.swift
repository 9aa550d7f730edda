/// Compares what we wrote with what the kernel holds, and measures the latter.
import Addressing
package import DataplaneIR
import Glibc
import Netlink
import Nftables
package import Observation
package import Reconcile

extension NftablesDataplane {
    /// `quick` trusts nftables' own count of commits, and where that moved looks at everything but the elements: the
    /// monitor tells of those.
    package func verify(quick: Bool) throws(DataplaneError) -> [Drift] {
        guard node != nil else { return [] }
        do throws(NetlinkError) {
            let current = try connection.generation()
            if quick, current == kernelGeneration { return [] }
            var result: [Drift] = []
            var looked = 0
            for mirror in mirrors {
                result += try structureDrift(mirror, &looked)
                if !quick { result += try elementDrift(of: TableSet.allCases, mirror) }
            }
            if result.isEmpty { kernelGeneration = current }
            return result
        } catch {
            throw DataplaneError(error)
        }
    }

    /// Everything but the elements. `looked` counts what was looked at.
    func structureDrift(_ mirror: TableMirror, _ looked: inout Int) throws(NetlinkError) -> [Drift] {
        guard let node else { return [] }
        guard let observed = try TableObservation.read(mirror.table, connection, withElements: false) else {
            return [Drift(object: "table \(mirror.table.label)", detail: "is missing")]
        }
        looked += observed.sets.count + observed.chains.values.reduce(0) { $0 + 1 + $1.fingerprints.count }
        return chainDrift(mirror, observed) + setDrift(mirror, observed)

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

    private func expectedElements(of sets: [TableSet], _ mirror: TableMirror) -> [ElementKey: TableElement] {
        guard let node else { return [:] }
        var result: [ElementKey: TableElement] = [:]
        func note(_ elements: some Sequence<TableElement>) {
            for element in elements where sets.contains(element.key.set) { result[element.key] = element }
        }
        note(mirror.garbageElements.values)
        note(nodeElements(node, mirror.family))
        note(meshElements(node.mesh, mirror.family))
        note(mirror.sharedElements.lazy.map { TableElement(key: $0) })
        if let element = mirror.generation { note(CollectionOfOne(element)) }
        for program in programs.values where program.id.family == mirror.family { note(elements(program, node)) }
        return result
    }

    /// Element by element, from the programs: what the mirror believes plays no part.
    func elementDrift(of sets: [TableSet], _ mirror: TableMirror) throws(NetlinkError) -> [Drift] {
        let (table, family) = (mirror.table, mirror.family)
        var expected = expectedElements(of: sets, mirror)
        var result: [Drift] = []
        for set in sets {
            let object = "\(table.label) \(set.name)"
            var elements: [TableElement] = []
            do throws(NetlinkError) {
                elements = try connection.elements(of: set.name, in: table) { TableElement(set, family, $0) }
            } catch {
                // Neither set nor table.
                guard error.code == ENOENT else { throw error }
            }
            for found in elements {
                guard let element = expected.removeValue(forKey: found.key) else {
                    result.append(Drift(object: object, detail: "element \(found.key) is not ours"))
                    continue
                }
                guard found != element else { continue }
                result.append(Drift(object: object, detail: "element \(found) should be \(element)"))
            }
        }
        for key in expected.keys {
            result.append(Drift(object: "\(table.label) \(key.set.name)", detail: "element \(key) is missing"))
        }
        return result.sorted { ($0.object, $0.detail) < ($1.object, $1.detail) }
    }

    /// Of our own sets we know what they hold; only sticky clients have to be counted.
    package func capacity() throws(DataplaneError) -> [MapUsage] {
        do throws(NetlinkError) {
            var result: [MapUsage] = []
            for mirror in mirrors {
                var usage = TableUsage(mirror.table)
                for set in TableSet.allCases { usage.note(set, mirror.digest[set]) }
                try usage.noteClients(connection)
                result += usage.maps
            }
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

    /// Sticky clients are not among them.
    mutating func note(_ set: TableSet, _ digest: SetDigest) {
        let definition = set.definition(table.family)
        let valueSize = definition.value == .verdict ? 16 : definition.valueSize
        maps.append(
            MapUsage(
                name: "\(table.label) \(set.name)", type: definition.value != .none ? "map" : "set",
                entries: digest.count, maxEntries: 0,
                bytes: digest.count * (Self.overhead + definition.keySize + valueSize) + digest.commentBytes))
    }

    /// What an element costs besides key, value and comment: hash node, generation mask, allocator's rounding.
    private static let overhead = 48

    /// The sets that rules fill.
    mutating func noteClients(_ connection: NftablesConnection) throws(NetlinkError) {
        let ours = Set(TableSet.allCases.map(\.name))
        for set in try connection.sets(table) where !ours.contains(set.name) {
            let sizes = try connection.elements(of: set.name, in: table) { (element) -> Int? in
                Self.overhead + element.key.byteCount + element.comment.utf8.count
            }
            maps.append(
                MapUsage(
                    name: "\(table.label) \(set.name)", type: "set", entries: sizes.count, maxEntries: 0,
                    bytes: sizes.reduce(0, +)))
        }
    }
}
