/// Owned file descriptors of kernel objects, and their pins in a bpf file system.
import CLibbpf
import Glibc
import Posix

/// Closes its file descriptor when the last user lets go. The kernel object lives on while it is pinned or attached.
package final class BPFDescriptor: Sendable {
    package let fd: Int32

    /// Takes ownership of `fd`.
    package init(owning fd: Int32) { self.fd = fd }
    /// Another descriptor of the same object.
    package init(duplicating fd: Int32, _ what: @autoclosure () -> String) throws(BPFError) {
        let copy = fcntl(fd, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw BPFError("duplicate the descriptor of \(what())", errno) }
        self.fd = copy
    }
    deinit { close(fd) }

    /// Opens the object pinned at `path`; nil when nothing is there.
    package static func pinned(at path: String) throws(BPFError) -> BPFDescriptor? {
        let fd = bpf_obj_get(path)
        if fd < 0 {
            guard -fd == ENOENT else { throw BPFError("open pin \(path)", -fd) }
            return nil
        }
        return BPFDescriptor(owning: fd)
    }

    package func pin(at path: String) throws(BPFError) {
        let result = bpf_obj_pin(fd, path)
        guard result == 0 else { throw BPFError("pin at \(path)", -result) }
    }

    /// Puts a pin of this object in place of whatever is pinned at `path`, without a moment in which there is none.
    package func replacePin(at path: String) throws(BPFError) {
        let temporary = path + "_new"  // bpffs keeps names with a dot to itself
        unlink(temporary)
        try pin(at: temporary)
        guard rename(temporary, path) == 0 else {
            let code = errno
            unlink(temporary)
            throw BPFError("pin at \(path)", code)
        }
    }

    func mapInfo() throws(BPFError) -> bpf_map_info {
        var info = bpf_map_info()
        try ask(&info, MemoryLayout<bpf_map_info>.size)
        return info
    }
    func programInfo() throws(BPFError) -> bpf_prog_info {
        var info = bpf_prog_info()
        try ask(&info, MemoryLayout<bpf_prog_info>.size)
        return info
    }
    func linkInfo() throws(BPFError) -> bpf_link_info {
        var info = bpf_link_info()
        try ask(&info, MemoryLayout<bpf_link_info>.size)
        return info
    }
    package func mapSizes() throws(BPFError) -> (key: Int, value: Int, maxEntries: Int) {
        let info = try mapInfo()
        return (Int(info.key_size), Int(info.value_size), Int(info.max_entries))
    }
    /// The kernel's number of the map, program or link.
    package func mapID() throws(BPFError) -> UInt32 { try mapInfo().id }
    package func programID() throws(BPFError) -> UInt32 { try programInfo().id }
    package func linkID() throws(BPFError) -> UInt32 { try linkInfo().id }
    /// Numbers of the maps a program uses.
    package func mapIDsOfProgram() throws(BPFError) -> [UInt32] {
        var ids = [UInt32](repeating: 0, count: 64)
        var info = bpf_prog_info()
        var failure: BPFError?
        ids.withUnsafeMutableBufferPointer { buffer in
            info.nr_map_ids = UInt32(buffer.count)
            info.map_ids = UInt64(UInt(bitPattern: buffer.baseAddress))
            do throws(BPFError) { try ask(&info, MemoryLayout<bpf_prog_info>.size) } catch { failure = error }
        }
        if let failure { throw failure }
        return Array(ids.prefix(Int(info.nr_map_ids)))
    }
    /// The loaded program of that number; nil when there is none.
    package static func program(id: UInt32) -> BPFDescriptor? {
        let fd = bpf_prog_get_fd_by_id(id)
        return fd < 0 ? nil : BPFDescriptor(owning: fd)
    }
    private func ask(_ info: UnsafeMutableRawPointer, _ size: Int) throws(BPFError) {
        var length = UInt32(size)
        let result = bpf_obj_get_info_by_fd(fd, info, &length)
        guard result == 0 else { throw BPFError("ask about a bpf object", -result) }
    }

    /// Kernel memory the map takes; 0 where the kernel does not tell.
    package var memory: Int {
        let lines = (readSmallFile("/proc/self/fdinfo/\(fd)") ?? "").split(separator: "\n")
        guard let line = lines.first(where: { $0.hasPrefix("memlock:") }) else { return 0 }
        return Int(line.dropFirst(8).drop { $0 == " " || $0 == "\t" }) ?? 0
    }
}
