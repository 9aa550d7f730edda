/// The maps of the eBPF dataplane, opened and typed. Whoever has the directory of pins can open them: the agent, its
/// successor, or `agentctl` with no agent alive.
import Addressing
import BPF
import CDataplaneABI
import Glibc

final class BPFMaps {
    static let names = [
        "frontends", "services", "backends", "service_names", "node_addresses", "service_cidrs", "affinity",
        "affinity_shares", "socket_origin", "socket_flows", "proxy_clients", "proxy_shares", "proxy_dialled",
        "mesh_clients", "mesh_addresses", "config", "meta", "reasons",
    ]
    /// Maps whose content means the same after the others were rebuilt with other sizes.
    static let independent: Set<String> = [
        "affinity_shares", "socket_origin", "socket_flows", "proxy_clients", "proxy_shares", "proxy_dialled",
        "mesh_clients", "reasons",
    ]
    /// Maps about sockets that are open or about to be, and about pods, whatever the schema version: what is in them
    /// depends on no map but those it stands with here. Another meaning needs another size or name.
    private static let lasting: [[(name: String, key: Int, value: Int)]] = [
        [("socket_origin", MemoryLayout<Int32>.size, MemoryLayout<heddle_origin>.stride)],
        [
            ("proxy_clients", MemoryLayout<heddle_handshake>.stride, MemoryLayout<heddle_client>.stride),
            ("proxy_shares", MemoryLayout<UInt64>.stride, MemoryLayout<UInt32>.stride),
        ],
        [("proxy_dialled", MemoryLayout<Int32>.size, MemoryLayout<heddle_dialled>.stride)],
        [("mesh_clients", MemoryLayout<UInt64>.stride, MemoryLayout<heddle_mesh_client>.stride)],
    ]

    let descriptors: [String: BPFDescriptor]
    let frontends: BPFMap<heddle_frontend_key, heddle_frontend>
    let services: MappedArray<UInt64>
    let backends: MappedArray<heddle_backend>
    let serviceNames: BPFMap<UInt32, heddle_service_name>
    let nodeAddresses: BPFMap<heddle_address, UInt32>
    let serviceCIDRs: BPFMap<heddle_prefix, UInt32>
    let affinity: BPFMap<heddle_affinity_key, heddle_affinity>
    let affinityShares: BPFMap<UInt64, heddle_affinity_share>
    let proxyClients: BPFMap<heddle_handshake, heddle_client>
    let proxyShares: BPFMap<UInt64, UInt32>
    let meshClients: BPFMap<UInt64, heddle_mesh_client>
    let meshAddresses: BPFMap<heddle_address, UInt32>
    let reasons: BPFMap<UInt32, UInt64>
    private let configMap: MappedArray<heddle_config>
    private let metaMap: MappedArray<heddle_meta>
    let config: UnsafeMutablePointer<heddle_config>
    let meta: UnsafeMutablePointer<heddle_meta>

    init(_ descriptors: [String: BPFDescriptor]) throws(BPFError) {
        func open<K, V>(_ name: String) throws(BPFError) -> BPFMap<K, V> {
            guard let descriptor = descriptors[name] else { throw BPFError("open map \(name)", ENOENT) }
            return try BPFMap(descriptor, name: name)
        }
        self.descriptors = descriptors
        frontends = try open("frontends")
        services = try MappedArray(open("services"))
        backends = try MappedArray(open("backends"))
        serviceNames = try open("service_names")
        nodeAddresses = try open("node_addresses")
        serviceCIDRs = try open("service_cidrs")
        affinity = try open("affinity")
        affinityShares = try open("affinity_shares")
        proxyClients = try open("proxy_clients")
        proxyShares = try open("proxy_shares")
        meshClients = try open("mesh_clients")
        meshAddresses = try open("mesh_addresses")
        reasons = try open("reasons")
        configMap = try MappedArray(open("config"))
        metaMap = try MappedArray(open("meta"))
        config = try configMap.elements(upTo: 1)
        meta = try metaMap.elements(upTo: 1)
    }

    /// nil when there is no complete set of pins of this schema version in the directory.
    static func pinned(in directory: String) throws(BPFError) -> BPFMaps? {
        var descriptors: [String: BPFDescriptor] = [:]
        for name in names {
            guard let descriptor = try BPFDescriptor.pinned(at: "\(directory)/\(name)") else { return nil }
            descriptors[name] = descriptor
        }
        // The version is at the start of an entry of any size: read it before trusting the other sizes.
        guard let meta = descriptors["meta"], try schemaVersion(meta) == UInt32(HEDDLE_SCHEMA_VERSION) else {
            return nil
        }
        return try BPFMaps(descriptors)
    }

    /// Of a predecessor with another schema version: what its open sockets need.
    static func lasting(in directory: String) throws(BPFError) -> [String: BPFDescriptor] {
        var result: [String: BPFDescriptor] = [:]
        for maps in lasting {
            var found: [String: BPFDescriptor] = [:]
            for (name, key, value) in maps {
                guard let map = try BPFDescriptor.pinned(at: "\(directory)/\(name)") else { continue }
                let sizes = try map.mapSizes()
                if sizes.key == key, sizes.value == value { found[name] = map }
            }
            if found.count == maps.count { result.merge(found) { $1 } }
        }
        return result
    }

    private static func schemaVersion(_ meta: BPFDescriptor) throws(BPFError) -> UInt32 {
        guard try meta.mapSizes().value == MemoryLayout<heddle_meta>.stride else { return 0 }
        return try BPFMap<UInt32, heddle_meta>(meta, name: "meta").lookup(0)?.schema_version ?? 0
    }

    /// A tree of prefixes cannot be read in batches.
    func ranges() throws(BPFError) -> [IPPrefix: UInt32] {
        var ranges: [IPPrefix: UInt32] = [:]
        for key in try serviceCIDRs.keys() {
            if let range = key.value { ranges[range] = try serviceCIDRs.lookup(key) }
        }
        return ranges
    }

    func hasSizes(_ sizes: BPFMapSizes) throws(BPFError) -> Bool {
        for (name, count) in sizes.byMap {
            guard let descriptor = descriptors[name], try descriptor.mapSizes().maxEntries == count else {
                return false
            }
        }
        return true
    }

    /// The word that says where the service in `slot` is published.
    func published(_ slot: UInt32) throws(BPFError) -> Published {
        guard Int(slot) < services.count else { return Published(word: 0) }
        return Published(word: heddle_read(try services.elements(upTo: Int(slot) + 1) + Int(slot)))
    }
    func publish(_ slot: UInt32, _ value: Published) throws(BPFError) {
        heddle_publish(try services.elements(upTo: Int(slot) + 1) + Int(slot), value.word)
    }
    /// The block at `base`; nil when there is no consistent one.
    func block(_ at: Published, serviceID: UInt32) throws(BPFError) -> BackendBlock? {
        let room = backends.count - Int(at.base)
        guard room > 0 else { return nil }
        let header = try backends.elements(upTo: Int(at.base) + 1) + Int(at.base)
        let total = Int(UnsafeRawPointer(header).load(as: heddle_block.self).total)
        guard total < room else { return nil }
        let memory = try backends.elements(upTo: Int(at.base) + 1 + total) + Int(at.base)
        return BackendBlock(from: memory, room: room, serviceID: serviceID, generation: at.generation)
    }
}
