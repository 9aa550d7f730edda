/// Kinds of maps: their names, and making one outside an object file.
import CLibbpf

package enum BPFMapKind: String, CaseIterable, Sendable {
    case hash, array
    case lruHash = "lru_hash"
    case lpmTrie = "lpm_trie"
    case socketStorage = "sk_storage"
    case perProcessorArray = "percpu_array"

    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        /// Memory for an entry is taken when it is made.
        package static let noPreallocation = Flags(rawValue: UInt32(BPF_F_NO_PREALLOC))
        package static let mappable = Flags(rawValue: UInt32(BPF_F_MMAPABLE))
    }

    private var type: bpf_map_type {
        switch self {
        case .hash: BPF_MAP_TYPE_HASH
        case .array: BPF_MAP_TYPE_ARRAY
        case .lruHash: BPF_MAP_TYPE_LRU_HASH
        case .lpmTrie: BPF_MAP_TYPE_LPM_TRIE
        case .socketStorage: BPF_MAP_TYPE_SK_STORAGE
        case .perProcessorArray: BPF_MAP_TYPE_PERCPU_ARRAY
        }
    }

    /// The kind of a map; nil for one that is none of these.
    package init?(of map: BPFDescriptor) throws(BPFError) {
        let type = try map.mapInfo().type
        guard let kind = Self.allCases.first(where: { $0.type.rawValue == type }) else { return nil }
        self = kind
    }

    /// A map that nothing but the descriptor holds.
    package func make(
        keySize: Int, valueSize: Int, count: Int, flags: Flags = []
    ) throws(BPFError) -> BPFDescriptor {
        var options = bpf_map_create_opts()
        options.sz = MemoryLayout<bpf_map_create_opts>.size
        options.map_flags = flags.rawValue
        let fd = bpf_map_create(type, "heddle", UInt32(keySize), UInt32(valueSize), UInt32(count), &options)
        guard fd >= 0 else { throw BPFError("make a \(rawValue) map", -fd) }
        return BPFDescriptor(owning: fd)
    }
}
