/// Brings programs and maps into the kernel, or finds the maps of a predecessor there. Order matters, because the agent
/// can be killed at any instruction and what it left must be usable.
///
/// Pins: `<bpffs>/maps/<map>` and `<bpffs>/links/<program>`. Maps of another schema version or size cannot be reused:
/// then new ones are made in `<bpffs>/maps_new`, filled, the links switched to programs that use them, and last the
/// directory takes the place of the old one. Until the links are switched everything goes by the old maps.
import BPF
import BPFPrograms
import CDataplaneABI
import Glibc

struct BPFPins {
    let root: String
    var maps: String { "\(root)/maps" }
    var staging: String { "\(root)/maps_new" }
    var links: String { "\(root)/links" }

    static func removeAll(in directory: String) throws(BPFError) {
        for name in BPFFileSystem.names(in: directory) { try BPFFileSystem.remove("\(directory)/\(name)") }
        try BPFFileSystem.removeDirectory(directory)
    }

    /// Ends a switch of directories that a predecessor began: keeps the maps that the attached programs use.
    func finishSwitch() throws(BPFError) {
        guard BPFFileSystem.exists(staging) else { return }
        if try isLive(staging) {
            try putStagingInPlace()
        } else {
            try Self.removeAll(in: staging)
        }
    }
    func putStagingInPlace() throws(BPFError) {
        try Self.removeAll(in: maps)
        try BPFFileSystem.move(staging, to: maps)
    }

    private func isLive(_ directory: String) throws(BPFError) -> Bool {
        guard let services = try BPFDescriptor.pinned(at: "\(directory)/services") else { return false }
        let id = try services.mapID()
        for name in BPFFileSystem.names(in: links) {
            guard let link = try BPFDescriptor.pinned(at: "\(links)/\(name)"),
                let program = BPFDescriptor.program(id: try BPFLink(link).state().program)
            else { continue }
            if try program.mapIDsOfProgram().contains(id) { return true }
        }
        return false
    }
}

struct BPFLoader {
    let pins: BPFPins
    let sizes: BPFMapSizes
    let nodeName: String

    struct Result {
        var maps: BPFMaps
        var programs: [String: BPFDescriptor]
        /// The maps are new and lie in the staging directory: switch when they are filled.
        var isStaged: Bool
    }

    func load() throws(BPFError) -> Result {
        try BPFFileSystem.makeDirectory(pins.links)
        try pins.finishSwitch()
        let present = try BPFMaps.pinned(in: pins.maps)
        var object = try BPFObject(name: "heddle", image: BPFObjectImage.service.bytes)
        if let present, try present.hasSizes(sizes) {
            for (name, descriptor) in present.descriptors { try object.reuse(name, descriptor) }
            try object.load()
            return Result(maps: present, programs: try programs(object), isStaged: false)
        }
        for (name, count) in sizes.byMap { try object.setMaxEntries(name, count) }
        let open = try BPFMaps.lasting(in: pins.maps)
        for name in BPFMaps.independent {
            if let descriptor = present?.descriptors[name] ?? open[name] { try object.reuse(name, descriptor) }
        }
        try object.load()
        let isStaged = BPFFileSystem.exists(pins.maps)
        let maps = try pinMaps(of: object, in: isStaged ? pins.staging : pins.maps)
        begin(maps, after: present)
        return Result(maps: maps, programs: try programs(object), isStaged: isStaged)
    }

    private func programs(_ object: borrowing BPFObject) throws(BPFError) -> [String: BPFDescriptor] {
        var programs: [String: BPFDescriptor] = [:]
        for hook in CgroupHook.all { programs[hook.rawValue] = try object.program(hook.rawValue) }
        return programs
    }

    private func pinMaps(of object: borrowing BPFObject, in directory: String) throws(BPFError) -> BPFMaps {
        try BPFFileSystem.makeDirectory(directory)
        var descriptors: [String: BPFDescriptor] = [:]
        for name in BPFMaps.names {
            let descriptor = try object.map(name)
            try descriptor.pin(at: "\(directory)/\(name)")
            descriptors[name] = descriptor
        }
        return try BPFMaps(descriptors)
    }

    /// Numbers go on from those of the old maps, for sockets still carry them. The version is written last: without it
    /// nobody takes the maps for complete.
    private func begin(_ maps: BPFMaps, after old: BPFMaps?) {
        let meta = maps.meta
        meta.pointee.next_svc_id = max(old?.meta.pointee.next_svc_id ?? 1, 1)
        meta.pointee.next_generation = max(old?.meta.pointee.next_generation ?? 1, 1)
        meta.pointee.next_uid = max(old?.meta.pointee.next_uid ?? 1, 1)
        maps.config.pointee.cluster_ip_first = (.max, .max)
        maps.config.pointee.node_port_first = .max
        _ = copyText(String(nodeName.prefix(255)), to: &meta.pointee.node_name)
        heddle_store_barrier()
        meta.pointee.schema_version = UInt32(HEDDLE_SCHEMA_VERSION)
    }
}
