/// Which processes have a socket open, as the links in `/proc/PID/fd` tell.
import Glibc

/// A pod chooses how many descriptors its processes have, and many processes can share one table of them: so what is
/// looked at is bounded, for each container by itself. A pod makes processes and network namespaces, but no cgroups.
struct DescriptorSearch {
    /// Some tenths of a second.
    static let usualLimit = 100_000
    /// Links and processes looked at in one container.
    let limit: Int
    private(set) var looked = 0
    /// By what `/proc/PID/cgroup` says.
    private var lookedIn: [String: Int] = [:]

    init(limit: Int = Self.usualLimit) { self.limit = limit }

    /// One pass over the descriptors of processes: `take` is told inode, process and descriptor wherever one of these
    /// sockets is open, until it answers that this was the last it needs to know of that socket. Several passes share
    /// the bound.
    mutating func find(
        _ inodes: Set<UInt32>, among pids: [Int32], take: (_ inode: UInt32, _ pid: Int32, _ descriptor: Int32) -> Bool
    ) {
        var rest = inodes
        for pid in pids where !rest.isEmpty {
            let container = SocketOwner.contents("/proc/\(pid)/cgroup")
            let before = lookedIn[container, default: 0]
            let count = Self.forEachSocket(of: pid, atMost: limit - before) { inode, descriptor in
                if rest.contains(inode), take(inode, pid, descriptor) { rest.remove(inode) }
                return !rest.isEmpty
            }
            lookedIn[container] = before + count
            looked += count
        }
    }

    /// Until `body` answers that it has seen enough. Returns how many links were looked at; the process counts as one.
    private static func forEachSocket(
        of pid: Int32, atMost limit: Int, _ body: (_ inode: UInt32, _ descriptor: Int32) -> Bool
    ) -> Int {
        guard limit > 0 else { return 0 }
        guard let directory = opendir("/proc/\(pid)/fd") else { return 1 }
        defer { closedir(directory) }
        var count = 1
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 64) { link in
            while count < limit, let entry = readdir(directory) {
                count += 1
                let (descriptor, size) = withUnsafeBytes(of: &entry.pointee.d_name) { name in
                    let name = name.assumingMemoryBound(to: CChar.self).baseAddress
                    guard let name, let descriptor = Int32(String(cString: name)), let target = link.baseAddress
                    else { return (Int32(-1), -1) }
                    return (descriptor, readlinkat(dirfd(directory), name, target, link.count))
                }
                guard size > 0, let inode = socketInode(link[..<size]) else { continue }
                if !body(inode, descriptor) { return }
            }
        }
        return count
    }

    /// `socket:[4711]`
    static func socketInode(_ link: some BidirectionalCollection<UInt8>) -> UInt32? {
        guard link.starts(with: "socket:[".utf8), link.last == UInt8(ascii: "]") else { return nil }
        return UInt32(String(decoding: link.dropFirst(8).dropLast(), as: UTF8.self))
    }
}
