/// One log record as one line, for people or for machines. Written with a single write(2), so that lines of different
/// threads and processes never mix.
package import Glibc
import Synchronization

package struct LogLine: Sendable {
    package enum Format: String, Sendable, CaseIterable {
        case text, json
    }

    /// `info`, `warning`, ...
    package let level: String
    package let message: String
    package let fields: [(name: String, value: String)]

    package init(level: String, message: String, fields: [(name: String, value: String)] = []) {
        self.level = level
        self.message = message
        self.fields = fields
    }

    /// The line with its newline. `time` is seconds and nanoseconds since 1970.
    package func formatted(_ format: Format, time: timespec) -> String {
        let stamp = timestamp(time)
        switch format {
        case .text:
            var line = "\(stamp) \(level.uppercased()) \(message)"
            for field in fields { line += " \(field.name)=\(textValue(field.value))" }
            // A line is a record: what is inside a message must not start another.
            return line.replacingNewlines().terminalSafe() + "\n"
        case .json:
            var line = "{\"time\":\"\(stamp)\",\"level\":\"\(level)\",\"message\":\(jsonString(message))"
            for field in fields { line += ",\(jsonString(field.name)):\(jsonString(field.value))" }
            return line + "}\n"
        }
    }

    package func write(_ format: Format, to descriptor: Int32 = STDERR_FILENO) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var line = formatted(format, time: now)
        line.withUTF8 { bytes in
            var written = 0
            // A log that nobody reads must not hold up whoever has something to say. What fits into a pipe's least
            // room goes out in one piece.
            while written < bytes.count, Self.hasRoom(descriptor) {
                let piece = min(Self.atOnce, bytes.count - written)
                let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + written }, piece)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { break }
                written += count
            }
            if written < bytes.count { Self.losses.wrappingAdd(1, ordering: .relaxed) }
        }
    }

    /// Lines that could not be written, or not to their end.
    package static var lost: UInt64 { losses.load(ordering: .relaxed) }
    private static let losses = Atomic<UInt64>(0)
    /// PIPE_BUF: a pipe that has room at all has room for so much.
    private static let atOnce = 4096
    private static let isStuck = Atomic(false)

    /// Waits a moment for a reader that is only slow, but not for every line again.
    private static func hasRoom(_ descriptor: Int32) -> Bool {
        var wanted = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        let result = poll(&wanted, 1, isStuck.load(ordering: .relaxed) ? 0 : 200)
        isStuck.store(result == 0, ordering: .relaxed)
        return result != 0
    }
}

/// RFC 3339 in UTC with milliseconds.
package func timestamp(_ time: timespec) -> String {
    var seconds = time.tv_sec
    var parts = tm()
    gmtime_r(&seconds, &parts)
    let padded = { (value: Int, width: Int) in
        String(repeating: "0", count: max(0, width - String(value).count)) + String(value)
    }
    let date = [(Int(parts.tm_year) + 1900, 4), (Int(parts.tm_mon) + 1, 2), (Int(parts.tm_mday), 2)]
    let clock = [(Int(parts.tm_hour), 2), (Int(parts.tm_min), 2), (Int(parts.tm_sec), 2)]
    return date.map { padded($0.0, $0.1) }.joined(separator: "-") + "T"
        + clock.map { padded($0.0, $0.1) }.joined(separator: ":") + "." + padded(time.tv_nsec / 1_000_000, 3) + "Z"
}

private func textValue(_ value: String) -> String {
    value.isEmpty || value.contains { $0 == " " || $0 == "\"" || $0 == "=" || $0.isNewline } ? jsonString(value) : value
}

extension String {
    fileprivate func replacingNewlines() -> String {
        contains(where: \.isNewline) ? split(whereSeparator: \.isNewline).joined(separator: " | ") : self
    }
}
