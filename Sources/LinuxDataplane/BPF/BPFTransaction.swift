/// Writes a set of changed services into the maps. Everything is put in place where no reader looks yet; then each
/// service changes with the store of one word. The order, with what a connect sees if the agent dies there:
///
///  1. names, blocks, entries of new frontends: those of a new service lead to an empty slot, which serves nothing
///  2. one store a service: the new block, or the whole new service with all its frontends
///  3. frontends that change hands: the new owner is published already, the old one still is
///  4. words of removed services become 0, then their frontends and names go
///
/// When a write fails, what this transaction made visible too early is taken back, and the mirror must be read anew.
import Addressing
import BPF
import CDataplaneABI
import CLinux
import DataplaneIR
import Glibc
import Reconcile

struct BPFTransaction {
    struct Change {
        let old: ServiceRecord?
        let new: ServiceRecord
        var added: [FrontendKey] = []
        var moved: [FrontendKey] = []
        var dropped: [FrontendKey] = []
    }
    private let maps: BPFMaps
    private let faults: FaultInjector
    private(set) var changes: [Change] = []
    private(set) var removals: [ServiceRecord] = []
    private(set) var operations = 0
    private var newFrontends = 0
    /// Frontends written into services that were published before: seen by readers at once.
    private var visible: [ServicePortID: [heddle_frontend_key]] = [:]

    init(maps: BPFMaps, faults: FaultInjector) {
        self.maps = maps
        self.faults = faults
    }

    var isEmpty: Bool { changes.isEmpty && removals.isEmpty }

    // MARK: Preparation: memory only

    mutating func remove(_ record: ServiceRecord) { removals.append(record) }

    /// Finds room for a new version of a service. A sentence when there is none: then nothing of it is written.
    mutating func add(_ program: ServiceProgram, _ mirror: inout BPFMirror) throws(BPFError) -> String? {
        let old = mirror.services[program.id]
        var change: (added: [FrontendKey], moved: [FrontendKey]) = ([], [])
        for frontend in program.frontends {
            let key = FrontendKey(frontend, of: program.id)
            if let owner = mirror.owners[key] {
                if owner.serviceID != old?.serviceID || owner.kind != frontend.abiKind { change.moved.append(key) }
            } else {
                change.added.append(key)
            }
        }
        let frontends = mirror.owners.count + mirror.strayFrontends.count + newFrontends + change.added.count
        guard frontends <= maps.frontends.maxEntries || change.added.isEmpty else {
            return "map frontends is full (\(maps.frontends.maxEntries) entries); make it larger"
        }
        guard heddle_service_name(program.id, slot: 0) != nil else {
            return "a name is longer than \(HEDDLE_NAME_SIZE - 1) bytes"
        }
        let slot: UInt32? = if let old { old.slot } else { try findRoom(&mirror, { $0.takeSlot() }) }
        guard let slot else {
            return "map services is full (\(maps.services.count) entries); make it larger"
        }
        guard let base = try findRoom(&mirror, { $0.blocks.allocate(program.backends.count + 1) }) else {
            if old == nil { mirror.returnSlot(slot) }
            return "map backends has no room for \(program.backends.count) endpoints "
                + "(\(mirror.blocks.used) of \(maps.backends.count) entries in use); make it larger"
        }
        let record = ServiceRecord(
            serviceID: old?.serviceID ?? next(\.next_svc_id), slot: slot,
            published: Published(base: UInt32(base), generation: next(\.next_generation)), program: program,
            uids: uids(program, old))
        let keys = Set(program.keys)
        let dropped = old?.program.keys.filter { !keys.contains($0) } ?? []
        newFrontends += change.added.count
        changes.append(
            Change(old: old, new: record, added: change.added, moved: change.moved, dropped: dropped))
        return nil
    }

    /// When the first try finds nothing, waits until what was retired can be used again.
    private func findRoom<R>(
        _ mirror: inout BPFMirror, _ take: (inout BPFMirror) -> R?
    ) throws(BPFError) -> R? {
        if let found = take(&mirror) { return found }
        guard mirror.hasRetired else { return nil }
        try waitForReaders()
        mirror.reuseRetired()
        return take(&mirror)
    }

    /// Counters live in the maps: whoever comes after us goes on from there. 0 is no number.
    private func next(_ counter: WritableKeyPath<heddle_meta, UInt32>) -> UInt32 {
        let value = max(maps.meta.pointee[keyPath: counter], 1)
        maps.meta.pointee[keyPath: counter] = value &+ 1
        return value
    }

    /// A backend keeps its uid while it stays usable. One that comes back gets another, so that clients do not return
    /// to it: their memory went with it (spec row 26).
    private func uids(_ program: ServiceProgram, _ old: ServiceRecord?) -> [UInt32] {
        guard program.affinitySeconds != nil else { return [] }
        var known: [SocketAddress: UInt32] = [:]
        if let old, !old.uids.isEmpty {
            for (index, backend) in old.program.backends.enumerated() where old.program.isUsable(index) {
                known[backend.address] = old.uids[index]
            }
        }
        return program.backends.indices.map { index in
            program.isUsable(index) ? known[program.backends[index].address] ?? next(\.next_uid) : 0
        }
    }

    // MARK: Writing

    mutating func commit(_ mirror: inout BPFMirror) throws(BPFError) {
        do throws(BPFError) {
            try writeNames()
            try writeBlocks()
            try writeNewFrontends(&mirror)
            try publish(&mirror)
        } catch {
            takeBack()
            throw error
        }
        try moveFrontends(&mirror)
        try withdraw(&mirror)
    }

    private mutating func writeNames() throws(BPFError) {
        var ids: [UInt32] = []
        var names: [heddle_service_name] = []
        for change in changes where change.old == nil {
            guard let name = heddle_service_name(change.new.program.id, slot: change.new.slot) else { continue }
            ids.append(change.new.serviceID)
            names.append(name)
        }
        guard !ids.isEmpty else { return }
        try faults.check("update map service_names")
        var written = 0
        try maps.serviceNames.update(batch: ids, names, written: &written)
        operations += written
    }

    private mutating func writeBlocks() throws(BPFError) {
        for change in changes {
            let base = Int(change.new.published.base)
            try faults.check("write the endpoints of \(change.new.program.id)")
            change.new.block.write(to: try maps.backends.elements(upTo: base + change.new.entryCount) + base)
        }
    }

    private mutating func writeNewFrontends(_ mirror: inout BPFMirror) throws(BPFError) {
        var keys: [heddle_frontend_key] = []
        var values: [heddle_frontend] = []
        for change in changes where !change.added.isEmpty {
            for (key, value) in entries(change.added, change.new) {
                keys.append(key.raw)
                values.append(value)
                mirror.setOwner(change.new.owner(of: key), of: key)
            }
            if change.old != nil { visible[change.new.program.id] = change.added.map(\.raw) }
        }
        guard !keys.isEmpty else { return }
        try faults.check("update map frontends")
        var written = 0
        try maps.frontends.update(batch: keys, values, written: &written)
        operations += written
    }

    private mutating func publish(_ mirror: inout BPFMirror) throws(BPFError) {
        for change in changes {
            try faults.check("publish \(change.new.program.id)")
            try maps.publish(change.new.slot, change.new.published)
            visible[change.new.program.id] = nil
            if let old = change.old { mirror.retire(block: old.published, old.entryCount) }
            mirror.set(change.new)
            operations += 1
        }
    }

    /// After a failure: services that were not published again must not answer at their new frontends. Failing at this
    /// too is no worse than failing before.
    private func takeBack() {
        var deleted = 0
        try? maps.frontends.delete(batch: visible.values.flatMap { $0 }, deleted: &deleted)
    }

    private mutating func moveFrontends(_ mirror: inout BPFMirror) throws(BPFError) {
        var keys: [heddle_frontend_key] = []
        var values: [heddle_frontend] = []
        for change in changes where !change.moved.isEmpty {
            for (key, value) in entries(change.moved, change.new) {
                keys.append(key.raw)
                values.append(value)
                mirror.setOwner(change.new.owner(of: key), of: key)
            }
        }
        guard !keys.isEmpty else { return }
        try faults.check("update map frontends")
        var written = 0
        try maps.frontends.update(batch: keys, values, written: &written)
        operations += written
    }

    private mutating func withdraw(_ mirror: inout BPFMirror) throws(BPFError) {
        for record in removals {
            try faults.check("withdraw \(record.program.id)")
            try maps.publish(record.slot, Published(word: 0))
            mirror.remove(record.program.id)
            mirror.retire(block: record.published, record.entryCount)
            mirror.retire(slot: record.slot)
            operations += 1
        }
        var gone: [FrontendKey] = []
        for change in changes {
            gone += change.dropped.filter { mirror.owners[$0]?.serviceID == change.new.serviceID }
        }
        for record in removals {
            gone += record.program.keys.filter { mirror.owners[$0]?.serviceID == record.serviceID }
        }
        for key in gone { mirror.setOwner(nil, of: key) }
        let strays = mirror.strayFrontends.filter { raw in FrontendKey(raw).map { mirror.owners[$0] == nil } ?? true }
        try deleteFrontends(gone.map(\.raw) + strays)
        mirror.strayFrontends = []
        try deleteNames(removals.map(\.serviceID) + mirror.strayNames)
        mirror.strayNames = []
    }

    private mutating func deleteFrontends(_ keys: [heddle_frontend_key]) throws(BPFError) {
        guard !keys.isEmpty else { return }
        try faults.check("delete from map frontends")
        var deleted = 0
        try maps.frontends.delete(batch: keys, deleted: &deleted)
        operations += deleted
    }

    private mutating func deleteNames(_ ids: [UInt32]) throws(BPFError) {
        guard !ids.isEmpty else { return }
        try faults.check("delete from map service_names")
        var deleted = 0
        try maps.serviceNames.delete(batch: ids, deleted: &deleted)
        operations += deleted
    }

    private func entries(_ keys: [FrontendKey], _ record: ServiceRecord) -> [(FrontendKey, heddle_frontend)] {
        keys.map { key in
            let kind = record.owner(of: key)?.kind ?? Frontend.Kind.clusterIP.abiNumber
            return (key, heddle_frontend(key, serviceID: record.serviceID, slot: record.slot, kind: kind))
        }
    }
}

/// Returns when nobody can hold anything any more that he found in the maps before the call: the programs run inside
/// RCU read sections, and this system call waits for all of them. On a machine with one processor it does not wait;
/// there the checks of svc_id and generation catch what a preempted reader would see.
func waitForReaders() throws(BPFError) {
    guard clinux_membarrier_global() == 0 else { throw BPFError("wait for readers of the maps", errno) }
}

extension ServiceRecord {
    /// nil when the key is none of the service's.
    func owner(of key: FrontendKey) -> BPFMirror.Owner? {
        program.frontends.first { FrontendKey($0, of: program.id) == key }
            .map { BPFMirror.Owner(serviceID: serviceID, slot: slot, kind: $0.abiKind) }
    }
}

extension ServiceProgram {
    /// In the set of one of the two policies.
    func isUsable(_ index: Int) -> Bool { clusterRange.contains(index) || localRange.contains(index) }
}
