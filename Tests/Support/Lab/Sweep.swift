/// Removes what labs leave in the kernel: at their end, and for labs of test processes that died before theirs.
import Glibc
import Netns

enum Sweep {
    static let bpffs = "/sys/fs/bpf"

    /// Removes the leftovers of dead processes, once a process.
    static let once: Void = {
        var prefixes = Set<String>()
        for directory in [NetworkNamespace.directory, Cgroup2.root ?? "", bpffs, "/tmp"] {
            for name in directoryEntries(directory) where name.hasPrefix("hd-") {
                let parts = name.split(separator: "-")
                guard parts.count >= 3, let pid = Int32(parts[1]), kill(pid, 0) != 0, errno == ESRCH else { continue }
                prefixes.insert("hd-\(pid)-\(parts[2])")
            }
        }
        for prefix in prefixes { remove(prefix) }
    }()

    /// Everything named `prefix` or `prefix-...`. What cannot be removed is left to the next sweep.
    static func remove(_ prefix: String) {
        let isOurs = { (name: String) in name == prefix || name.hasPrefix(prefix + "-") }
        if let root = Cgroup2.root {
            for name in directoryEntries(root) where isOurs(name) { removeCgroup("\(root)/\(name)") }
        }
        for name in directoryEntries(NetworkNamespace.directory) where isOurs(name) {
            try? NetworkNamespace.remove(named: name)
        }
        for directory in [bpffs, "/tmp"] {
            for name in directoryEntries(directory) where isOurs(name) { removeTree("\(directory)/\(name)") }
        }
    }

    /// Kills what lives in the cgroup, then removes it from the leaves up. A killed process leaves its cgroup a little
    /// later, hence the polling.
    private static func removeCgroup(_ path: String) {
        try? writeInPlace("1", to: path + "/cgroup.kill")
        try? eventually("cgroup \(path) is removed", within: .seconds(10)) {
            removeDirectories(path)
            return access(path, F_OK) != 0
        }
    }
    private static func removeDirectories(_ path: String) {
        for name in directoryEntries(path) {
            let child = path + "/" + name
            var info = stat()
            if lstat(child, &info) == 0, info.st_mode & S_IFMT == S_IFDIR { removeDirectories(child) }
        }
        rmdir(path)
    }
}
