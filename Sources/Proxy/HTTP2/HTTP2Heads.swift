/// Heads of HTTP/2 in the form that everything between the two sides of the proxy sees, and back: routes, edits and
/// checks exist once. What RFC 9113 asks of a message is `HTTP2Machine`'s to check, in both directions.
import HTTP2Wire
import HTTPWire
import NIOCore

struct HTTP2Heads {
    private var writer = HeadWriter()
    // Limited where they came from, and edits only add to them.
    private var requests = HeadParser(.request, limits: .unlimited)
    private var responses = HeadParser(.response, limits: .unlimited)
    /// What is sent next.
    private(set) var list = FieldList()

    // MARK: From HTTP/2

    /// `hasBody`: DATA follows.
    mutating func request(
        _ list: FieldList, _ facts: HeadFacts, hasBody: Bool
    ) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        try list.store.withBytes { bytes in
            Result { () throws(WireViolation) in
                let value = { (index: Int?) in
                    index.map { UnsafeRawBufferPointer(rebasing: bytes[list.fields[$0].valueRange]) }
                }
                // CONNECT has an authority in place of a path.
                guard let method = value(facts.method), let target = value(facts.path) ?? value(facts.authority) else {
                    throw WireViolation(400, .badTarget)
                }
                try writer.begin(method: method, target: target)
                var host = value(facts.authority)
                for field in list.fields[facts.fieldsStart...] {
                    if field.name != .host {
                        try write(field, bytes)
                    } else if host == nil {
                        host = UnsafeRawBufferPointer(rebasing: bytes[field.valueRange])
                    }
                }
                if let host { try writer.field(.host, host) }
                if hasBody, facts.contentLength == nil { try writer.field(.transferEncoding, "chunked") }
            }
        }.get()
        let head = try writer.end(.request)
        return (head, ByteBuffer(bytes: writer.bytes))
    }

    /// The answer's head. `hasBody`: DATA follows; else `addsLength` says that it has none, for HTTP/1's sake.
    mutating func response(
        _ list: FieldList, _ facts: HeadFacts, hasBody: Bool, addsLength: Bool
    ) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        let status = facts.status
        writer.begin(status: status, reason: reasonPhrase(status))
        try list.store.withBytes { bytes in
            Result { () throws(WireViolation) in
                for field in list.fields[facts.fieldsStart...] { try write(field, bytes) }
                guard facts.contentLength == nil, !facts.isInterim else { return }
                if hasBody {
                    try writer.field(.transferEncoding, "chunked")
                } else if addsLength, status != 204, status != 304 {
                    try writer.field(.contentLength, "0")
                }
            }
        }.get()
        let head = try writer.end(.response)
        return (head, ByteBuffer(bytes: writer.bytes))
    }

    private mutating func write(_ field: Field, _ bytes: UnsafeRawBufferPointer) throws(WireViolation) {
        try writer.field(
            field.name.header, UnsafeRawBufferPointer(rebasing: bytes[field.nameRange]),
            UnsafeRawBufferPointer(rebasing: bytes[field.valueRange]))
    }

    /// Fields after a body, each line with its CRLF, and the empty line.
    func trailers(_ list: FieldList) -> ByteBuffer {
        var lines = ByteBufferAllocator().buffer(capacity: list.store.count + 4 * list.fields.count + 2)
        list.store.withBytes { bytes in
            for field in list.fields {
                switch field.name {
                // Too late for what they are about; the exchange drops what else may not stand here.
                case .host, .contentLength, .te: continue
                default: break
                }
                lines.writeBytes(bytes[field.nameRange])
                lines.writeStaticString(": ")
                lines.writeBytes(bytes[field.valueRange])
                lines.writeStaticString("\r\n")
            }
        }
        lines.writeStaticString("\r\n")
        return lines
    }

    // MARK: To HTTP/2, into `list`

    /// An edited head.
    mutating func setRequest(_ bytes: ByteBuffer, scheme: String) throws(WireViolation) {
        requests.reset()
        guard try requests.parse(bytes) else { throw WireViolation(431, .headTooLong) }
        let head = requests.head
        list.removeAll()
        bytes.withUnsafeReadableBytes { raw in
            list.append(.method, UnsafeRawBufferPointer(rebasing: raw[head.methodText.range]))
            list.append(.scheme, scheme)
            list.append(.path, UnsafeRawBufferPointer(rebasing: raw[head.target.range]))
            list.append(.authority, UnsafeRawBufferPointer(rebasing: raw[head.authority.range]))
            append(head, raw)
        }
    }

    mutating func setResponse(_ bytes: ByteBuffer) throws(WireViolation) {
        responses.reset()
        guard try responses.parse(bytes) else { throw WireViolation(502, .headTooLong) }
        let head = responses.head
        list.removeAll()
        bytes.withUnsafeReadableBytes { raw in
            let status = head.startLineEnd >= 12 ? raw[head.start + 9..<head.start + 12] : raw[..<0]
            list.append(.status, UnsafeRawBufferPointer(rebasing: status))
            append(head, raw)
        }
    }

    /// An answer without a body.
    mutating func setAnswer(_ status: UInt16) {
        list.removeAll()
        list.append(.status, "\(status)")
        list.append(.contentLength, "0")
    }

    mutating func setTrailers(_ bytes: ByteBuffer) {
        list.removeAll()
        bytes.withUnsafeReadableBytes { raw in
            for line in raw.split(separator: 0x0a) {
                guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
                var value = line[(colon + 1)...]
                while let byte = value.last, byte == 0x0d || byte == 0x20 || byte == 0x09 { value.removeLast() }
                value = value.drop { $0 == 0x20 || $0 == 0x09 }
                list.append(
                    lowercasing: UnsafeRawBufferPointer(rebasing: line[..<colon]),
                    UnsafeRawBufferPointer(rebasing: value))
            }
        }
    }

    private mutating func append(_ head: MessageHead, _ raw: UnsafeRawBufferPointer) {
        for line in head.headers {
            switch line.known {
            case .host, .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade: continue
            default: break
            }
            list.append(
                lowercasing: UnsafeRawBufferPointer(rebasing: raw[line.name.range]),
                UnsafeRawBufferPointer(rebasing: raw[line.value.range]))
        }
    }
}

extension FieldName {
    /// What the engine calls it.
    var header: HeaderName {
        switch self {
        case .host: .host
        case .contentLength: .contentLength
        case .te: .te
        case .trailer: .trailer
        case .expect: .expect
        case .xForwardedFor: .xForwardedFor
        case .xForwardedProto: .xForwardedProto
        case .xRequestID: .xRequestID
        case .traceparent: .traceparent
        case .tracestate: .tracestate
        case .b3: .b3
        case .b3TraceID: .b3TraceID
        case .b3SpanID: .b3SpanID
        case .b3ParentSpanID: .b3ParentSpanID
        case .b3Sampled: .b3Sampled
        case .b3Flags: .b3Flags
        case .origin: .origin
        case .cookie: .cookie
        case .userAgent: .userAgent
        case .contentType: .contentType
        case .grpcStatus: .grpcStatus
        case .grpcTimeout: .grpcTimeout
        case .accessControlRequestMethod: .accessControlRequestMethod
        case .accessControlRequestHeaders: .accessControlRequestHeaders
        // Of a connection: no message of HTTP/2 has them.
        case .transferEncoding: .transferEncoding
        case .connection: .connection
        case .keepAlive: .keepAlive
        case .proxyConnection: .proxyConnection
        case .upgrade: .upgrade
        default: .other
        }
    }
}

extension HeadParser.Limits {
    fileprivate static var unlimited: Self {
        var limits = Self()
        limits.startLine = .max
        limits.head = .max
        limits.headers = .max
        return limits
    }
}
