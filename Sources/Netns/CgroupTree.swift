/// A cgroup v2 directory and everything below it: which processes live there, and in which network namespaces. This is
/// how the agent learns the pods of its node without asking anyone.
import CLinux
import Glibc
import Posix

package struct CgroupTree: Sendable {
    package let path: String

    /// Refuses a directory that is not on a cgroup v2 file system.
    package init(path: String) throws(NetnsError) {
        guard try check(clinux_is_cgroup2(path), "look at cgroup directory \(path)") == 1 else {
            throw NetnsError(
                "use \(path) as a cgroup: it is not on a cgroup v2 mount (see `mount -t cgroup2`)", code: EINVAL)
        }
        self.path = path
    }

    /// Every process in the directory and below. Processes come and go meanwhile: a child directory that vanishes is
    /// skipped, a process that moves may be seen twice or not at all.
    package func processes() throws(NetnsError) -> [Int32] {
        var result: [Int32] = []
        try forEachDirectory { result += $1 }
        return result
    }

    /// The directory that a process is in, here or below; nil: none.
    package func directory(of process: Int32) throws(NetnsError) -> String? {
        var result: String?
        try forEachDirectory { directory, processes in if processes.contains(process) { result = directory } }
        return result
    }
    package static func holds(_ directory: String, _ process: Int32) -> Bool {
        (try? members(of: directory))?.contains(process) ?? false
    }

    private func forEachDirectory(_ body: (_ path: String, _ processes: [Int32]) -> Void) throws(NetnsError) {
        var pending = [path]
        while let directory = pending.popLast() {
            do throws(NetnsError) {
                body(directory, try Self.members(of: directory))
                pending += try childDirectories(of: directory)
            } catch  where directory != path && (error.code == ENOENT || error.code == ENODEV) {
                continue
            }
        }
    }

    private static func members(of directory: String) throws(NetnsError) -> [Int32] {
        // A threaded cgroup does not list processes (EOPNOTSUPP); the threaded domain above it lists them.
        let list = try readWholeFile(directory + "/cgroup.procs", absentWhen: [EOPNOTSUPP])
        // 0 stands for a process outside our pid namespace: nothing to be done about it without hostPID.
        return list.split(separator: UInt8(ascii: "\n")).compactMap { Int32(String(decoding: $0, as: UTF8.self)) }
            .filter { $0 > 0 }
    }

    /// The network namespaces those processes live in, each once. One that loses its last process meanwhile may be
    /// missing.
    package func networkNamespaces() throws(NetnsError) -> [NetworkNamespace] {
        try inhabitedNamespaces().map(\.namespace)
    }

    /// With the processes in each.
    package func inhabitedNamespaces() throws(NetnsError) -> [(namespace: NetworkNamespace, processes: [Int32])] {
        var indices: [UInt64: Int] = [:]
        var result: [(namespace: NetworkNamespace, processes: [Int32])] = []
        for pid in try processes() {
            let file = "/proc/\(pid)/ns/net"
            var info = stat()
            guard stat(file, &info) == 0 else {
                if errno == ENOENT || errno == ESRCH { continue }
                throw NetnsError("look at \(file)", code: errno)
            }
            if let index = indices[UInt64(info.st_ino)] {
                result[index].processes.append(pid)
                continue
            }
            do throws(NetnsError) {
                let namespace = try NetworkNamespace(path: file)
                if indices[namespace.id.inode] == nil {
                    indices[namespace.id.inode] = result.count
                    result.append((namespace, [pid]))
                }
            } catch  where error.code == ENOENT || error.code == ESRCH {
                continue
            }
        }
        return result
    }
}

private func childDirectories(of path: String) throws(NetnsError) -> [String] {
    guard let directory = opendir(path) else { throw NetnsError("list cgroup directory \(path)", code: errno) }
    defer { closedir(directory) }
    var result: [String] = []
    while let entry = readdir(directory) {
        guard entry.pointee.d_type == UInt8(DT_DIR) else { continue }
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != ".", name != ".." { result.append(path + "/" + name) }
    }
    return result
}

/// The file's bytes; none when opening or reading fails with one of `absentWhen`.
func readWholeFile(_ path: String, absentWhen: Set<Int32>) throws(NetnsError) -> [UInt8] {
    do throws(PosixError) { return try readFile(path, upTo: .max) } catch {
        if absentWhen.contains(error.code) { return [] }
        throw NetnsError("read \(path)", code: error.code)
    }
}
