/// Which process has a socket open, and which pod it belongs to, as /proc tells.
package import DataplaneIR
import Glibc
import Netns
import Posix

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
        return find(inodes, among: pids)
    }

    /// By port: the processes that listen on it in this thread's network namespace, as far as we may look into them.
    /// `pids`: who may it be? nil: anybody.
    package static func listening(onTCP port: UInt16, among pids: [Int32]? = nil) -> [SocketOwner] {
        let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"].map(contents)
        let inodes = Set(tables.flatMap { listeners($0, port: port) })
        guard !inodes.isEmpty else { return [] }
        var owners: [Int32: SocketOwner] = [:]
        for owner in find(inodes, among: pids ?? directoryNames("/proc").compactMap { Int32($0) }).values {
            owners[owner.pid] = owner
        }
        return owners.values.sorted { $0.pid < $1.pid }
    }

    /// The inodes of sockets that listen on a port, by the kernel's table of them.
    static func listeners(_ table: String, port: UInt16) -> [UInt32] {
        table.split(separator: "\n").dropFirst().compactMap { line in
            // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
            let fields = line.split(separator: " ")
            guard fields.count > 9, fields[3] == "0A", let number = fields[1].split(separator: ":").last,
                UInt16(number, radix: 16) == port
            else { return nil }
            return UInt32(fields[9])
        }
    }

    private static func find(_ inodes: Set<UInt32>, among pids: [Int32]) -> [UInt32: SocketOwner] {
        var owners: [Int32: SocketOwner] = [:]
        var result: [UInt32: SocketOwner] = [:]
        var search = DescriptorSearch()
        search.find(inodes, among: pids) { inode, pid, _ in
            let owner =
                owners[pid]
                ?? SocketOwner(
                    pid: pid, command: firstLine("/proc/\(pid)/comm"),
                    podUID: podUID(cgroup: firstLine("/proc/\(pid)/cgroup")))
            owners[pid] = owner
            result[inode] = owner
            return true
        }
        return result
    }

    private static func firstLine(_ path: String) -> String { String(contents(path).prefix { $0 != "\n" }) }

    static func contents(_ path: String) -> String {
        String(decoding: (try? readFile(path, upTo: .max)) ?? [], as: UTF8.self)
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
