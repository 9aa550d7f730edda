/// The map of the connections that the node itself is making (bpf/include/own.h). Those who announce them and those who
/// decide at the SYN share it, whichever are loaded first.
import BPF
import CDataplaneABI
import Synchronization

enum OwnConnections {
    static let name = "own_connections"
    private static let capacity = 65_536
    /// Both sides begin at the same moment, each on a thread of its own: were each to make a map, what one announces
    /// the other would never find.
    private static let making = Mutex(())

    /// The pinned map; made and pinned where there is none, or one of another layout.
    static func map(bpffs: String) throws(BPFError) -> BPFDescriptor {
        try making.withLock { _ throws(BPFError) in try adoptOrMake(bpffs: bpffs) }
    }

    static func clear(bpffs: String) throws(BPFError) {
        guard let pinned = try BPFDescriptor.pinned(at: "\(BPFPins(own: bpffs).maps)/\(name)") else { return }
        let map: BPFMap<heddle_own_key, heddle_own> = try BPFMap(pinned, name: name)
        for key in try map.keys() { try map.delete(key) }
    }

    private static func adoptOrMake(bpffs: String) throws(BPFError) -> BPFDescriptor {
        let directory = BPFPins(own: bpffs).maps
        let path = "\(directory)/\(name)"
        let key = MemoryLayout<heddle_own_key>.stride
        let value = MemoryLayout<heddle_own>.stride
        if let pinned = try BPFDescriptor.pinned(at: path), try pinned.mapSizes() == (key, value, capacity) {
            return pinned
        }
        try BPFFileSystem.makeDirectory(directory)
        let map = try BPFMapKind.hash.make(keySize: key, valueSize: value, count: capacity, flags: .noPreallocation)
        try map.replacePin(at: path)
        return map
    }
}

extension BPFPins {
    /// Beside those of the dataplane, which may be rebuilt at any start.
    init(own bpffs: String) { self.init(root: "\(bpffs)/own") }
}
