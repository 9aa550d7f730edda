/// Heads of HTTP/2 as heads of HTTP/1 and back. Everything between the two sides of the proxy sees the one form, so
/// that routes, edits and checks exist once.
import Addressing
import HTTPWire
import NIOCore
import NIOHPACK

struct HTTP2Heads {
    enum Side {
        case client, backend
    }
    private var writer = HeadWriter()
    private var requests: HeadParser
    private var responses: HeadParser

    /// What comes from the peer is limited. What goes to it was limited where it came from, and edits only add to it.
    init(_ side: Side) {
        requests = HeadParser(.request, limits: side == .client ? .translated : .unlimited)
        responses = HeadParser(.response, limits: side == .client ? .unlimited : .translated)
    }

    // MARK: From HTTP/2

    /// `hasBody`: DATA follows. What RFC 9113, 8.3 asks of pseudo-fields is checked here, and only here.
    mutating func request(
        _ headers: HPACKHeaders, hasBody: Bool
    ) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        writer.reset()
        var pseudo = PseudoFields()
        var host: String?
        var hasLength = false
        var isStarted = false
        for (name, value, _) in headers {
            switch FieldKind(name) {
            case .pseudo:
                guard !isStarted else { throw WireViolation(400, .badHeaderName) }
                try pseudo.take(name, value)
                continue
            case .host:
                guard host == nil else { throw WireViolation(400, .duplicateHost) }
                host = value
                continue
            // RFC 9113, 8.2.2: such a message is malformed.
            case .hopByHop: throw WireViolation(400, .badConnection)
            case .te: guard value == "trailers" else { throw WireViolation(400, .badConnection) }
            case .length: hasLength = true
            case .malformed: throw WireViolation(400, .badHeaderName)
            case .other: break
            }
            if !isStarted { try start(pseudo) }
            isStarted = true
            try writer.field(name, value)
        }
        if !isStarted { try start(pseudo) }
        // Two of them would be two answers to the question whom the request is for.
        if let host, let authority = pseudo.authority, host != authority {
            let isSecure = pseudo.scheme == "https"
            guard isSameAuthority(Array(host.utf8), Array(authority.utf8), isSecure: isSecure) else {
                throw WireViolation(400, .badHost)
            }
        }
        if let host = pseudo.authority ?? host { try writer.field("host", host) }
        if hasBody, !hasLength { try writer.field("transfer-encoding", "chunked") }
        writer.end()
        return try parsed(with: &requests)
    }

    private mutating func start(_ pseudo: PseudoFields) throws(WireViolation) {
        guard let method = pseudo.method else { throw WireViolation(400, .badMethod) }
        // CONNECT has an authority in place of a path.
        let isConnect = method == "CONNECT"
        guard let target = isConnect ? pseudo.authority : pseudo.path, isConnect == (pseudo.path == nil),
            isConnect == (pseudo.scheme == nil)
        else { throw WireViolation(400, .badTarget) }
        try writer.requestLine(method: method, target: target)
    }

    /// The answer's head. `hasBody`: DATA follows; else `addsLength` says that it has none, for HTTP/1's sake.
    mutating func response(
        _ headers: HPACKHeaders, hasBody: Bool, addsLength: Bool
    ) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        writer.reset()
        var status: UInt16?
        var hasLength = false
        for (name, value, _) in headers {
            switch FieldKind(name) {
            case .pseudo:
                guard name == ":status", status == nil, value.utf8.count == 3, let code = UInt16(value), code >= 100,
                    code != 101
                else { throw WireViolation(502, .badStatusLine) }
                status = code
                writer.statusLine(code, reason: reasonPhrase(code))
                continue
            case .hopByHop: continue
            case .length: hasLength = true
            case .malformed: throw WireViolation(502, .badHeaderName)
            case .host, .te, .other: break
            }
            guard status != nil else { throw WireViolation(502, .badStatusLine) }
            try writer.field(name, value)
        }
        guard let status else { throw WireViolation(502, .badStatusLine) }
        if !hasLength, status >= 200 {
            if hasBody {
                try writer.field("transfer-encoding", "chunked")
            } else if addsLength, status != 204, status != 304 {
                try writer.field("content-length", "0")
            }
        }
        writer.end()
        return try parsed(with: &responses)
    }

    /// Fields after a body, each line with its CRLF, and the empty line.
    mutating func trailers(_ headers: HPACKHeaders) throws(WireViolation) -> ByteBuffer {
        writer.reset()
        for (name, value, _) in headers {
            switch FieldKind(name) {
            // Too late for what they are about; the exchange drops what else may not stand here.
            case .host, .length, .te, .hopByHop: continue
            case .pseudo, .malformed: throw WireViolation(400, .badTrailer)
            case .other: try writer.field(name, value)
            }
        }
        writer.end()
        return ByteBuffer(bytes: writer.bytes)
    }

    private func parsed(with parser: inout HeadParser) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        parser.reset()
        let bytes = ByteBuffer(bytes: writer.bytes)
        guard try parser.parse(bytes), parser.head.end == bytes.readableBytes else {
            throw WireViolation(400, .badHeaderValue)
        }
        return (parser.head, bytes)
    }

    // MARK: To HTTP/2

    /// An edited head. `limit`: the longest frame of the peer; throws if it would not fit.
    mutating func request(
        _ bytes: ByteBuffer, scheme: String, limit: Int
    ) throws(WireViolation) -> HPACKHeaders {
        requests.reset()
        guard try requests.parse(bytes) else { throw WireViolation(431, .headTooLong) }
        let head = requests.head
        var headers = HPACKHeaders()
        headers.reserveCapacity(head.headers.count + 4)
        headers.add(name: ":method", value: bytes.text(head.methodText))
        headers.add(name: ":scheme", value: scheme)
        headers.add(name: ":path", value: bytes.text(head.target))
        headers.add(name: ":authority", value: bytes.text(head.authority))
        append(head, bytes, to: &headers)
        try check(headers, bytes.readableBytes, limit)
        return headers
    }

    mutating func response(
        _ bytes: ByteBuffer, limit: Int
    ) throws(WireViolation) -> (HPACKHeaders, status: UInt16) {
        responses.reset()
        guard try responses.parse(bytes) else { throw WireViolation(502, .headTooLong) }
        let head = responses.head
        var headers = HPACKHeaders()
        headers.reserveCapacity(head.headers.count + 1)
        headers.add(name: ":status", value: "\(head.status)")
        append(head, bytes, to: &headers)
        try check(headers, bytes.readableBytes, limit)
        return (headers, head.status)
    }

    func trailers(_ bytes: ByteBuffer?, limit: Int) throws(WireViolation) -> HPACKHeaders {
        var headers = HPACKHeaders()
        guard let bytes else { return headers }
        for line in bytes.getString(at: bytes.readerIndex, length: bytes.readableBytes)?.split(separator: "\r\n") ?? []
        {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let name = line[..<colon].lowercased()
            headers.add(name: name, value: String(line[line.index(after: colon)...].trimmed))
        }
        try check(headers, bytes.readableBytes, limit)
        return headers
    }

    /// HPACK's code makes up to 30 bits of a byte, and mostly six: only a long head is worth measuring.
    private func check(_ headers: HPACKHeaders, _ length: Int, _ limit: Int) throws(WireViolation) {
        guard 4 * length + 64 > limit else { return }
        // With an empty table, so that the real one can only be shorter, but for the news of its size.
        var encoder = HPACKEncoder(allocator: ByteBufferAllocator())
        var encoded = ByteBuffer()
        let isEncoded = (try? encoder.encode(headers: headers, to: &encoded)) != nil
        guard isEncoded, encoded.readableBytes + 16 <= limit else { throw WireViolation(431, .headTooLong) }
    }

    private func append(_ head: MessageHead, _ bytes: ByteBuffer, to headers: inout HPACKHeaders) {
        for line in head.headers {
            switch line.known {
            case .host, .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade: continue
            default: break
            }
            // Values that are new with every request would only push others out of the peer's table.
            let indexing: HPACKIndexing =
                switch line.known {
                case .xRequestID, .traceparent, .b3, .b3TraceID, .b3SpanID, .b3ParentSpanID, .contentLength,
                    .grpcTimeout:
                    .nonIndexable
                default: .indexable
                }
            headers.add(name: bytes.lowercasedText(line.name), value: bytes.text(line.value), indexing: indexing)
        }
    }
}

private struct PseudoFields {
    var method: String?
    var scheme: String?
    var path: String?
    var authority: String?

    mutating func take(_ name: String, _ value: String) throws(WireViolation) {
        let isNew: Bool
        switch name {
        case ":method": isNew = method.replace(with: value)
        case ":scheme": isNew = scheme.replace(with: value)
        case ":path": isNew = path.replace(with: value)
        case ":authority": isNew = authority.replace(with: value)
        default: isNew = false
        }
        guard isNew else { throw WireViolation(400, .badHeaderName) }
    }
}

extension String? {
    /// False: there was one already.
    fileprivate mutating func replace(with value: String) -> Bool {
        defer { self = value }
        return self == nil
    }
}

/// What a field means for the message, told by length first: most names are compared with nothing.
private enum FieldKind {
    case pseudo, host, length, te, hopByHop, other
    /// Letters in upper case, or no letters at all.
    case malformed

    init(_ name: String) {
        guard let first = name.utf8.first, !name.utf8.contains(where: { $0 &- 0x41 < 26 }) else {
            self = .malformed
            return
        }
        if first == UInt8(ascii: ":") {
            self = .pseudo
            return
        }
        switch name.utf8.count {
        case 2 where name == "te": self = .te
        case 4 where name == "host": self = .host
        case 14 where name == "content-length": self = .length
        case 7 where name == "upgrade", 10 where name == "connection" || name == "keep-alive",
            16 where name == "proxy-connection", 17 where name == "transfer-encoding":
            self = .hopByHop
        default: self = .other
        }
    }
}

extension HeadParser.Limits {
    /// HTTP/2 limits its header lists itself; what the proxy adds must not make a head too long.
    static var translated: Self {
        var limits = Self()
        limits.startLine = 128 << 10
        limits.head = 128 << 10
        limits.headers = 128
        return limits
    }
    static var unlimited: Self {
        var limits = Self()
        limits.startLine = .max
        limits.head = .max
        limits.headers = .max
        return limits
    }
}

extension ByteBuffer {
    func lowercasedText(_ range: ByteRange) -> String {
        String(unsafeUninitializedCapacity: range.count) { output in
            withUnsafeReadableBytes { bytes in
                for index in 0..<range.count {
                    let byte = bytes[Int(range.start) + index]
                    output[index] = byte &- 0x41 < 26 ? byte | 0x20 : byte
                }
            }
            return range.count
        }
    }
}
