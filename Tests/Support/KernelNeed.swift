/// What a test needs of the kernel, and since which Linux that is there: `@Test(.requiresKernel(.netns, .bpf))`.
///
/// An older kernel skips the test. A newer one that lacks it is broken, or we are: the test fails and says what is
/// missing. Where somebody forbids it (no root, a container), the test is skipped, unless HEDDLE_REQUIRE_KERNEL_TESTS
/// is set: CI cannot pass by not testing. Both skips say why. With HEDDLE_REQUIRE_KERNEL_TESTS=all older kernels run
/// it too.
import CLinux
import Glibc
import Netns
package import Testing

package enum KernelNeed: Sendable, CaseIterable {
    case root
    /// May make network namespaces.
    case netns
    /// A cgroup v2 hierarchy is mounted and we may make directories in it.
    case cgroup2
    /// May load cgroup socket programs and make maps.
    case bpf
    /// The rules of the nftables dataplane.
    case nftables

    package struct Version: Sendable, Comparable, CustomStringConvertible {
        let major: Int
        let minor: Int

        package init(_ major: Int, _ minor: Int) { (self.major, self.minor) = (major, minor) }
        /// `6.1.0-50-cloud-amd64`; nil: no kernel says this.
        package init?(release: String) {
            let parts = release.split(separator: ".").prefix(2).map { Int($0.prefix { $0.isNumber }) }
            guard parts.count == 2, let major = parts[0], let minor = parts[1] else { return nil }
            self.init(major, minor)
        }
        package static func < (left: Version, right: Version) -> Bool {
            (left.major, left.minor) < (right.major, right.minor)
        }
        package var description: String { "Linux \(major).\(minor)" }

        package static let running: Version = {
            var names = utsname()
            uname(&names)
            let release = withUnsafeBytes(of: &names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            return Version(release: release) ?? Version(0, 0)
        }()
    }

    /// The README promises these: what scripts/kernels shows.
    var since: Version {
        switch self {
        case .root: Version(0, 0)
        case .netns, .cgroup2: Version(4, 5)
        case .bpf: Version(6, 1)
        case .nftables: Version(6, 1)
        }
    }

    package struct Obstacle: Sendable {
        let reason: String
        /// Not the kernel's lack: it is not for us here.
        let isForbidden: Bool

        package init(_ reason: String, isForbidden: Bool) { (self.reason, self.isForbidden) = (reason, isForbidden) }
        init(_ what: String, code: Int32) {
            self.init(
                "\(what): \(String(cString: strerror(code)))", isForbidden: [EPERM, EACCES, EROFS].contains(code))
        }
    }

    package enum Verdict: Equatable, Sendable {
        case run
        case skip(String)
        case fail(String)
    }

    /// How strict the run is, as HEDDLE_REQUIRE_KERNEL_TESTS says.
    package enum Strictness: Sendable { case lenient, required, evenOlder }

    package func verdict(on version: Version, _ strictness: Strictness, obstacle: Obstacle?) -> Verdict {
        if version < since, strictness != .evenOlder {
            return .skip("\(version) is older than \(since), which \(self) needs")
        }
        guard let obstacle else { return .run }
        return obstacle.isForbidden && strictness == .lenient ? .skip(obstacle.reason) : .fail(obstacle.reason)
    }

    static let strictness: Strictness = {
        guard let text = getenv("HEDDLE_REQUIRE_KERNEL_TESTS") else { return .lenient }
        return strcmp(text, "all") == 0 ? .evenOlder : .required
    }()

    fileprivate var verdict: Verdict { verdict(on: .running, Self.strictness, obstacle: obstacle) }

    /// Tries it. nil: it works.
    private var obstacle: Obstacle? {
        switch self {
        case .root: geteuid() == 0 ? nil : Obstacle("not root", isForbidden: true)
        case .netns, .nftables: Self.netnsObstacle
        case .cgroup2: Self.cgroup2Obstacle
        case .bpf: Self.bpfObstacle
        }
    }

    private static let netnsObstacle: Obstacle? = {
        do throws(NetnsError) {
            _ = try NetworkNamespace.anonymous()
            return nil
        } catch {
            return Obstacle("cannot \(error.operation)", code: error.code)
        }
    }()
    private static let cgroup2Obstacle: Obstacle? = {
        guard let root = Cgroup2.root else {
            return Obstacle("no cgroup v2 hierarchy is mounted", isForbidden: true)
        }
        let probe = "\(root)/hd-\(getpid())-probe"
        guard mkdir(probe, 0o755) == 0 || errno == EEXIST else { return Obstacle("cannot make \(probe)", code: errno) }
        rmdir(probe)
        return nil
    }()
    private static let bpfObstacle: Obstacle? =
        clinux_probe_cgroup_bpf() == 0 ? nil : Obstacle("bpf(2) is refused", code: errno)
}

private struct KernelLacks: Error, CustomStringConvertible {
    let description: String
}

extension Trait where Self == ConditionTrait {
    package static func requiresKernel(_ needs: KernelNeed...) -> Self {
        let verdicts = needs.map(\.verdict)
        let skips = verdicts.compactMap { if case .skip(let reason) = $0 { reason } else { nil } }
        let failures = verdicts.compactMap { if case .fail(let reason) = $0 { reason } else { nil } }
        return .enabled("\(skips.joined(separator: "; "))") {
            guard skips.isEmpty else { return false }
            if !failures.isEmpty {
                throw KernelLacks(description: "\(KernelNeed.Version.running): \(failures.joined(separator: "; "))")
            }
            return true
        }
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
