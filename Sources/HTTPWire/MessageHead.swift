/// The head of a request or an answer as places in the bytes it was read from. No String and no dictionary: whoever
/// needs a value reads it where it lies, and who forwards the head copies the bytes as they are (`HeadEdit`).

/// A piece of the bytes a head was parsed from.
package struct ByteRange: Hashable, Sendable, BitwiseCopyable {
    package var start: UInt32
    package var end: UInt32

    package init(_ start: Int, _ end: Int) {
        self.start = UInt32(truncatingIfNeeded: start)
        self.end = UInt32(truncatingIfNeeded: end)
    }
    package static let empty = ByteRange(0, 0)
    package var range: Range<Int> { Int(start)..<Int(end) }
    package var count: Int { Int(end) - Int(start) }
    package var isEmpty: Bool { start == end }
}

package struct HeaderLine: Hashable, Sendable, BitwiseCopyable {
    package var name: ByteRange
    /// Without the blanks around it.
    package var value: ByteRange
    /// After the line's CRLF; the line begins where its name does.
    package var end: UInt32
    package var known: HeaderName
    /// No table of header compression may take it in, here and further on (RFC 7541, 7.1.3).
    package var isSecret = false
}

package enum HTTPMethod: UInt8, Sendable {
    case get, head, post, put, delete, options, patch, connect, trace, other

    /// Doing it twice is as good as once (RFC 9110, 9.2.2).
    package var isIdempotent: Bool {
        switch self {
        case .get, .head, .put, .delete, .options, .trace: true
        case .post, .patch, .connect, .other: false
        }
    }
}

/// What Connection says.
package struct ConnectionOptions: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let close = ConnectionOptions(rawValue: 1)
    package static let keepAlive = ConnectionOptions(rawValue: 2)
    package static let upgrade = ConnectionOptions(rawValue: 4)
    /// It names other fields, which are not to be forwarded.
    package static let named = ConnectionOptions(rawValue: 8)
}

/// How long a body is.
package enum BodyFraming: Hashable, Sendable {
    case none
    case length(UInt64)
    case chunked
    case untilClose
}

package struct MessageHead: Sendable {
    /// Where the start line begins and where the body does. The bytes before `start` are stray line ends.
    package internal(set) var start = 0
    package internal(set) var end = 0
    /// After the start line's CRLF.
    package internal(set) var startLineEnd = 0
    /// As `HeaderLine.isSecret`, of what HTTP/2 has in pseudo fields.
    package internal(set) var startLineIsSecret = false
    package internal(set) var minorVersion: UInt8 = 1
    package internal(set) var headers: [HeaderLine] = []
    package internal(set) var connection: ConnectionOptions = []
    package internal(set) var contentLength: UInt64?
    package internal(set) var isChunked = false

    // Of a request:
    package internal(set) var method = HTTPMethod.other
    package internal(set) var methodText = ByteRange.empty
    /// As it was sent: `/a?b`, `http://host/a?b`, `*` or, with CONNECT, `host:port`.
    package internal(set) var target = ByteRange.empty
    /// Without the query. Empty for `http://host`, where it means `/`.
    package internal(set) var path = ByteRange.empty
    /// What follows the first `?`; nil without one.
    package internal(set) var query: ByteRange?
    package internal(set) var isAbsoluteTarget = false
    /// The value of Host, or the authority of the target where there is no Host.
    package internal(set) var authority = ByteRange.empty
    package internal(set) var expectsContinue = false

    // Of an answer:
    package internal(set) var status: UInt16 = 0

    private var present: UInt32 = 0

    /// Ready for the next message; keeps the memory of `headers`.
    mutating func clear() {
        // Taken out, so that nobody else has it and its memory can stay.
        var kept: [HeaderLine] = []
        swap(&kept, &headers)
        kept.removeAll(keepingCapacity: true)
        self = MessageHead()
        swap(&kept, &headers)
    }

    mutating func append(_ line: HeaderLine) {
        if headers.capacity == 0 { headers.reserveCapacity(16) }
        headers.append(line)
        present |= 1 << UInt32(line.known.rawValue)
    }

    package func has(_ name: HeaderName) -> Bool { present >> UInt32(name.rawValue) & 1 != 0 }

    /// The value of the first field of this name.
    package func value(_ name: HeaderName) -> ByteRange? {
        has(name) ? headers.first { $0.known == name }?.value : nil
    }

    /// Whether the connection may carry another message after this one.
    package var keepsAlive: Bool {
        if connection.contains(.close) { return false }
        return minorVersion >= 1 || connection.contains(.keepAlive)
    }
    package var wantsUpgrade: Bool { connection.contains(.upgrade) && has(.upgrade) }

    package var requestBody: BodyFraming {
        if isChunked { return .chunked }
        guard let contentLength, contentLength > 0 else { return .none }
        return .length(contentLength)
    }

    /// The body of this answer. After 101, and after 2xx to CONNECT, there is no body: the connection is a tunnel.
    package func responseBody(to method: HTTPMethod) -> BodyFraming {
        if status < 200 || status == 204 || status == 304 || method == .head { return .none }
        if method == .connect, status < 300 { return .none }
        if isChunked { return .chunked }
        guard let contentLength else { return .untilClose }
        return contentLength == 0 ? .none : .length(contentLength)
    }
}
