/// Running another program and taking what it prints.
import CLinux
import Glibc
import Posix

struct SpawnError: Error, CustomStringConvertible {
    /// The end of a sentence that begins with the program.
    let description: String
}

/// The environment this process was started with. (`environ` itself may be changed by any thread.)
func ownEnvironment() -> [String: String] {
    guard let bytes = try? readFile("/proc/self/environ", limit: 1 << 20) else { return [:] }
    var result: [String: String] = [:]
    for entry in bytes.split(separator: 0) {
        let parts = entry.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { continue }
        result[String(decoding: parts[0], as: UTF8.self)] = String(decoding: parts[1], as: UTF8.self)
    }
    return result
}

/// Starts a program that is killed when the thread that called this ends; `end` becomes readable when it has ended.
func startCommand(
    _ command: String, _ arguments: [String], environment: [String: String], output: Int32
) throws(SpawnError) -> (pid: pid_t, end: Int32) {
    var end: Int32 = -1
    let (child, error) = withCStrings([command] + arguments) { argv in
        withCStrings(environment.map { "\($0.key)=\($0.value)" }) { environment in
            let child = clinux_spawn_bound(argv, environment, output, &end)
            return (child, errno)
        }
    }
    guard child > 0 else { throw SpawnError(description: "cannot be started: \(errorText(error))") }
    return (child, end)
}

/// Runs a program to its end and returns what it wrote to its standard output; its errors go where ours go. One that
/// has not ended after `patience` is killed with all it started, and so is one that outlives us. Blocks.
func outputOfCommand(
    _ command: String, _ arguments: [String], environment: [String: String], limit: Int,
    patience: Duration = .seconds(60)
) throws(SpawnError) -> [UInt8] {
    let deadline = ContinuousClock.now + patience
    var pipeEnds: [Int32] = [-1, -1]
    guard pipe(&pipeEnds) == 0 else { throw SpawnError(description: "cannot be started: \(errorText(errno))") }
    let (reader, writer) = (pipeEnds[0], pipeEnds[1])
    defer { close(reader) }
    _ = fcntl(reader, F_SETFD, FD_CLOEXEC)
    _ = fcntl(writer, F_SETFD, FD_CLOEXEC)

    let started = Result { () throws(SpawnError) in
        try startCommand(command, arguments, environment: environment, output: writer)
    }
    close(writer)
    let (child, end) = try started.get()
    defer { close(end) }

    let output = read(reader, limit: limit, until: deadline)
    let hasEnded = output != nil && isReadable(end, until: deadline)
    // The group is ours as long as its leader is not waited for.
    if !hasEnded { kill(-child, SIGKILL) }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    guard let output else { throw SpawnError(description: "printed more than \(limit) bytes and was stopped") }
    guard hasEnded else { throw SpawnError(description: "did not end within \(patience) and was stopped") }
    guard status == 0 else {
        let how =
            status & 0x7f == 0
            ? "ended with exit status \(status >> 8 & 0xff)" : "was killed by signal \(status & 0x7f)"
        throw SpawnError(description: how)
    }
    return output
}

/// What comes until the end or the deadline; nil: too much.
private func read(_ descriptor: Int32, limit: Int, until deadline: ContinuousClock.Instant) -> [UInt8]? {
    var bytes: [UInt8] = []
    while isReadable(descriptor, until: deadline) {
        var count = 0
        bytes += [UInt8](unsafeUninitializedCapacity: 16384) { buffer, initialized in
            count = read(descriptor, buffer.baseAddress, buffer.count)
            initialized = max(0, count)
        }
        if count < 0, errno == EINTR { continue }
        if count <= 0 { break }
        if bytes.count > limit { return nil }
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

private func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }

private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { preconditionFailure("the list has at least its end") }
        return body(base)
    }
}
