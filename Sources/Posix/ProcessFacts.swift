/// What the kernel says a process may do: `/proc/PID/status`, not what the process says of itself.
import CLinux
import Glibc

package struct ProcessFacts: Equatable, Sendable {
    /// Of the user it acts as.
    package var user: UInt32
    package var effective: UInt64
    /// What it could get by executing a program with file capabilities.
    package var bounding: UInt64
    package var hasNoNewPrivileges: Bool
    package var filtersCalls: Bool

    package init?(pid: Int32) {
        guard let text = readSmallFile("/proc/\(pid)/status") else { return nil }
        self.init(status: text)
    }

    package init?(status: String) {
        var fields: [Substring: [Substring]] = [:]
        for line in status.split(separator: "\n") {
            let sides = line.split(separator: ":", maxSplits: 1)
            if sides.count == 2 { fields[sides[0]] = sides[1].split { $0 == "\t" || $0 == " " } }
        }
        func mask(_ name: Substring) -> UInt64? { fields[name]?.first.flatMap { UInt64($0, radix: 16) } }
        guard let users = fields["Uid"], users.count == 4, let user = UInt32(users[1]), let effective = mask("CapEff"),
            let bounding = mask("CapBnd")
        else { return nil }
        self.user = user
        self.effective = effective
        self.bounding = bounding
        hasNoNewPrivileges = fields["NoNewPrivs"]?.first == "1"
        filtersCalls = fields["Seccomp"]?.first == "2"
    }
}

/// A process that may end at any time: its number may be another's then, this is not.
package final class ProcessHandle: Sendable {
    package let pid: Int32
    private let descriptor: Int32

    /// nil: it is gone. `descriptor` is what the kernel gave for it, if it did.
    package init?(pid: Int32, descriptor: Int32? = nil) {
        let descriptor = descriptor ?? clinux_open_process(pid)
        guard descriptor >= 0 else { return nil }
        self.pid = pid
        self.descriptor = descriptor
    }
    deinit { close(descriptor) }

    package func signal(_ number: Int32) { _ = clinux_signal_process(descriptor, number) }

    package var facts: ProcessFacts? { ProcessFacts(pid: pid) }
    /// Which program it runs; nil where that may not be looked at.
    package var program: FileIdentity? { FileIdentity(path: "/proc/\(pid)/exe") }
}
