/// Text of peers and tenants that people will look at: what a terminal would act on is shown as what it is.

extension Unicode.Scalar {
    /// Control characters, of Latin 1 as well, and those that turn the direction of text or begin a line.
    package var isTerminalControl: Bool {
        switch value {
        case 0..<0x20, 0x7f...0x9f, 0x61c, 0x200e...0x200f, 0x2028...0x202e, 0x2066...0x2069, 0xfff9...0xfffb: true
        default: false
        }
    }
    /// `\u009b`, which means the same in JSON.
    package var escapedForTerminal: String {
        let hex = String(value, radix: 16)
        return "\\u" + String(repeating: "0", count: max(0, 4 - hex.count)) + hex
    }
}

extension StringProtocol {
    /// With its control characters escaped, but for line ends, tabs and what `keeps` says.
    package func terminalSafe(keeping keeps: (Substring.UnicodeScalarView) -> Int = { _ in 0 }) -> String {
        guard utf8.contains(where: { ($0 < 0x20 && $0 != 0x0a && $0 != 0x09) || $0 >= 0x7f }) else {
            return String(self)
        }
        var result = ""
        var rest = Substring(self).unicodeScalars
        while let scalar = rest.first {
            let kept = scalar.isTerminalControl && scalar != "\n" && scalar != "\t" ? keeps(rest) : 1
            guard kept == 0 else {
                result.unicodeScalars.append(contentsOf: rest.prefix(kept))
                rest = rest.dropFirst(kept)
                continue
            }
            result += scalar.escapedForTerminal
            rest = rest.dropFirst()
        }
        return result
    }
}

/// A JSON string, which may be shown at a terminal as it is.
package func jsonString(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case let control where control.isTerminalControl: result += control.escapedForTerminal
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
