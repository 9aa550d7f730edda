/// What the process asks of the system before it does anything else.
import CLinux
import Glibc
import Posix

/// A start that failed; the sentence says what is missing and what to do.
package struct StartupError: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

package enum ProcessSetup {
    /// The directory and its parents; fails with what to do.
    package static func makeDirectory(_ path: String, mode: UInt32, purpose: String, option: String)
        throws(StartupError)
    {
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

    /// The directory that holds it.
    package static func parent(of path: String) -> String {
        let parts = path.split(separator: "/").dropLast()
        return parts.isEmpty ? "/" : parts.map { "/" + $0 }.joined()
    }

    package static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Of these variables the ones that are set.
    package static func environment(_ names: [String]) -> [String: String] {
        var result: [String: String] = [:]
        for name in names {
            if let value = getenv(name) { result[name] = String(cString: value) }
        }
        return result
    }

    /// Time that never jumps, since some point in the past.
    package static let monotonicClock: @Sendable () -> Duration = {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}

/// SIGTERM, SIGINT and SIGHUP, one after the other, on a thread that does nothing else.
package actor SignalWatcher {
    private let thread: KernelThread
    private let caught: Int32
    package nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    /// From here on the signals no longer end the process by themselves.
    package init() throws {
        thread = try KernelThread(name: "heddle-signals")
        let numbers = [SIGTERM, SIGINT, SIGHUP]
        caught = clinux_catch_signals(numbers, Int32(numbers.count))
        guard caught >= 0 else {
            throw StartupError("cannot catch signals: \(String(cString: strerror(errno)))")
        }
    }

    /// Never returns: the thread ends with the process.
    package func run(_ deliver: @Sendable (Int32) -> Void) {
        var number: UInt8 = 0
        while true {
            if read(caught, &number, 1) == 1 { deliver(Int32(number)) }
        }
    }
}
