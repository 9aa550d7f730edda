/// What we believe the maps hold, so that an update is compared in memory and only differences are written. Pure: it
/// does not touch the kernel.
import Addressing
import CDataplaneABI
import DataplaneIR

/// A service as it is published.
struct ServiceRecord {
    let serviceID: UInt32
    let slot: UInt32
    var published: Published
    /// Only what the maps can hold: see `kernelProgram`.
    var program: ServiceProgram
    var uids: [UInt32]

    var block: BackendBlock {
        BackendBlock(program, serviceID: serviceID, generation: published.generation, uids: uids)
    }
    var entryCount: Int { program.backends.count + 1 }
}

struct BPFMirror {
    /// What a `frontends` entry points at. svc_id 0: the mark of a cluster IP in use.
    struct Owner: Equatable {
        var serviceID: UInt32
        var slot: UInt32
        /// enum heddle_kind.
        var kind: UInt8
    }
    private(set) var services: [ServicePortID: ServiceRecord] = [:]
    /// Every key in the `frontends` map.
    private(set) var owners = ExpectedEntries<FrontendKey, Owner>()
    /// Every key in the `service_names` map, and a digest of its value.
    private(set) var names = ExpectedEntries<UInt32, UInt64>()
    var strayFrontends: [heddle_frontend_key] = []
    var strayNames: [UInt32] = []
    var nodeAddresses: Set<IPAddress> = []
    /// The map service_cidrs.
    var ranges: [IPPrefix: UInt32] = [:]
    var meshAddresses: Set<IPAddress> = []
    var blocks: BlockAllocator
    private var freeSlots: BitTree
    /// Taken out of use, but a reader may still look at them.
    private(set) var retiredBlocks: [(base: UInt32, count: Int)] = []
    private(set) var retiredSlots: [UInt32] = []

    init(sizes: BPFMapSizes) {
        blocks = BlockAllocator(capacity: sizes.backends)
        freeSlots = BitTree(capacity: sizes.services)
        for slot in 0..<sizes.services { freeSlots.insert(slot) }
    }

    /// Cluster IPs marked as in use.
    var liveAddresses: Set<IPAddress> { Set(owners.keys.lazy.filter { $0.scope == .live }.map(\.address)) }

    /// Takes over what was read. False: the service's block or slot is taken by another, so it is not whole.
    mutating func adopt(_ service: AdoptedService) -> Bool {
        guard freeSlots.contains(Int(service.slot)), services[service.program.id] == nil,
            blocks.claim(Int(service.published.base), service.program.backends.count + 1)
        else { return false }
        freeSlots.remove(Int(service.slot))
        let record = ServiceRecord(
            serviceID: service.serviceID, slot: service.slot, published: service.published, program: service.program,
            uids: service.uids)
        set(record)
        for frontend in service.program.frontends {
            owners[FrontendKey(frontend, of: service.program.id)] = Owner(
                serviceID: service.serviceID, slot: service.slot, kind: frontend.abiKind)
        }
        return true
    }

    mutating func set(_ record: ServiceRecord) {
        let old = services.updateValue(record, forKey: record.program.id)
        guard old?.serviceID != record.serviceID else { return }
        names[record.serviceID] = heddle_service_name(record.program.id, slot: record.slot)?.digest
    }
    mutating func remove(_ id: ServicePortID) {
        if let record = services.removeValue(forKey: id) { names[record.serviceID] = nil }
    }
    mutating func beginComparison() {
        owners.beginComparison()
        names.beginComparison()
    }
    mutating func meetOwner(of key: FrontendKey) -> Owner? { owners.meet(key) }
    mutating func meetName(of serviceID: UInt32) -> UInt64? { names.meet(serviceID) }
    /// Walks over all services.
    func record(of serviceID: UInt32) -> ServiceRecord? { services.values.first { $0.serviceID == serviceID } }
    mutating func setOwner(_ owner: Owner?, of key: FrontendKey) { owners[key] = owner }

    mutating func takeSlot() -> UInt32? {
        guard let slot = freeSlots.first else { return nil }
        freeSlots.remove(slot)
        return UInt32(slot)
    }
    /// It was taken but never written.
    mutating func returnSlot(_ slot: UInt32) { freeSlots.insert(Int(slot)) }
    mutating func retire(slot: UInt32) { retiredSlots.append(slot) }
    mutating func retire(block: Published, _ count: Int) { retiredBlocks.append((block.base, count)) }

    var hasRetired: Bool { !retiredBlocks.isEmpty || !retiredSlots.isEmpty }
    /// A grace period has passed since the last call to `retire`.
    mutating func reuseRetired() {
        for block in retiredBlocks { blocks.release(Int(block.base), block.count) }
        for slot in retiredSlots { freeSlots.insert(Int(slot)) }
        retiredBlocks = []
        retiredSlots = []
    }
}

extension ServiceProgram {
    /// The part that the maps hold: without what others do, and without what does not reach the kernel.
    func kernelProgram(_ frontends: [Frontend]) -> ServiceProgram {
        ServiceProgram(
            id: id, frontends: frontends.map(\.withoutRanges), backends: backends, clusterRange: clusterRange,
            localRange: localRange,
            internalPolicy: internalPolicy, externalPolicy: externalPolicy, affinitySeconds: affinitySeconds)
    }
    var keys: [FrontendKey] { frontends.map { FrontendKey($0, of: id) } }
}
