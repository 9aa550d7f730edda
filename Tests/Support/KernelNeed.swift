/// What a test needs of the kernel. `@Test(.requiresKernel(.netns, .bpf))` skips the test where that is missing and
/// says why; with HEDDLE_REQUIRE_KERNEL_TESTS set nothing is skipped, so that CI cannot pass by not testing.
import CLinux
import Glibc
import Netns
package import Testing

package enum KernelNeed: Sendable {
    case root
    /// May make network namespaces.
    case netns
    /// A cgroup v2 hierarchy is mounted and we may make directories in it.
    case cgroup2
    /// May load cgroup socket programs and make maps.
    case bpf

    /// Tries it. nil: it works; else the reason.
    var obstacle: String? {
        switch self {
        case .root: return geteuid() == 0 ? nil : "not root"
        case .netns: return Self.netnsObstacle
        case .cgroup2: return Self.cgroup2Obstacle
        case .bpf: return Self.bpfObstacle
        }
    }

    private static let netnsObstacle: String? = {
        do throws(NetnsError) {
            _ = try NetworkNamespace.anonymous()
            return nil
        } catch {
            return error.description
        }
    }()
    private static let cgroup2Obstacle: String? = {
        guard let root = Cgroup2.root else { return "no cgroup v2 hierarchy is mounted" }
        let probe = "\(root)/hd-\(getpid())-probe"
        guard mkdir(probe, 0o755) == 0 || errno == EEXIST else {
            return "cannot make \(probe): \(String(cString: strerror(errno)))"
        }
        rmdir(probe)
        return nil
    }()
    private static let bpfObstacle: String? =
        clinux_probe_cgroup_bpf() == 0 ? nil : "bpf(2) is refused: \(String(cString: strerror(errno)))"
}

extension Trait where Self == ConditionTrait {
    package static func requiresKernel(_ needs: KernelNeed...) -> Self {
        let obstacles = getenv("HEDDLE_REQUIRE_KERNEL_TESTS") == nil ? needs.compactMap(\.obstacle) : []
        return .enabled(if: obstacles.isEmpty, "\(obstacles.joined(separator: "; "))")
    }
}

package enum Cgroup2 {
    /// Where the cgroup v2 hierarchy is mounted: /sys/fs/cgroup, or below it on machines that still have v1 as well.
    package static let root: String? = {
        for line in readText("/proc/self/mounts").split(separator: "\n") {
            let fields = line.split(separator: " ")
            if fields.count > 2, fields[2] == "cgroup2" { return String(fields[1]) }
        }
        return nil
    }()
}
