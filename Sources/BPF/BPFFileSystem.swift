/// Directories of pins in a bpf file system.
import CLinux
import Glibc
import Posix

package enum BPFFileSystem {
    /// Makes the directory and its parents. The path must lie in a bpf file system.
    package static func makeDirectory(_ path: String) throws(BPFError) {
        var missing: [String] = []
        var current = path
        var info = stat()
        while stat(current, &info) != 0 {
            guard errno == ENOENT, let parent = parent(of: current) else { throw BPFError("open \(path)", errno) }
            missing.append(current)
            current = parent
        }
        guard isBPF(current) else {
            throw BPFError(
                "make directory \(path)", EINVAL,
                detail: "\(current) is not in a bpf file system; mount one (mount -t bpf bpf /sys/fs/bpf) "
                    + "or name another with --bpffs")
        }
        for directory in missing.reversed() where mkdir(directory, 0o700) != 0 && errno != EEXIST {
            throw BPFError("make directory \(directory)", errno)
        }
    }

    package static func isBPF(_ path: String) -> Bool { clinux_is_bpffs(path) == 1 }

    package static func isMountPoint(_ path: String) -> Bool {
        var here = stat()
        var above = stat()
        return stat(path, &here) == 0 && stat(path + "/..", &above) == 0 && here.st_dev != above.st_dev
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package static func isDirectory(_ path: String) -> Bool {
        var file = stat()
        return lstat(path, &file) == 0 && file.st_mode & S_IFMT == S_IFDIR
    }

    /// Names in a directory, sorted; empty when there is none.
    package static func names(in path: String) -> [String] { directoryNames(path).sorted() }

    package static func remove(_ path: String) throws(BPFError) {
        guard unlink(path) == 0 || errno == ENOENT else { throw BPFError("remove pin \(path)", errno) }
    }

    package static func removeDirectory(_ path: String) throws(BPFError) {
        guard rmdir(path) == 0 || errno == ENOENT else { throw BPFError("remove directory \(path)", errno) }
    }

    package static func move(_ from: String, to: String) throws(BPFError) {
        guard rename(from, to) == 0 else { throw BPFError("rename \(from) to \(to)", errno) }
    }

    private static func parent(of path: String) -> String? {
        guard let slash = path.lastIndex(of: "/"), path != "/" else { return nil }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
