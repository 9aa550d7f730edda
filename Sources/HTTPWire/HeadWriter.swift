/// Writes a head in HTTP/1's form from fields that came by other means, as with HTTP/2. Nothing a field contains can
/// end its line: what HTTP/1 could not carry is refused, never mended.

package struct HeadWriter: Sendable {
    package private(set) var bytes: [UInt8] = []
    /// HTTP/2 may send a cookie in crumbs (RFC 9113, 8.2.3); in HTTP/1 they are one field.
    private var cookie: [UInt8] = []

    package init() {}

    package mutating func reset() {
        bytes.removeAll(keepingCapacity: true)
        cookie.removeAll(keepingCapacity: true)
    }

    package mutating func requestLine(method: String, target: String) throws(WireViolation) {
        try append(method, .badMethod, allows: isTokenByte)
        bytes.append(0x20)
        try append(target, .badTarget) { $0 > 0x20 && $0 != 0x7f }
        add(" HTTP/1.1\r\n")
    }

    package mutating func statusLine(_ status: UInt16, reason: String) {
        add("HTTP/1.1 ")
        bytes += "\(status)".utf8
        bytes.append(0x20)
        bytes += reason.utf8
        add("\r\n")
    }

    package mutating func field(_ name: String, _ value: String) throws(WireViolation) {
        if name.utf8.count == 6, name == "cookie" {
            let before = bytes.count
            try append(value, .badHeaderValue, allows: isValueByte)
            if !cookie.isEmpty { cookie += "; ".utf8 }
            cookie += bytes[before...]
            bytes.removeSubrange(before...)
            return
        }
        guard !name.isEmpty else { throw WireViolation(400, .badHeaderName) }
        try append(name, .badHeaderName, allows: isTokenByte)
        add(": ")
        try append(value, .badHeaderValue, allows: isValueByte)
        add("\r\n")
    }

    /// The empty line.
    package mutating func end() {
        if !cookie.isEmpty {
            add("cookie: ")
            bytes += cookie
            add("\r\n")
        }
        add("\r\n")
    }

    private mutating func add(_ text: StaticString) {
        bytes += UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    }

    private mutating func append(
        _ text: String, _ detail: WireFault, allows: (UInt8) -> Bool
    ) throws(WireViolation) {
        var text = text
        let isAllowed = text.withUTF8 { utf8 in
            for byte in utf8 where !allows(byte) { return false }
            bytes += utf8
            return true
        }
        guard isAllowed else { throw WireViolation(400, detail) }
    }
}
