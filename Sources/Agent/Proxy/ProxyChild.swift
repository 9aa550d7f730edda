/// `--proxy spawn`: starts heddle-proxy when a route needs it and nobody serves as one. It is a process of its own that
/// outlives the agent: stopping or upgrading the agent must not touch its connections.
import AdminServer
import CLinux
import Glibc
import Logging
import Synchronization
import Telemetry

final class ProxyChild: Sendable {
    private struct State {
        var isWanted = false
        var isServed = false
        var pid: pid_t?
        var startedAt = ContinuousClock.now
        var pause = Duration.seconds(1)
        var notBefore = ContinuousClock.now
    }
    /// POSIX_SPAWN_SETSID, which Swift's Glibc module leaves out.
    private static let newSession: Int16 = 0x80
    private let state = Mutex(State())
    private let command: [String]
    private let timers: ServerLoop
    private let log: Logger

    init(_ command: [String], timers: ServerLoop, log: Logger) {
        self.command = command
        self.timers = timers
        self.log = log
    }

    /// A release without the L7 half has no such program: then routes are not followed, as with `--proxy off`, in place
    /// of refusing every connection to a routed service.
    static var isInstalled: Bool { access(directoryOfThisProgram + "/heddle-proxy", X_OK) == 0 }

    static func command(_ configuration: AgentConfiguration) -> [String] {
        [
            directoryOfThisProgram + "/heddle-proxy", "--listen-port", "\(configuration.proxyPort)", "--config-socket",
            configuration.proxySocket, "--state-file", configuration.stateDirectory + "/proxy-config", "--log-level",
            configuration.logLevel.rawValue, "--node-ports",
            configuration.agentPorts.keys.sorted().map(String.init).joined(separator: ","), "--log-format",
            configuration.logFormat == .json ? "json" : "text",
        ]
    }

    private static var directoryOfThisProgram: String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        let path = String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    }

    /// `isServed`: some proxy is connected, whoever started it.
    func update(isWanted: Bool, isServed: Bool) {
        let isNew = state.withLock { state in
            defer { (state.isWanted, state.isServed) = (isWanted, isServed) }
            return isWanted && !state.isWanted
        }
        // One that runs already comes to us within the second.
        if isNew { _ = timers.schedule(after: .milliseconds(isServed ? 1000 : 1)) { [weak self] in self?.tick() } }
    }

    private func tick() {
        let exit = state.withLock { reap(&$0) }
        if let exit { log.error("heddle-proxy \(exit); it will be started again") }
        let mustStart = state.withLock { $0.isWanted && !$0.isServed && $0.pid == nil && $0.notBefore <= .now }
        if mustStart { start() }
        if state.withLock(\.isWanted) { _ = timers.schedule(after: .seconds(1)) { [weak self] in self?.tick() } }
    }

    private func reap(_ state: inout State) -> String? {
        var status: Int32 = 0
        guard let pid = state.pid, waitpid(pid, &status, WNOHANG) == pid else { return nil }
        state.pid = nil
        // One that ran for a while may start again at once, one that cannot start must not be tried all the time.
        state.pause =
            ContinuousClock.now - state.startedAt > .seconds(60) ? .seconds(1) : min(state.pause * 2, .seconds(30))
        state.notBefore = .now + state.pause
        return status & 0x7f == 0
            ? "ended with exit status \(status >> 8 & 0xff)" : "was ended by signal \(status & 0x7f)"
    }

    private func start() {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A session of its own: signals to the agent's process group are not for it.
        posix_spawnattr_setflags(&attributes, Self.newSession)
        // NIO opens sockets without O_CLOEXEC. A proxy that kept the agent's would hold on to callers after its end.
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        clinux_spawn_closing_from(&actions, STDERR_FILENO + 1)
        let words = command.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, command[0], &actions, &attributes, words, nil)
        state.withLock { state in
            state.startedAt = .now
            if code == 0 {
                state.pid = pid
            } else {
                state.pause = min(state.pause * 2, .seconds(30))
                state.notBefore = .now + state.pause
            }
        }
        if code == 0 {
            log.info("started heddle-proxy", metadata: ["pid": "\(pid)"])
        } else {
            let remedy =
                "install it beside heddle-agent, run it yourself (--proxy external), or do without (--proxy off)"
            log.error("cannot start \(command[0]): \(String(cString: strerror(code))); \(remedy)")
        }
    }
}
