/// Starting other programs from tests.
import CLinux
import Glibc

/// A program that runs beside the test. Killed when the object goes, if nobody ended it before.
package final class ChildProcess {
    package let pid: Int32
    private var status: Int32?

    /// Starts `command`; its first word is looked up in PATH. `descriptors` become its standard streams;
    /// whatever else is open in this process is not inherited.
    package init(_ command: [String], descriptors: [Int32]) throws(TestFailure) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (target, source) in descriptors.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, source, Int32(target))
        }
        clinux_spawn_closing_from(&actions, Int32(descriptors.count))
        // Tests run on threads with every signal blocked, which a child would inherit: it could not be terminated.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var noSignals = sigset_t()
        sigemptyset(&noSignals)
        posix_spawnattr_setsigmask(&attributes, &noSignals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let words = command.map { strdup($0) } + [nil]
        let environment = Self.environment.map { strdup($0) } + [nil]
        defer { for word in words + environment { free(word) } }
        var pid: Int32 = 0
        let code = posix_spawnp(&pid, command[0], &actions, &attributes, words, environment)
        guard code == 0 else { throw TestFailure("cannot start \(command[0]): \(String(cString: strerror(code)))") }
        self.pid = pid
    }
    deinit {
        if status == nil {
            kill(pid, SIGKILL)
            _ = reap(0)
        }
    }

    /// `environ` is a C global that Swift 6 does not let us touch.
    private static let environment = readText("/proc/self/environ").split(separator: "\0").map(String.init)

    package var isRunning: Bool { status == nil && !reap(WNOHANG) }

    package func signal(_ number: Int32) {
        if isRunning { kill(pid, number) }
    }

    /// Waits for the end; returns the exit status, or 128 plus the signal's number as a shell does.
    package func wait(within deadline: Duration = .seconds(30)) throws(TestFailure) -> Int32 {
        try eventually("process \(pid) ends", within: deadline) { !isRunning }
        guard let status else { throw TestFailure("process \(pid) has no status") }
        return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
    }

    private func reap(_ flags: Int32) -> Bool {
        var status: Int32 = 0
        guard waitpid(pid, &status, flags) == pid else { return false }
        self.status = status
        return true
    }
}

/// Runs a program to its end and returns what it printed; throws when it fails.
@discardableResult
package func run(_ command: [String], input: String = "") throws(TestFailure) -> String {
    let (ours, theirs) = try socketPair()
    defer { close(ours) }
    let child = try closing(theirs) { () throws(TestFailure) in
        try ChildProcess(command, descriptors: [theirs, theirs, theirs])
    }
    var output: [UInt8] = []
    try sendAll(ours, Array(input.utf8))
    shutdown(ours, Int32(SHUT_WR))
    while true {
        let chunk = [UInt8](unsafeUninitializedCapacity: 65536) { $1 = max(0, read(ours, $0.baseAddress, $0.count)) }
        if chunk.isEmpty { break }
        output += chunk
    }
    let text = String(decoding: output, as: UTF8.self)
    let status = try child.wait()
    guard status == 0 else {
        throw TestFailure("`\(command.joined(separator: " "))` ended with status \(status)\n\(text)\(input)")
    }
    return text
}

/// Closes a descriptor that a child has been given, whether or not starting the child worked.
func closing<R>(_ descriptor: Int32, _ body: () throws(TestFailure) -> R) throws(TestFailure) -> R {
    defer { close(descriptor) }
    return try body()
}

func socketPair() throws(TestFailure) -> (Int32, Int32) {
    var pair: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
        throw .errno("make a socket pair")
    }
    return (pair[0], pair[1])
}

func sendAll(_ descriptor: Int32, _ bytes: [UInt8]) throws(TestFailure) {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard count > 0 else { throw .errno("write to a child process") }
        rest = rest.dropFirst(count)
    }
}
