/// One block of the `backends` array: how a service's endpoints lie in it, written to and read from mapped memory.
import Addressing
import CDataplaneABI
import DataplaneIR

struct BackendBlock: Equatable {
    var serviceID: UInt32
    var generation: UInt32
    var backends: [Backend]
    var clusterCount: Int
    var localRange: Range<Int>
    var internalPolicy: TrafficPolicy
    var externalPolicy: TrafficPolicy
    var affinitySeconds: UInt32?
    /// One for each backend; empty without session affinity.
    var uids: [UInt32]

    init(_ program: ServiceProgram, serviceID: UInt32, generation: UInt32, uids: [UInt32]) {
        self.serviceID = serviceID
        self.generation = generation
        backends = program.backends
        clusterCount = program.clusterRange.upperBound
        localRange = program.localRange
        internalPolicy = program.internalPolicy
        externalPolicy = program.externalPolicy
        affinitySeconds = program.affinitySeconds
        self.uids = uids
    }

    /// Entries it takes in the array.
    var entryCount: Int { backends.count + 1 }

    private var header: heddle_block {
        heddle_block(
            svc_id: serviceID, generation: generation, total: UInt32(backends.count),
            cluster_count: UInt32(clusterCount), local_first: UInt32(localRange.lowerBound),
            local_count: UInt32(localRange.count), affinity_seconds: affinitySeconds ?? 0,
            flags: (internalPolicy == .local ? UInt32(HEDDLE_BLOCK_INTERNAL_LOCAL) : 0)
                | (externalPolicy == .local ? UInt32(HEDDLE_BLOCK_EXTERNAL_LOCAL) : 0))
    }
    private func entry(_ index: Int) -> heddle_backend {
        let backend = backends[index]
        return heddle_backend(
            address: heddle_address(backend.address.address), port: backend.address.port.bigEndian,
            state: backend.state.rawValue, unused: 0, svc_id: serviceID, generation: generation,
            uid: uids.isEmpty ? 0 : uids[index])
    }

    /// Nobody can see the block yet: its place is free, the grace period of its last use is over.
    func write(to memory: UnsafeMutablePointer<heddle_backend>) {
        // A reader that nevertheless still looks at the old content reads the address first and then the generation:
        // so the generation goes first here.
        for index in 0..<entryCount { memory[index].generation = generation }
        heddle_store_barrier()
        UnsafeMutableRawPointer(memory).storeBytes(of: header, as: heddle_block.self)
        for index in backends.indices { memory[index + 1] = entry(index) }
    }

    /// nil unless the memory holds a whole block of that service and generation.
    init?(from memory: UnsafePointer<heddle_backend>, room: Int, serviceID: UInt32, generation: UInt32) {
        let header = UnsafeRawPointer(memory).load(as: heddle_block.self)
        let total = Int(header.total)
        let local = Int(header.local_first)..<Int(header.local_first) + Int(header.local_count)
        guard header.svc_id == serviceID, header.generation == generation, total < room,
            header.cluster_count <= header.total, local.upperBound <= total
        else { return nil }
        self.serviceID = serviceID
        self.generation = generation
        clusterCount = Int(header.cluster_count)
        localRange = local
        internalPolicy = header.flags & UInt32(HEDDLE_BLOCK_INTERNAL_LOCAL) != 0 ? .local : .cluster
        externalPolicy = header.flags & UInt32(HEDDLE_BLOCK_EXTERNAL_LOCAL) != 0 ? .local : .cluster
        affinitySeconds = header.affinity_seconds == 0 ? nil : header.affinity_seconds
        backends = []
        backends.reserveCapacity(total)
        uids = []
        for index in 1..<total + 1 {
            let entry = memory[index]
            guard entry.svc_id == serviceID, entry.generation == generation else { return nil }
            backends.append(
                Backend(
                    SocketAddress(entry.address.value, UInt16(bigEndian: entry.port)),
                    state: Backend.State(rawValue: entry.state)))
            if affinitySeconds != nil { uids.append(entry.uid) }
        }
    }

    /// Compares with memory without making values of it: the audit runs every few seconds over everything.
    func equals(_ memory: UnsafePointer<heddle_backend>) -> Bool {
        var header = self.header
        guard withUnsafeBytes(of: &header, { $0.elementsEqual(UnsafeRawBufferPointer(start: memory, count: $0.count)) })
        else { return false }
        for index in backends.indices {
            let (mine, theirs) = (entry(index), memory[index + 1])
            guard mine.address.high == theirs.address.high, mine.address.low == theirs.address.low,
                mine.port == theirs.port, mine.state == theirs.state, mine.svc_id == theirs.svc_id,
                mine.generation == theirs.generation, mine.uid == theirs.uid
            else { return false }
        }
        return true
    }
}
