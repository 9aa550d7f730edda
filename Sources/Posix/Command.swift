/// Another program, run to its end for what it prints. It gets nothing of ours but the environment that is given to it.
import CLinux
import Glibc

package struct Command: Sendable {
    /// Without a slash it is looked for in PATH.
    private let program: String
    private let arguments: [String]
    private let environment: [String: String]
    private let joinsErrors: Bool

    /// `joinsErrors`: what it says on its standard error is output too; otherwise that goes where ours goes.
    package init(
        _ program: String, _ arguments: [String], environment: [String: String] = ownEnvironment(),
        joinsErrors: Bool = false
    ) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.joinsErrors = joinsErrors
    }

    /// The end of a sentence that begins with the program.
    package enum End: Equatable, Sendable, CustomStringConvertible {
        case exited(Int32)
        case killed(signal: Int32)
        case late(Duration)
        case tooLong(limit: Int)

        package var description: String {
            switch self {
            case .exited(let status): "ended with exit status \(status)"
            case .killed(let signal): "was killed by signal \(signal)"
            case .late(let patience): "did not end within \(patience) and was stopped"
            case .tooLong(let limit): "printed more than \(limit) bytes and was stopped"
            }
        }
    }

    /// Runs it to its end; what it printed, `limit` bytes at most. One that prints more, or has not ended after
    /// `patience`, is killed with all it started, and so is one that outlives us. Blocks.
    package func run(limit: Int, patience: Duration) throws(PosixError) -> (output: [UInt8], end: End) {
        let deadline = ContinuousClock.now + patience
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .errno("make a pipe") }
        let (reader, writer) = (ends[0], ends[1])
        defer { close(reader) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let started = Result { () throws(PosixError) in try start(output: writer) }
        close(writer)
        let (child, end) = try started.get()
        defer { close(end) }

        let output = readOutput(reader, upTo: limit + 1, until: deadline)
        let hasEnded = output.count <= limit && isReadable(end, until: deadline)
        // The group is ours as long as its leader is not waited for.
        if !hasEnded { kill(-child, SIGKILL) }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        if output.count > limit { return (Array(output.prefix(limit)), .tooLong(limit: limit)) }
        guard hasEnded else { return (output, .late(patience)) }
        return (output, status & 0x7f == 0 ? .exited(status >> 8 & 0xff) : .killed(signal: status & 0x7f))
    }

    /// Starts it, to be killed when the thread that called this ends; `end` becomes readable when it has ended.
    func start(output: Int32) throws(PosixError) -> (pid: pid_t, end: Int32) {
        var end: Int32 = -1
        let (child, code) = withCStrings([program] + arguments) { words in
            withCStrings(environment.map { "\($0.key)=\($0.value)" }) { environment in
                let child = clinux_spawn_bound(words, environment, output, joinsErrors ? 1 : 0, &end)
                return (child, errno)
            }
        }
        guard child > 0 else { throw .errno("start \(program)", code) }
        return (child, end)
    }
}

/// The environment this process was started with. (`environ` itself may be changed by any thread.)
package func ownEnvironment() -> [String: String] {
    var result: [String: String] = [:]
    for entry in ((try? readFile("/proc/self/environ", upTo: .max)) ?? []).split(separator: 0) {
        let parts = entry.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { continue }
        result[String(decoding: parts[0], as: UTF8.self)] = String(decoding: parts[1], as: UTF8.self)
    }
    return result
}

/// What comes until the end, the limit or the deadline.
private func readOutput(_ descriptor: Int32, upTo limit: Int, until deadline: ContinuousClock.Instant) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < limit, isReadable(descriptor, until: deadline) {
        let count = read(descriptor, &chunk, min(chunk.count, limit - bytes.count))
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { break }
        bytes += chunk[..<count]
    }
    return bytes
}

private func isReadable(_ descriptor: Int32, until deadline: ContinuousClock.Instant) -> Bool {
    while true {
        let left = max(deadline - .now, .zero)
        var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let ready = poll(&poller, 1, Int32(clamping: Int64(left / .milliseconds(1)) + 1))
        if ready < 0, errno == EINTR { continue }
        return ready > 0
    }
}

/// As `argv` and `environ` are: with nil behind the last.
func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { preconditionFailure("the list has at least its end") }
        return body(base)
    }
}
