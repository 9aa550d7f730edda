/// Attachments of sk_lookup programs to a network namespace: they pick who gets a connection that begins. Such a link
/// does not keep the namespace; when that ends, the link stays behind, pinned, and attached to nothing.
import CLibbpf
import Glibc

extension BPFLink {
    /// Attaches beside whatever is attached there already.
    package static func attach(
        _ program: BPFDescriptor, toNetwork namespace: Int32
    ) throws(BPFError) -> BPFLink {
        let fd = bpf_link_create(program.fd, namespace, BPF_SK_LOOKUP, nil)
        guard fd >= 0 else { throw BPFError("attach to a network namespace", -fd) }
        return BPFLink(BPFDescriptor(owning: fd))
    }

    package struct NetworkState: Equatable, Sendable {
        package var program: UInt32
        /// Inode of the namespace; 0: it has ended.
        package var namespace: UInt64
    }
    package func networkState() throws(BPFError) -> NetworkState {
        let info = try descriptor.linkInfo()
        guard info.type == BPF_LINK_TYPE_NETNS.rawValue else {
            throw BPFError("ask about a link", EINVAL, detail: "it is not attached to a network namespace")
        }
        return NetworkState(program: info.prog_id, namespace: UInt64(info.netns.netns_ino))
    }

    /// Numbers of all sk_lookup programs that are attached to a network namespace, whoever did it.
    package static func lookupPrograms(ofNetwork namespace: Int32) throws(BPFError) -> [UInt32] {
        var ids = [UInt32](repeating: 0, count: 64)
        var count = UInt32(ids.count)
        let result = bpf_prog_query(namespace, BPF_SK_LOOKUP, 0, nil, &ids, &count)
        guard result == 0 else { throw BPFError("ask which programs look connections up", -result) }
        return Array(ids.prefix(Int(count)))
    }
}
