/// Writes a head in HTTP/1's form from fields that came by other means, as with HTTP/2, and says where they lie in it:
/// nobody has to read it again. Nothing a field contains can end its line: what HTTP/1 could not carry is refused,
/// never mended.

package struct HeadWriter: Sendable {
    /// As many as `HeadEdit` can drop.
    package static let maximumFields = 128

    /// Filled already beyond `count`, so that bytes are written in place.
    private var store: [UInt8] = []
    private var count = 0
    private var head = MessageHead()
    /// HTTP/2 may send a cookie in crumbs (RFC 9113, 8.2.3); in HTTP/1 they are one field.
    private var cookie: [UInt8] = []
    private var cookieIsSecret = false

    package init() {}

    package var bytes: ArraySlice<UInt8> { store[..<count] }

    // MARK: The start line

    package mutating func begin(
        method: UnsafeRawBufferPointer, target: UnsafeRawBufferPointer, isSecret: Bool = false
    ) throws(WireViolation) {
        reset()
        add(method)
        add(" ")
        add(target)
        add(" HTTP/1.1\r\n")
        head.startLineEnd = count
        var head = take()
        let line = ByteRange(0, count - 2)
        let result: Result<Void, WireViolation> = bytes.withUnsafeBytes { raw in
            Result { () throws(WireViolation) in try readRequestLine(raw, line, into: &head) }
        }
        try result.get()
        head.startLineIsSecret = isSecret
        self.head = head
    }

    package mutating func begin(status: UInt16, reason: String, isSecret: Bool = false) {
        reset()
        add("HTTP/1.1 000 ")
        var rest = status
        for at in stride(from: count - 2, to: count - 5, by: -1) {
            store[at] += UInt8(rest % 10)
            rest /= 10
        }
        var reason = reason
        reason.withUTF8 { add(UnsafeRawBufferPointer($0)) }
        add("\r\n")
        head.startLineEnd = count
        head.status = status
        head.startLineIsSecret = isSecret
    }

    private mutating func reset() {
        count = 0
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
        try line(known, name, value, isSecret)
    }

    package mutating func field(_ known: HeaderName, _ value: StaticString) throws(WireViolation) {
        try field(
            known, text(of: known), UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount))
    }
    package mutating func field(
        _ known: HeaderName, _ value: UnsafeRawBufferPointer, isSecret: Bool
    ) throws(WireViolation) {
        try field(known, text(of: known), value, isSecret: isSecret)
    }
    private func text(of known: HeaderName) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: known.text.utf8Start, count: known.text.utf8CodeUnitCount)
    }

    private mutating func line(
        _ known: HeaderName, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ isSecret: Bool
    ) throws(WireViolation) {
        guard head.headers.count < Self.maximumFields else { throw WireViolation(431, .tooManyHeaders) }
        let start = count
        add(name)
        add(": ")
        add(value)
        add("\r\n")
        let end = count - 2
        head.append(
            HeaderLine(
                name: ByteRange(start, start + name.count), value: ByteRange(end - value.count, end),
                end: UInt32(truncatingIfNeeded: count), known: known, isSecret: isSecret))
    }

    // MARK: The end

    /// The empty line, and what the fields say together.
    package mutating func end(_ role: HeadParser.Role) throws(WireViolation) -> MessageHead {
        if !cookie.isEmpty {
            let cookie = cookie
            let result: Result<Void, WireViolation> = cookie.withUnsafeBytes { value in
                Result { () throws(WireViolation) in try line(.cookie, text(of: .cookie), value, cookieIsSecret) }
            }
            try result.get()
        }
        add("\r\n")
        head.end = count
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

    // MARK: Bytes

    @inline(__always) private mutating func add(_ text: StaticString) {
        add(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
    @inline(__always) private mutating func add(_ text: UnsafeRawBufferPointer) {
        if store.count - count < text.count { grow(by: text.count) }
        store.withUnsafeMutableBytes { target in
            guard let target = target.baseAddress, let source = text.baseAddress else { return }
            (target + count).copyMemory(from: source, byteCount: text.count)
        }
        count += text.count
    }
    private mutating func grow(by size: Int) {
        store.append(contentsOf: repeatElement(0, count: max(512, store.count, size)))
    }
}
