/// What libbpf says while it works. It prints to stderr by default; here its last lines are kept, so that an error can
/// say why a program was refused.
import CLibbpf
import Glibc
import Synchronization

enum LibbpfLog {
    private static let lines = Mutex<[String]>([])

    /// Runs `body` and gives what libbpf said meanwhile.
    static func capture<R>(_ body: () -> R) -> (result: R, lines: [String]) {
        install
        lines.withLock { $0.removeAll() }
        let result = body()
        return (result, lines.withLock { $0 })
    }

    private static let install: Void = {
        _ = libbpf_set_print { level, format, arguments in
            guard level.rawValue <= LIBBPF_WARN.rawValue, let format, let arguments else { return 0 }
            return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
                guard let base = buffer.baseAddress else { return 0 }
                let length = vsnprintf(base, buffer.count, format, arguments)
                LibbpfLog.add(String(cString: base))
                return length
            }
        }
    }()

    private static func add(_ text: String) {
        lines.withLock { lines in
            for line in text.split(separator: "\n") { lines.append(String(line)) }
            if lines.count > 64 { lines.removeFirst(lines.count - 64) }
        }
    }
}

/// The lines of a verifier log that tell what it objected to: the last instructions and the sentence, without the
/// statistics that follow.
func lastMeaningfulLines(_ log: String, count: Int = 12) -> String {
    let noise = ["processed ", "-- END", "-- BEGIN", "verification time", "stack depth"]
    let lines = log.split(separator: "\n").filter { line in !noise.contains { line.hasPrefix($0) } }
    return lines.suffix(count).joined(separator: "\n")
}
