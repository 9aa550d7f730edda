/// A compiled object file on its way into the kernel: open, set map sizes or hand in maps that exist already, load,
/// take out the descriptors of maps and programs. Descriptors outlive the object.
import CLibbpf
import Glibc

package struct BPFObject: ~Copyable {
    private let raw: OpaquePointer
    private let name: String
    /// libbpf and the kernel write the verifier's log here; the kernel keeps its end when it does not fit.
    private let verifierLog: UnsafeMutablePointer<CChar>
    private let verifierLogSize = 256 << 10
    /// libelf reads in place: the bytes must stay until the object is closed.
    private let image: UnsafeMutableRawBufferPointer

    package init(name: String, image bytes: [UInt8]) throws(BPFError) {
        let image = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
        image.copyBytes(from: bytes)
        let log = UnsafeMutablePointer<CChar>.allocate(capacity: 256 << 10)
        log[0] = 0
        let (object, lines) = LibbpfLog.capture { () -> OpaquePointer? in
            name.withCString { name in
                var options = bpf_object_open_opts()
                options.sz = MemoryLayout<bpf_object_open_opts>.size
                options.object_name = name
                options.kernel_log_buf = log
                options.kernel_log_size = 256 << 10
                return bpf_object__open_mem(image.baseAddress, image.count, &options)
            }
        }
        guard let object else {
            let code = errno
            image.deallocate()
            log.deallocate()
            throw BPFError("open the eBPF object \(name)", code, detail: lines.joined(separator: "\n"))
        }
        raw = object
        self.name = name
        self.image = image
        verifierLog = log
    }
    deinit {
        bpf_object__close(raw)
        image.deallocate()
        verifierLog.deallocate()
    }

    /// Names of the maps in the object file.
    package var mapNames: [String] {
        var names: [String] = []
        var map = bpf_object__next_map(raw, nil)
        while let current = map {
            names.append(String(cString: bpf_map__name(current)))
            map = bpf_object__next_map(raw, current)
        }
        return names
    }

    package mutating func setMaxEntries(_ map: String, _ count: Int) throws(BPFError) {
        let result = bpf_map__set_max_entries(try find(map: map), UInt32(count))
        guard result == 0 else { throw BPFError("set the size of map \(map)", -result) }
    }

    /// The programs will use `descriptor` instead of a new map.
    package mutating func reuse(_ map: String, _ descriptor: BPFDescriptor) throws(BPFError) {
        let raw = try find(map: map)
        let result = bpf_map__reuse_fd(raw, descriptor.fd)
        guard result == 0 else { throw BPFError("reuse map \(map)", -result) }
    }

    /// The programs will use the maps pinned in a directory under the names of theirs, where those have the same sizes.
    package mutating func adoptMaps(in directory: String) throws(BPFError) {
        for name in mapNames {
            guard let pinned = try BPFDescriptor.pinned(at: "\(directory)/\(name)") else { continue }
            let map = try find(map: name)
            let sizes = (
                Int(bpf_map__key_size(map)), Int(bpf_map__value_size(map)), Int(bpf_map__max_entries(map))
            )
            if try pinned.mapSizes() == sizes { try reuse(name, pinned) }
        }
    }

    /// Pins the maps of a loaded object under their names, in place of those that were of other sizes; but for those
    /// that have their pins elsewhere.
    package func pinMaps(in directory: String, except others: Set<String> = []) throws(BPFError) {
        try BPFFileSystem.makeDirectory(directory)
        for name in mapNames where !others.contains(name) {
            let map = try map(name)
            let path = "\(directory)/\(name)"
            if try BPFDescriptor.pinned(at: path)?.mapID() != map.mapID() { try map.replacePin(at: path) }
        }
    }

    package mutating func load() throws(BPFError) {
        let raw = self.raw
        let (result, lines) = LibbpfLog.capture { bpf_object__load(raw) }
        guard result == 0 else {
            let verifier = lastMeaningfulLines(String(cString: verifierLog))
            let detail = verifier.isEmpty ? lines.joined(separator: "\n") : verifier
            throw BPFError("load the eBPF programs of \(name)", -result, detail: detail)
        }
    }

    package func map(_ name: String) throws(BPFError) -> BPFDescriptor {
        try BPFDescriptor(duplicating: bpf_map__fd(try find(map: name)), "map \(name)")
    }

    package func program(_ name: String) throws(BPFError) -> BPFDescriptor {
        guard let program = bpf_object__find_program_by_name(raw, name) else {
            throw BPFError("find program \(name) in \(self.name)", ENOENT)
        }
        return try BPFDescriptor(duplicating: bpf_program__fd(program), "program \(name)")
    }

    private func find(map: String) throws(BPFError) -> OpaquePointer {
        guard let found = bpf_object__find_map_by_name(raw, map) else {
            throw BPFError("find map \(map) in \(name)", ENOENT)
        }
        return found
    }
}
