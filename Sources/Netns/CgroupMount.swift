/// Where cgroup v2 is mounted, as /proc/self/mountinfo tells. There may be several: a hybrid host has it beside the
/// hierarchies of v1, and a container sees its own group and, where somebody mounted it, the host's whole hierarchy.
import CLinux
import Glibc

package struct CgroupMount: Equatable, Sendable {
    package let path: String
    /// Directories that the mount shows above our own cgroup namespace's root.
    private let above: Int
    /// Directories between the hierarchy, as far as we see it, and what the mount shows.
    private let below: Int
    private let isWritable: Bool

    /// The one that shows most; nil: none.
    package static var current: CgroupMount? {
        guard let bytes = try? readWholeFile("/proc/self/mountinfo", absentWhen: []) else { return nil }
        // What is mounted over it later hides it: only the directory itself tells.
        return all(mountinfo: String(decoding: bytes, as: UTF8.self)).first { clinux_is_cgroup2($0.path) == 1 }
    }

    /// Those that show most first; of equal ones the writable, as a child is made for the canary.
    package static func all(mountinfo: String) -> [CgroupMount] {
        mountinfo.split(separator: "\n").compactMap(CgroupMount.init).sorted { left, right in
            (right.above, left.below, left.isWritable ? 0 : 1) < (left.above, right.below, right.isWritable ? 0 : 1)
        }
    }

    /// `36 35 0:27 /../.. /host/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw`
    private init?(_ line: Substring) {
        let fields = line.split(separator: " ")
        guard let end = fields.firstIndex(of: "-"), end >= 6, end + 1 < fields.count, fields[end + 1] == "cgroup2"
        else { return nil }
        let root = fields[3].split(separator: "/")
        above = root.count { $0 == ".." }
        below = root.count - above
        path = Self.unescaped(fields[4])
        isWritable = fields[5].split(separator: ",").contains("rw")
    }

    /// Blanks and the like stand as three octal digits: `\040`.
    private static func unescaped(_ text: Substring) -> String {
        var result: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3,
                let escaped = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                result.append(escaped)
                rest = rest.dropFirst(3)
            } else {
                result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
