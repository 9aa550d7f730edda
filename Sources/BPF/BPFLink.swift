/// Attachments of programs to a cgroup. A link detaches when its last descriptor and pin are gone, so links that must
/// outlive this process are pinned.
import CLibbpf
import CLinux
import Glibc

package struct BPFLink: Sendable {
    package let descriptor: BPFDescriptor

    package init(_ descriptor: BPFDescriptor) { self.descriptor = descriptor }

    /// Attaches beside whatever is attached there already.
    package static func attach(
        _ program: BPFDescriptor, to cgroup: borrowing CgroupDirectory, as hook: CgroupHook
    ) throws(BPFError) -> BPFLink {
        let fd = bpf_link_create(program.fd, cgroup.fd, hook.attachType, nil)
        guard fd >= 0 else { throw BPFError("attach to cgroup \(cgroup.path)", -fd) }
        return BPFLink(BPFDescriptor(owning: fd))
    }

    /// Puts another program in the place of the present one, in one step.
    package func update(to program: BPFDescriptor) throws(BPFError) {
        let result = bpf_link_update(descriptor.fd, program.fd, nil)
        guard result == 0 else { throw BPFError("replace the program of a link", -result) }
    }

    /// Ends the attachment, whoever else holds the link.
    package func detach() throws(BPFError) {
        let result = bpf_link_detach(descriptor.fd)
        guard result == 0 else { throw BPFError("detach a link", -result) }
    }

    package struct State: Equatable, Sendable {
        package var program: UInt32
        /// 0 when detached, because somebody detached it or its cgroup is gone.
        package var cgroup: UInt64
        fileprivate var type: UInt32
        package func isAttached(as hook: CgroupHook, to cgroup: UInt64) -> Bool {
            self.cgroup == cgroup && type == hook.attachType.rawValue
        }
    }
    package func state() throws(BPFError) -> State {
        let info = try descriptor.linkInfo()
        guard info.type == BPF_LINK_TYPE_CGROUP.rawValue else {
            throw BPFError("ask about a link", EINVAL, detail: "it is not attached to a cgroup")
        }
        return State(program: info.prog_id, cgroup: info.cgroup.cgroup_id, type: info.cgroup.attach_type)
    }
}

/// An open cgroup v2 directory.
package struct CgroupDirectory: ~Copyable {
    package let path: String
    package let fd: Int32
    /// The number by which the kernel names the cgroup in link information.
    package let id: UInt64

    package init(_ path: String) throws(BPFError) {
        let fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard fd >= 0 else {
            throw BPFError("open cgroup \(path)", errno)
        }
        var file = stat()
        guard fstat(fd, &file) == 0 else {
            let code = errno
            close(fd)
            throw BPFError("examine cgroup \(path)", code)
        }
        guard clinux_is_cgroup2(path) == 1 else {
            close(fd)
            throw BPFError("open cgroup \(path)", EINVAL, detail: "it is not in a cgroup v2 file system")
        }
        self.path = path
        self.fd = fd
        id = UInt64(file.st_ino)
    }
    deinit { close(fd) }
}
