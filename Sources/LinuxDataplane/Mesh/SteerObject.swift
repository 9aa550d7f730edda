/// The programs of steer.bpf.c in the kernel, with the maps of a predecessor where there are any.
///
/// Pins: `<bpffs>/mesh/maps/<map>` and `<bpffs>/mesh/links/ns_<inode>`, a link for each pod's network namespace.
import BPF
import BPFPrograms
import CDataplaneABI
import Glibc

struct SteerPins {
    let root: String
    init(bpffs: String) { root = "\(bpffs)/mesh" }

    var maps: String { "\(root)/maps" }
    var links: String { "\(root)/links" }
    private static let prefix = "ns_"
    func link(_ namespace: UInt64) -> String { "\(links)/\(Self.prefix)\(namespace)" }
    /// Inodes of the namespaces that links are pinned for.
    var linked: [UInt64] {
        guard BPFFileSystem.isBPF(links) else { return [] }
        return BPFFileSystem.names(in: links).compactMap {
            $0.hasPrefix(Self.prefix) ? UInt64($0.dropFirst(Self.prefix.count)) : nil
        }
    }

    /// Ends all steering, with the agent dead or alive. Returns what was removed.
    func removeAll() throws(BPFError) -> [String] {
        var removed: [String] = []
        for directory in [links, maps, root] where BPFFileSystem.isBPF(directory) {
            for name in BPFFileSystem.names(in: directory) where directory != root {
                try BPFFileSystem.remove("\(directory)/\(name)")
                removed.append("\(directory)/\(name)")
            }
            guard BPFFileSystem.names(in: directory).isEmpty else { continue }
            try BPFFileSystem.removeDirectory(directory)
            removed.append(directory)
        }
        return removed
    }
}

struct SteerObject {
    let pods: BPFMap<heddle_address, heddle_steer_pod>
    let ports: BPFMap<heddle_steer_port_key, heddle_steer_port>
    let listeners: BPFMap<heddle_address, UInt64>
    let counts: BPFMap<UInt32, UInt64>
    /// Whoever dials an address that is not known passes.
    let open: BPFDescriptor
    /// And is refused.
    let strict: BPFDescriptor

    /// `own`: the map of the node's own connections.
    init(pins: SteerPins, own: BPFDescriptor) throws(BPFError) {
        try BPFFileSystem.makeDirectory(pins.links)
        var object = try BPFObject(name: "heddle_steer", image: BPFObjectImage.steer.bytes)
        try object.adoptMaps(in: pins.maps)
        try object.reuse(OwnConnections.name, own)
        try object.load()
        try object.pinMaps(in: pins.maps, except: [OwnConnections.name])
        pods = try BPFMap(object.map("steer_pods"), name: "steer_pods")
        ports = try BPFMap(object.map("steer_ports"), name: "steer_ports")
        listeners = try BPFMap(object.map("steer_listeners"), name: "steer_listeners")
        counts = try BPFMap(object.map("steer_counts"), name: "steer_counts")
        open = try object.program("steer")
        strict = try object.program("steer_strict")
    }
}
