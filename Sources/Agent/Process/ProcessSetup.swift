/// What the process asks of the system before it does anything else.
import CLinux
import Glibc
import Posix
import Options

/// A start that failed; the sentence says what is missing and what to do.
struct StartupError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

enum ProcessSetup {
    static func prepare() {
        signal(SIGPIPE, SIG_IGN)
        clinux_limit_arenas(2)
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
    }

    /// The directory and its parents; fails with what to do.
    static func makeDirectory(_ path: String, mode: mode_t, purpose: String, option: String) throws(StartupError) {
        var at = ""
        for part in path.split(separator: "/") {
            at += "/" + part
            if mkdir(at, mode) != 0, errno != EEXIST, errno != EROFS || access(at, F_OK) != 0 {
                throw StartupError(
                    "cannot make \(purpose) \(path): \(String(cString: strerror(errno))); "
                        + "make it or pass another \(option)")
            }
        }
        guard access(path, W_OK | X_OK) == 0 else {
            throw StartupError(
                "\(purpose) \(path) is not writable: \(String(cString: strerror(errno))); pass another \(option)")
        }
    }

    /// Why nothing can be kept in the state directory; nil: it can. An agent follows its source all the same.
    static func obstacle(toState path: String) -> String? {
        do throws(StartupError) {
            try makeDirectory(path, mode: 0o700, purpose: "state directory", option: "--state-dir")
            return nil
        } catch {
            return "\(error); without it a node that starts while its API server is away serves nothing"
        }
    }

    static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The variables that the configuration looks at.
    static var environment: [String: String] {
        let others = ["NODE_NAME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"]
        var result: [String: String] = [:]
        for name in AgentConfiguration.options.variables + others {
            if let value = getenv(name) { result[name] = String(cString: value) }
        }
        return result
    }

    /// Time that never jumps, since some point in the past.
    static let monotonicClock: @Sendable () -> Duration = {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}

/// SIGTERM, SIGINT and SIGHUP, one after the other, on a thread that does nothing else.
actor SignalWatcher {
    private let thread: KernelThread
    private let caught: Int32
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    /// From here on the signals no longer end the process by themselves.
    init() throws {
        thread = try KernelThread(name: "heddle-signals")
        let numbers = [SIGTERM, SIGINT, SIGHUP]
        caught = clinux_catch_signals(numbers, Int32(numbers.count))
        guard caught >= 0 else {
            throw StartupError("cannot catch signals: \(String(cString: strerror(errno)))")
        }
    }

    /// Never returns: the thread ends with the process.
    func run(_ deliver: @Sendable (Int32) -> Void) {
        var number: UInt8 = 0
        while true {
            if read(caught, &number, 1) == 1 { deliver(Int32(number)) }
        }
    }
}
