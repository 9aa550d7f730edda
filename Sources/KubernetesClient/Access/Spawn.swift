/// Running another program and taking what it prints.
import CLinux
import Glibc

struct SpawnError: Error, CustomStringConvertible {
    /// The end of a sentence that begins with the program.
    let description: String
}

/// The environment this process was started with. (`environ` itself may be changed by any thread.)
func ownEnvironment() -> [String: String] {
    guard let bytes = try? readFile("/proc/self/environ") else { return [:] }
    var result: [String: String] = [:]
    for entry in bytes.split(separator: 0) {
        let parts = entry.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { continue }
        result[String(decoding: parts[0], as: UTF8.self)] = String(decoding: parts[1], as: UTF8.self)
    }
    return result
}

/// Runs a program to its end and returns what it wrote to its standard output; its errors go where ours go. A program
/// that prints nothing for `patience` seconds is killed. Blocks.
func outputOfCommand(
    _ command: String, _ arguments: [String], environment: [String: String], limit: Int, patience: Int32 = 60
) throws(SpawnError) -> [UInt8] {
    var pipeEnds: [Int32] = [-1, -1]
    guard pipe(&pipeEnds) == 0 else { throw SpawnError(description: "cannot be started: \(errorText(errno))") }
    let (reader, writer) = (pipeEnds[0], pipeEnds[1])
    defer { close(reader) }
    _ = fcntl(reader, F_SETFD, FD_CLOEXEC)
    _ = fcntl(writer, F_SETFD, FD_CLOEXEC)

    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, writer, STDOUT_FILENO)
    clinux_spawn_closing_from(&actions, STDERR_FILENO + 1)

    var child: pid_t = 0
    let error = withCStrings([command] + arguments) { argv in
        withCStrings(environment.map { "\($0.key)=\($0.value)" }) { envp in
            posix_spawnp(&child, command, &actions, nil, argv, envp)
        }
    }
    close(writer)
    guard error == 0 else { throw SpawnError(description: "cannot be started: \(errorText(error))") }

    let output = readPatiently(reader, limit: limit, patience: patience)
    if output == nil { kill(child, SIGKILL) }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    guard let output else { throw SpawnError(description: "did not end in time and was stopped") }
    guard status == 0 else {
        let how =
            status & 0x7f == 0
            ? "ended with exit status \(status >> 8 & 0xff)" : "was killed by signal \(status & 0x7f)"
        throw SpawnError(description: how)
    }
    return output
}

/// nil: too much came, or nothing for too long.
private func readPatiently(_ descriptor: Int32, limit: Int, patience: Int32) -> [UInt8]? {
    var bytes: [UInt8] = []
    while bytes.count <= limit {
        var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let ready = poll(&poller, 1, patience * 1000)
        if ready < 0, errno == EINTR { continue }
        guard ready > 0 else { return nil }
        var count = 0
        bytes += [UInt8](unsafeUninitializedCapacity: 16384) { buffer, initialized in
            count = read(descriptor, buffer.baseAddress, buffer.count)
            initialized = max(0, count)
        }
        if count < 0, errno == EINTR { continue }
        if count <= 0 { return bytes }
    }
    return nil
}

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
