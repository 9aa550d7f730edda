/// Tries what the eBPF dataplane needs, one by one, by doing it: version numbers lie where features are backported or
/// compiled out. Nothing stays behind.
import BPF
import BPFPrograms
import CLinux
import Glibc
import Netns

package struct BPFProbe {
    /// One thing that can be tried. Tests replace `attempt` to play a kernel that lacks it.
    package struct Check: Sendable {
        package let name: String
        /// What to do when it is missing, where that is not part of what is wrong.
        package let remedy: String?
        /// nil: it works; else what is wrong.
        package let attempt: @Sendable () -> String?

        package init(name: String, remedy: String?, attempt: @escaping @Sendable () -> String?) {
            self.name = name
            self.remedy = remedy
            self.attempt = attempt
        }
    }

    package static func run(cgroup: String, bpffs: String) -> [ProbeResult] {
        run(checks(cgroup: cgroup, bpffs: bpffs))
    }
    package static func run(_ checks: [Check]) -> [ProbeResult] {
        checks.map { check in
            if let problem = check.attempt() {
                let remedy = check.remedy.map { "; \($0)" } ?? ""
                return ProbeResult(name: check.name, ok: false, detail: problem + remedy)
            }
            return ProbeResult(name: check.name, ok: true, detail: "works")
        }
    }

    package static func checks(cgroup: String, bpffs: String) -> [Check] {
        [
            Check(name: "cgroup v2 directory", remedy: cgroupRemedy) {
                failure { () throws(BPFError) in _ = try CgroupDirectory(cgroup) }
            },
            Check(name: "bpf file system", remedy: "mount one (mount -t bpf bpf /sys/fs/bpf) or pass --bpffs") {
                failure { () throws(BPFError) in try tryPinning(below: bpffs) }
            },
            map("mmap-able array map", .array, .mappable, "Linux 5.5"),
            map("LRU hash map", .lruHash, [], "Linux 4.10"),
            map("hash map without preallocation", .hash, .noPreallocation, "Linux 4.6"),
            Check(name: "socket hook programs", remedy: "Linux 6.1 with CONFIG_CGROUP_BPF and BTF is needed") {
                failure { () throws(BPFError) in
                    var object = try BPFObject(name: "heddle_probe", image: BPFObjectImage.service.bytes)
                    for (name, _) in BPFMapSizes().byMap { try object.setMaxEntries(name, 64) }
                    try object.load()
                }
            },
            Check(name: "iterator over sockets", remedy: "Linux 6.1 with BTF is needed") {
                failure { () throws(BPFError) in
                    var object = try BPFObject(name: "heddle_probe", image: BPFObjectImage.sockets.bytes)
                    try object.load()
                }
            },
            Check(name: "membarrier", remedy: "boot without nohz_full") {
                clinux_membarrier_global() == 0 ? nil : String(cString: strerror(errno))
            },
        ]
    }

    private static var cgroupRemedy: String {
        CgroupMount.current.map { "cgroup v2 is mounted at \($0.path): pass that as --cgroup, or leave it out" }
            ?? "cgroup v2 is mounted nowhere here: mount it on the node (mount -t cgroup2 none DIR), into the "
            + "container if there is one, or boot with systemd.unified_cgroup_hierarchy=1"
    }

    private static func map(_ name: String, _ kind: BPFMapKind, _ flags: BPFMapKind.Flags, _ since: String) -> Check {
        Check(name: name, remedy: "\(since) or later and CAP_BPF (or root) are needed") {
            failure { () throws(BPFError) in _ = try kind.make(keySize: 4, valueSize: 8, count: 1, flags: flags) }
        }
    }

    private static func tryPinning(below directory: String) throws(BPFError) {
        var existing = directory
        while !BPFFileSystem.exists(existing), let slash = existing.lastIndex(of: "/"), slash != existing.startIndex {
            existing = String(existing[..<slash])
        }
        guard BPFFileSystem.isBPF(existing) else {
            throw BPFError("use \(directory)", EINVAL, detail: "\(existing) is not in a bpf file system")
        }
        let probe = "\(existing)/heddle-probe-\(getpid())"
        guard mkdir(probe, 0o700) == 0 else { throw BPFError("make directory \(probe)", errno) }
        rmdir(probe)
    }

    private static func failure(_ body: () throws(BPFError) -> Void) -> String? {
        do throws(BPFError) {
            try body()
            return nil
        } catch {
            return error.description
        }
    }
}
