/// Which process has a socket open, and which pod it belongs to, as /proc tells.
import Glibc
import Netns
package import Reconcile

package struct SocketOwner: Equatable, Sendable {
    package let pid: Int32
    /// The first 15 letters of the program's name.
    package let command: String
    /// Of its pod, where kubelet's way of naming cgroups tells it.
    package let podUID: String?

    /// By the inodes of sockets: the processes of a cgroup that have them open. One pass over all their descriptors.
    package static func find(_ inodes: Set<UInt32>, cgroup: String) throws(DataplaneError) -> [UInt32: SocketOwner] {
        guard !inodes.isEmpty else { return [:] }
        let pids: [Int32]
        do throws(NetnsError) {
            pids = try CgroupTree(path: cgroup).processes()
        } catch {
            throw DataplaneError(operation: error.operation, code: error.code, description: error.description)
        }
        var result: [UInt32: SocketOwner] = [:]
        for pid in pids {
            let found = openSockets(of: pid).intersection(inodes)
            guard !found.isEmpty else { continue }
            let owner = SocketOwner(
                pid: pid, command: firstLine("/proc/\(pid)/comm"),
                podUID: podUID(cgroup: firstLine("/proc/\(pid)/cgroup")))
            for inode in found { result[inode] = owner }
        }
        return result
    }

    private static func openSockets(of pid: Int32) -> Set<UInt32> {
        let path = "/proc/\(pid)/fd"
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var result = Set<UInt32>()
        while let entry = readdir(directory) {
            let number = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let inode = socketInode(target(of: "\(path)/\(number)")) { result.insert(inode) }
        }
        return result
    }

    private static func target(of link: String) -> String {
        var bytes = [CChar](repeating: 0, count: 64)
        let count = max(0, readlink(link, &bytes, bytes.count))
        return String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func firstLine(_ path: String) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = max(0, read(descriptor, &bytes, bytes.count))
        return String(decoding: bytes[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }

    /// `socket:[4711]`
    static func socketInode(_ link: String) -> UInt32? {
        guard link.hasPrefix("socket:["), link.hasSuffix("]") else { return nil }
        return UInt32(link.dropFirst(8).dropLast())
    }

    private static let uidLength = 36

    /// `.../kubepods-burstable-pod0a1b_..._.slice/...` as systemd has it, or `.../pod0a1b-.../...`.
    static func podUID(cgroup: String) -> String? {
        for part in cgroup.split(separator: "/") {
            let name = part.hasSuffix(".slice") ? part.dropLast(6) : part
            let uid = name.suffix(uidLength)
            let before = name.dropLast(uidLength)
            guard uid.count == uidLength, before == "pod" || (before.hasPrefix("kubepods") && before.hasSuffix("-pod"))
            else { continue }
            return String(uid.map { $0 == "_" ? "-" : $0 })
        }
        return nil
    }
}
