/// One log record as one line, for people or for machines. Written with a single write(2), so that lines of different
/// threads and processes never mix.
package import Glibc

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
            return line.replacingNewlines() + "\n"
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
        // A log that cannot be written has nobody to tell.
        line.withUTF8 { _ = Glibc.write(descriptor, $0.baseAddress, $0.count) }
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

private func jsonString(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case let control where control.value < 0x20:
            let hex = String(control.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

extension String {
    fileprivate func replacingNewlines() -> String {
        contains(where: \.isNewline) ? split(whereSeparator: \.isNewline).joined(separator: " | ") : self
    }
}
