/// This program once more with other arguments: what one command does wrong, or waits for, is no harm to the others.
import Glibc

enum Subprocess {
    private static let limit = 64 << 20

    /// What it prints, errors too, and how it ended. After 30 seconds it is ended.
    static func output(of arguments: [String]) -> String {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { return "no pipe: \(String(cString: strerror(errno)))\n" }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
        let words = (["agentctl"] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, "/proc/self/exe", &actions, nil, words, environ)
        close(ends[1])
        defer { close(ends[0]) }
        guard code == 0 else { return "cannot be run: \(String(cString: strerror(code)))\n" }
        let text = readAll(ends[0], limit: limit, within: 30) { kill(pid, SIGKILL) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        let end = status & 0x7f == 0 ? "status \(status >> 8 & 0xff)" : "signal \(status & 0x7f)"
        return "$ agentctl \(arguments.joined(separator: " "))\n\(text)\n[ended with \(end)]\n"
    }

    /// Up to the end, or what came until then.
    static func readAll(
        _ descriptor: Int32, limit: Int, within seconds: Int = 30, late: () -> Void = {}
    ) -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        let end = time(nil) + seconds
        while bytes.count < limit {
            var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let left = max(0, end - time(nil))
            if poll(&wanted, 1, Int32(left * 1000)) == 0 {
                late()
                break
            }
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
