/// Heads of HTTP/2 as heads of HTTP/1 and back. Everything between the two sides of the proxy sees the one form, so
/// that routes, edits and checks exist once.
import Addressing
import HTTPWire
import NIOCore
import NIOHPACK

struct HTTP2Heads {
    private var writer = HeadWriter()
    private var requests = HeadParser(.request, limits: .translated)
    private var responses = HeadParser(.response, limits: .translated)

    // MARK: From HTTP/2

    /// `hasBody`: DATA follows.
    mutating func request(
        _ headers: HPACKHeaders, hasBody: Bool
    ) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        writer.reset()
        var method = ""
        var path: String?
        var authority: String?
        var host: String?
        var hasLength = false
        var isStarted = false
        for (name, value, _) in headers {
            if name.utf8.first == UInt8(ascii: ":") {
                switch name {
                case ":method": method = value
                case ":path": path = value
                case ":authority": authority = value
                default: break
                }
                continue
            }
            if !isStarted {
                try writer.requestLine(method: method, target: path ?? authority ?? "")
                isStarted = true
            }
            switch name {
            case "host":
                guard host == nil else { throw WireViolation(400, .duplicateHost) }
                host = value
                continue
            case "content-length": hasLength = true
            case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
                // RFC 9113, 8.2.2: such a message is malformed.
                throw WireViolation(400, .badConnection)
            default: break
            }
            try writer.field(name, value)
        }
        if !isStarted { try writer.requestLine(method: method, target: path ?? authority ?? "") }
        // Two of them would be two answers to the question whom the request is for.
        if let host, let authority, host.lowercased() != authority.lowercased() { throw WireViolation(400, .badHost) }
        if let host = authority ?? host { try writer.field("host", host) }
        if hasBody, !hasLength { try writer.field("transfer-encoding", "chunked") }
        writer.end()
        return try parsed(with: &requests)
    }

    /// The answer's head. `hasBody`: DATA follows; else `addsLength` says that it has none, for HTTP/1's sake.
    mutating func response(
        _ headers: HPACKHeaders, hasBody: Bool, addsLength: Bool
    ) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        writer.reset()
        var status: UInt16?
        var hasLength = false
        var isStarted = false
        for (name, value, _) in headers {
            if name.utf8.first == UInt8(ascii: ":") {
                if name == ":status", value.utf8.count == 3 { status = UInt16(value) }
                continue
            }
            if !isStarted {
                guard let status else { throw WireViolation(502, .badStatusLine) }
                writer.statusLine(status, reason: reasonPhrase(status))
                isStarted = true
            }
            switch name {
            case "content-length": hasLength = true
            case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade": continue
            default: break
            }
            try writer.field(name, value)
        }
        guard let status, status >= 100, status != 101 else { throw WireViolation(502, .badStatusLine) }
        if !isStarted { writer.statusLine(status, reason: reasonPhrase(status)) }
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
        for (name, value, _) in headers where isTrailer(name) { try writer.field(name, value) }
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

    /// nil: these bytes are no head, which no head that was parsed once can be.
    mutating func request(_ bytes: ByteBuffer) -> (HPACKHeaders, hasBody: Bool)? {
        requests.reset()
        guard (try? requests.parse(bytes)) == true else { return nil }
        let head = requests.head
        var headers = HPACKHeaders()
        headers.reserveCapacity(head.headers.count + 4)
        headers.add(name: ":method", value: bytes.text(head.methodText))
        headers.add(name: ":scheme", value: "http")
        headers.add(name: ":path", value: bytes.text(head.target))
        headers.add(name: ":authority", value: bytes.text(head.authority))
        append(head, bytes, to: &headers)
        return (headers, head.requestBody != .none)
    }

    mutating func response(_ bytes: ByteBuffer) -> (HPACKHeaders, status: UInt16)? {
        responses.reset()
        guard (try? responses.parse(bytes)) == true else { return nil }
        let head = responses.head
        var headers = HPACKHeaders()
        headers.reserveCapacity(head.headers.count + 1)
        headers.add(name: ":status", value: "\(head.status)")
        append(head, bytes, to: &headers)
        return (headers, head.status)
    }

    mutating func trailers(_ bytes: ByteBuffer) -> HPACKHeaders {
        var headers = HPACKHeaders()
        for line in bytes.getString(at: bytes.readerIndex, length: bytes.readableBytes)?.split(separator: "\r\n") ?? []
        {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let name = line[..<colon].lowercased()
            if isTrailer(name) { headers.add(name: name, value: String(line[line.index(after: colon)...].trimmed)) }
        }
        return headers
    }

    private func append(_ head: MessageHead, _ bytes: ByteBuffer, to headers: inout HPACKHeaders) {
        for line in head.headers {
            switch line.known {
            case .host, .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade, .expect: continue
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

/// What frames or addresses a message is too late after it.
private func isTrailer(_ name: String) -> Bool {
    ![
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "upgrade", "te",
        "trailer", "expect",
    ].contains(name)
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
