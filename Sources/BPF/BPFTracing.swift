/// Programs outside cgroups: at a tracepoint of the kernel, or as an iterator over sockets; and in which order the
/// programs of a cgroup run.
import CLibbpf
import Glibc

extension BPFLink {
    /// Attaches a `tp_btf` program to the tracepoint it was compiled for.
    package static func trace(_ program: BPFDescriptor, _ name: String) throws(BPFError) -> BPFLink {
        let fd = bpf_raw_tracepoint_open(nil, program.fd)
        guard fd >= 0 else { throw BPFError("attach to tracepoint \(name)", -fd) }
        return BPFLink(BPFDescriptor(owning: fd))
    }
}

/// A program that runs once for each socket that has an element in a map of socket storage.
package struct SocketIterator<Record: BitwiseCopyable>: Sendable {
    private let link: BPFDescriptor
    private let name: String

    package init(_ program: BPFDescriptor, over map: BPFDescriptor, name: String) throws(BPFError) {
        var info = bpf_iter_link_info()
        info.map.map_fd = UInt32(map.fd)
        var options = bpf_link_create_opts()
        options.sz = MemoryLayout<bpf_link_create_opts>.size
        let fd = withUnsafeMutablePointer(to: &info) { info in
            options.iter_info = info
            options.iter_info_len = UInt32(MemoryLayout<bpf_iter_link_info>.size)
            return bpf_link_create(program.fd, 0, BPF_TRACE_ITER, &options)
        }
        guard fd >= 0 else { throw BPFError("attach iterator \(name)", -fd) }
        link = BPFDescriptor(owning: fd)
        self.name = name
    }

    /// Runs it and hands over what it writes.
    package func forEach(_ body: (Record) -> Void) throws(BPFError) {
        let fd = bpf_iter_create(link.fd)
        guard fd >= 0 else { throw BPFError("start iterator \(name)", -fd) }
        defer { close(fd) }
        let stride = MemoryLayout<Record>.stride
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: stride * 2048, alignment: 8)
        defer { buffer.deallocate() }
        var filled = 0
        while true {
            let count = read(fd, buffer.baseAddress.map { $0 + filled }, buffer.count - filled)
            if count < 0, errno == EINTR || errno == EAGAIN { continue }
            guard count >= 0 else { throw BPFError("read iterator \(name)", errno) }
            if count == 0 { return }
            filled += count
            let whole = filled / stride
            for index in 0..<whole { body(buffer.loadUnaligned(fromByteOffset: index * stride, as: Record.self)) }
            // A read may end within a record.
            let rest = filled - whole * stride
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[(whole * stride)..<filled]))
            filled = rest
        }
    }
}

extension CgroupDirectory {
    /// Numbers of the programs attached to this very cgroup, in the order they run.
    package func programs(at hook: CgroupHook) throws(BPFError) -> [UInt32] {
        var ids = [UInt32](repeating: 0, count: 64)
        var count = UInt32(ids.count)
        let result = bpf_prog_query(fd, hook.attachType, 0, nil, &ids, &count)
        guard result == 0 else { throw BPFError("list the programs of cgroup \(path)", -result) }
        return Array(ids.prefix(Int(count)))
    }
}
