/// Reads the head of an HTTP/1 message from a growing buffer: call it again with more bytes until it says that the head
/// is whole. It goes on where it stopped, so a head that comes byte by byte costs no more than one that comes at once.
///
/// It is strict where the leniency of two parsers can differ (RFC 9112 section 11.2): only CRLF ends a line, a name
/// ends at its colon, nothing is folded, length and transfer coding say one thing and say it once.

package struct HeadParser: Sendable {
    package enum Role: Sendable {
        case request
        case response
    }
    package struct Limits: Sendable {
        package var startLine = 16 << 10
        package var head = 60 << 10
        package var headers = 100
        package init() {}
    }

    package private(set) var head = MessageHead()
    private let role: Role
    private let limits: Limits
    /// Where the line begins that is not read yet, and how far it was searched for its end.
    private var lineStart = 0
    private var searched = 0
    private var hasStartLine = false

    package init(_ role: Role, limits: Limits = Limits()) {
        self.role = role
        self.limits = limits
    }

    /// The head that is whole. Nothing is left of it here: a connection may rest for long before its next message.
    package mutating func takeHead() -> MessageHead {
        var whole = MessageHead()
        swap(&whole, &head)
        reset()
        return whole
    }

    /// Before the next message.
    package mutating func reset() {
        head.clear()
        lineStart = 0
        searched = 0
        hasStartLine = false
    }

    /// True once the head is whole: it then ends at `head.end`. `bytes` begins with the same bytes in every call.
    package mutating func parse(_ bytes: Span<UInt8>) throws(WireViolation) -> Bool {
        let found: Result<Bool, WireViolation> = bytes.withUnsafeBytes { raw in
            Result { () throws(WireViolation) in try parse(raw) }
        }
        return try found.get()
    }

    package mutating func parse(_ bytes: UnsafeRawBufferPointer) throws(WireViolation) -> Bool {
        while let lineFeed = firstLineFeed(in: bytes, from: searched) {
            guard lineFeed > lineStart, bytes[lineFeed - 1] == 0x0d else { throw WireViolation(400, .bareLineFeed) }
            let line = ByteRange(lineStart, lineFeed - 1)
            let isBlank = line.isEmpty
            try checkLength(lineFeed + 1)
            lineStart = lineFeed + 1
            searched = lineStart
            if !hasStartLine {
                // Old clients send a CRLF too many after a body (RFC 9112, 2.2).
                if isBlank, role == .request, head.start < 4 {
                    head.start = lineStart
                    continue
                }
                switch role {
                case .request: try readRequestLine(bytes, line, into: &head)
                case .response: try readStatusLine(bytes, line, into: &head)
                }
                head.startLineEnd = lineStart
                hasStartLine = true
            } else if isBlank {
                head.end = lineStart
                try finish(bytes)
                return true
            } else {
                guard head.headers.count < limits.headers else { throw WireViolation(431, .tooManyHeaders) }
                head.append(try readField(bytes, line))
            }
        }
        searched = bytes.count
        try checkLength(bytes.count)
        if bytes.count > lineStart { try checkBeginning(bytes[lineStart]) }
        return false
    }

    private func checkLength(_ end: Int) throws(WireViolation) {
        if !hasStartLine, end - head.start > limits.startLine { throw WireViolation(414, .startLineTooLong) }
        if end > limits.head { throw WireViolation(431, .headTooLong) }
    }

    /// What can be no message is refused at its first byte, so that no one waits for the end of its line.
    private func checkBeginning(_ byte: UInt8) throws(WireViolation) {
        guard !hasStartLine, byte != 0x0d else { return }
        switch role {
        case .request: guard isTokenByte(byte) else { throw WireViolation(400, .badMethod) }
        case .response: guard byte == UInt8(ascii: "H") else { throw WireViolation(400, .badStatusLine) }
        }
    }

    private mutating func finish(_ bytes: UnsafeRawBufferPointer) throws(WireViolation) {
        try readConnection(bytes, &head)
        try readFraming(bytes, &head)
        if role == .request { try checkRequest(bytes, &head) }
    }
}

/// Eight bytes at a time: a word with a line feed in it has a zero byte after the exclusive or.
private func firstLineFeed(in bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
    var at = start
    while at + 8 <= bytes.count {
        let word = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self).littleEndian ^ 0x0a0a_0a0a_0a0a_0a0a
        let zeros = (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
        if zeros != 0 { return at + zeros.trailingZeroBitCount >> 3 }
        at += 8
    }
    while at < bytes.count {
        if bytes[at] == 0x0a { return at }
        at += 1
    }
    return nil
}
