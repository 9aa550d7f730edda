/// Writes a head in HTTP/1's form from fields that came by other means, as with HTTP/2, and says where they lie in it:
/// nobody has to read it again. Nothing a field contains can end its line: what HTTP/1 could not carry is refused,
/// never mended.

package struct HeadWriter: Sendable {
    /// As many as `HeadEdit` can drop.
    package static let maximumFields = 128

    package private(set) var bytes: [UInt8] = []
    private var head = MessageHead()
    /// HTTP/2 may send a cookie in crumbs (RFC 9113, 8.2.3); in HTTP/1 they are one field.
    private var cookie: [UInt8] = []
    private var cookieIsSecret = false

    package init() {}

    // MARK: The start line

    package mutating func begin(
        method: UnsafeRawBufferPointer, target: UnsafeRawBufferPointer
    ) throws(WireViolation) {
        reset()
        bytes += method
        bytes.append(0x20)
        bytes += target
        add(" HTTP/1.1\r\n")
        head.startLineEnd = bytes.count
        var head = take()
        let line = ByteRange(0, bytes.count - 2)
        let result: Result<Void, WireViolation> = bytes.withUnsafeBytes { raw in
            Result { () throws(WireViolation) in try readRequestLine(raw, line, into: &head) }
        }
        try result.get()
        self.head = head
    }

    package mutating func begin(status: UInt16, reason: String) {
        reset()
        add("HTTP/1.1 ")
        for divisor: UInt16 in [100, 10, 1] { bytes.append(UInt8(truncatingIfNeeded: status / divisor % 10 + 0x30)) }
        bytes.append(0x20)
        bytes += reason.utf8
        add("\r\n")
        head.startLineEnd = bytes.count
        head.status = status
    }

    private mutating func reset() {
        bytes.removeAll(keepingCapacity: true)
        cookie.removeAll(keepingCapacity: true)
        cookieIsSecret = false
        head = MessageHead()
    }
    /// Out of the writer, so that it can change while the bytes are looked at.
    private mutating func take() -> MessageHead {
        var taken = MessageHead()
        swap(&taken, &head)
        return taken
    }

    // MARK: Fields

    /// The name in lower case; `known` is what it is called here.
    package mutating func field(
        _ known: HeaderName, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, isSecret: Bool = false
    ) throws(WireViolation) {
        try checkValue(value, 0, value.count)
        if let first = value.first, let last = value.last, isBlank(first) || isBlank(last) {
            throw WireViolation(400, .badHeaderValue)
        }
        guard known != .cookie else {
            if !cookie.isEmpty { cookie += "; ".utf8 }
            cookie += value
            cookieIsSecret = cookieIsSecret || isSecret
            return
        }
        if known == .other {
            guard !name.isEmpty, name.allSatisfy(isTokenByte) else { throw WireViolation(400, .badHeaderName) }
        }
        try line(known, name, isSecret) { $0 += value }
    }

    package mutating func field(_ known: HeaderName, _ value: StaticString) throws(WireViolation) {
        try field(
            known, text(of: known), UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount))
    }
    package mutating func field(_ known: HeaderName, _ value: UnsafeRawBufferPointer) throws(WireViolation) {
        try field(known, text(of: known), value)
    }
    private func text(of known: HeaderName) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: known.text.utf8Start, count: known.text.utf8CodeUnitCount)
    }

    private mutating func line(
        _ known: HeaderName, _ name: UnsafeRawBufferPointer, _ isSecret: Bool, _ writeValue: (inout [UInt8]) -> Void
    ) throws(WireViolation) {
        guard head.headers.count < Self.maximumFields else { throw WireViolation(431, .tooManyHeaders) }
        let start = bytes.count
        bytes += name
        add(": ")
        let value = bytes.count
        writeValue(&bytes)
        let end = bytes.count
        add("\r\n")
        head.append(
            HeaderLine(
                name: ByteRange(start, value - 2), value: ByteRange(value, end),
                end: UInt32(truncatingIfNeeded: end + 2),
                known: known, isSecret: isSecret))
    }

    // MARK: The end

    /// The empty line, and what the fields say together.
    package mutating func end(_ role: HeadParser.Role) throws(WireViolation) -> MessageHead {
        if !cookie.isEmpty {
            let cookie = cookie
            try line(.cookie, text(of: .cookie), cookieIsSecret) { $0 += cookie }
        }
        add("\r\n")
        head.end = bytes.count
        var head = take()
        let result: Result<Void, WireViolation> = bytes.withUnsafeBytes { raw in
            Result { () throws(WireViolation) in
                try readConnection(raw, &head)
                try readFraming(raw, &head)
                if role == .request { try checkRequest(raw, &head) }
            }
        }
        try result.get()
        return head
    }

    private mutating func add(_ text: StaticString) {
        bytes += UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    }
}
