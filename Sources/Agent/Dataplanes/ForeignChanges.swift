/// Word from the kernel that somebody else changed our objects, from a thread that blocks in netlink.
import LinuxDataplane
import Posix

/// Waits for such changes. The monitor was made for being waited on by one thread while the dataplane's thread pauses
/// it around large commits: both only make system calls on one descriptor.
// @unchecked: see above.
final class ForeignChanges: @unchecked Sendable {
    /// The dataplane whose objects they are.
    let dataplane: String
    private let monitor: NftablesMonitor

    init(dataplane: String, monitor: NftablesMonitor) {
        self.dataplane = dataplane
        self.monitor = monitor
    }

    func wait() {
        while !monitor.wait(milliseconds: -1) {}
    }
}

actor ForeignChangeWatcher {
    private let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    init() throws(PosixError) { thread = try KernelThread(name: "heddle-monitor") }

    /// Never returns: the thread ends with the process.
    func run(_ changes: ForeignChanges, _ deliver: @Sendable (_ dataplane: String) -> Void) {
        while true {
            changes.wait()
            deliver(changes.dataplane)
        }
    }
}
