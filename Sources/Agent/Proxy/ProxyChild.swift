/// `--proxy spawn`: starts heddle-proxy when a route needs it and nobody serves as one. It is a process of its own that
/// outlives the agent: stopping or upgrading the agent must not touch its connections. It reads what pods send, so it
/// gets nothing of what the agent may do: another user, no capability, a directory of its own (docs/SECURITY.md).
import AdminServer
import Daemon
import Glibc
import HandOver
import Logging
import NodeControl
import Posix
import Synchronization
import Telemetry

final class ProxyChild: Sendable {
    struct State {
        var isWanted = false
        var isServed = false
        private var isTicking = false
        var pid: pid_t?
        /// What it was started from.
        var program: FileIdentity?
        /// Children whose successor is there or to come.
        var leaving: Set<pid_t> = []
        var startedAt = ContinuousClock.now
        var pause = Duration.seconds(1)
        var notBefore = ContinuousClock.now

        /// One that cannot start is not tried all the time; while there is none, what needs it is refused, so not long.
        mutating func wait() {
            notBefore = .now + pause
            pause = min(pause * 2, .seconds(5))
        }

        /// Also when none is wanted: one that ends is to be waited for.
        private var needsTick: Bool { isWanted || pid != nil || !leaving.isEmpty }
        /// True if a tick is to be set, because none is to come.
        mutating func beginTicking() -> Bool {
            guard needsTick, !isTicking else { return false }
            isTicking = true
            return true
        }
        /// At the end of a tick: true if another is to be set.
        mutating func goOnTicking() -> Bool {
            isTicking = needsTick
            return isTicking
        }
    }
    private let state = Mutex(State())
    private let configuration: AgentConfiguration
    private let user: ProcessUser
    private let timers: ServerLoop
    private let log: Logger

    init(_ configuration: AgentConfiguration, user: ProcessUser, timers: ServerLoop, log: Logger) {
        self.configuration = configuration
        self.user = user
        self.timers = timers
        self.log = log
    }

    /// A release without the L7 half has no such program: then routes are not followed, as with `--proxy off`, in place
    /// of refusing every connection to a routed service.
    static var isInstalled: Bool { access(programPath, X_OK) == 0 }
    private static var programPath: String { directoryOfThisProgram + "/heddle-proxy" }

    private static var directoryOfThisProgram: String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        let path = String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    }

    /// Its user: what the option says, else `heddle-proxy` where there is one, else `nobody`.
    static func user(_ name: String?) throws(StartupError) -> ProcessUser {
        let user =
            name.map { ProcessUser($0) }
            ?? ProcessUser("heddle-proxy") ?? ProcessUser("nobody") ?? ProcessUser("65534:65534")
        guard let user else {
            throw StartupError(
                "--proxy-user \(name ?? ""): /etc/passwd has no such user; make it, or pass UID or UID:GID")
        }
        return user
    }

    /// Served is who has a proxy that is connected and runs the installed program, whoever started it.
    func update(isWanted: Bool, _ proxies: ProxySuccession) {
        let isServed = !proxies.needsSuccessor
        // One that runs already, and holds the port, comes to us within the second.
        let mayCome = isWanted && !state.withLock(\.isWanted) && (isServed || isPortTaken)
        let mustTick = state.withLock { state in
            if let pid = state.pid, proxies.outdated.contains(UInt32(pid)) {
                state.leaving.insert(pid)
                state.pid = nil
            }
            (state.isWanted, state.isServed) = (isWanted, isServed)
            if mayCome { state.notBefore = max(state.notBefore, .now + .seconds(1)) }
            return state.beginTicking()
        }
        if mustTick { tick(after: .milliseconds(mayCome ? 1000 : 1)) }
    }
    private func tick(after time: Duration) {
        _ = timers.schedule(after: time) { [weak self] in self?.tick() }
    }

    private var isPortTaken: Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = configuration.proxyPort.bigEndian
        return withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) != 0
            }
        }
    }

    /// Whether it runs what would be started now. One that was started from it is, whatever it became: another would
    /// be no better.
    func isCurrent(_ proxy: ConnectedProxy) -> Bool {
        guard let installed = FileIdentity(path: Self.programPath) else { return true }
        let isOurs = state.withLock { $0.pid == pid_t(proxy.pid) && $0.program == installed }
        return isOurs || proxy.program.map { $0 == installed.description } ?? !proxy.isForeign
    }

    private func tick() {
        let exit = state.withLock { reap(&$0) }
        if let exit {
            log.error("heddle-proxy \(exit)\(state.withLock(\.isWanted) ? "; it will be started again" : "")")
        }
        let mustStart = state.withLock { $0.isWanted && !$0.isServed && $0.pid == nil && $0.notBefore <= .now }
        if mustStart { start() }
        if state.withLock({ $0.goOnTicking() }) { tick(after: .seconds(1)) }
    }

    private func reap(_ state: inout State) -> String? {
        var status: Int32 = 0
        state.leaving = state.leaving.filter { waitpid($0, &status, WNOHANG) == 0 }
        guard let pid = state.pid, waitpid(pid, &status, WNOHANG) == pid else { return nil }
        state.pid = nil
        // One that ran for a while may start again at once.
        if ContinuousClock.now - state.startedAt > .seconds(10) { state.pause = .seconds(1) }
        state.wait()
        return status & 0x7f == 0
            ? "ended with exit status \(status >> 8 & 0xff)" : "was ended by signal \(status & 0x7f)"
    }

    private func start() {
        let program = FileIdentity(path: Self.programPath)
        let result = Result { () throws(PosixError) in try spawn() }
        state.withLock { state in
            state.startedAt = .now
            state.program = program
            if case .success(let pid) = result {
                state.pid = pid
            } else {
                state.wait()
            }
        }
        switch result {
        case .success(let pid): log.info("started heddle-proxy", metadata: ["pid": "\(pid)", "user": "\(user)"])
        case .failure(let error):
            let remedy =
                "install it beside heddle-agent, run it yourself (--proxy external), or do without (--proxy off)"
            log.error("\(error); \(remedy)")
        }
    }

    private func spawn() throws(PosixError) -> pid_t {
        var arguments = [
            "--listen-port", "\(configuration.proxyPort)", "--log-level", configuration.logLevel.rawValue,
            "--log-format", configuration.logFormat == .json ? "json" : "text", "--node-ports",
            configuration.agentPorts.keys.sorted().map(String.init).joined(separator: ","),
        ]
        var socket = configuration.proxySocket
        let directory: Int32
        do throws(PosixError) {
            // Entered through a descriptor: those above it are closed to its user.
            directory = try Self.directory(configuration, user)
            arguments += ["--state-file", "config"]
            if !mayPass(user, to: socket) { socket = Self.socketName }
        } catch {
            log.warning("\(error); heddle-proxy keeps no configuration on disk")
            directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        }
        defer { close(directory) }
        arguments += ["--config-socket", socket]
        return try ConfinedProgram(path: Self.programPath, arguments: arguments, user: user).start(in: directory)
    }

    /// Its own directory, open, without what an earlier release left for a proxy that ran as root.
    static func directory(_ configuration: AgentConfiguration, _ user: ProcessUser) throws(PosixError) -> Int32 {
        unlink(configuration.stateDirectory + "/proxy-config")
        let path = configuration.stateDirectory + "/proxy"
        return try ownDirectory(path, of: user, files: ["config", "config.new"])
    }
    /// In that directory, for one that may not pass to `--proxy-socket`.
    static let socketName = "agent.sock"
}
