/// Heads of HTTP/2 in the form that everything between the two sides of the proxy sees, and back: routes, edits and
/// checks exist once. What RFC 9113 asks of a message is `HTTP2Machine`'s to check, in both directions.
import HTTP2Wire
import HTTPWire
import NIOCore

struct HTTP2Heads {
    private var writer = HeadWriter()
    /// Of answers, which nobody keeps.
    private var answer = ByteBuffer()
    /// Of the proxy's own answers.
    private var parser = HeadParser(.response)
    /// What is sent next.
    private(set) var list = FieldList()

    // MARK: From HTTP/2

    /// `hasBody`: DATA follows. Who asks for a WebSocket by extended CONNECT (RFC 8441, 5) has the head of the GET that
    /// asks for one over HTTP/1: one form of it is routed.
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
                let isSecret = { (index: Int?) in index.map { list.fields[$0].isSecret } ?? false }
                let isTunnel = facts.protocol != nil
                try writer.begin(
                    method: isTunnel ? UnsafeRawBufferPointer("GET") : method, target: target,
                    isSecret: isSecret(facts.method) || isSecret(facts.path))
                if let name = value(facts.protocol) { try upgrade(to: name) }
                var (host, hostIsSecret) = (value(facts.authority), isSecret(facts.authority))
                for field in list.fields[facts.fieldsStart...] {
                    if field.name != .host {
                        try write(field, bytes)
                    } else if host == nil {
                        (host, hostIsSecret) = (
                            UnsafeRawBufferPointer(rebasing: bytes[field.valueRange]), field.isSecret
                        )
                    }
                }
                if let host { try writer.field(.host, host, isSecret: hostIsSecret) }
                if hasBody, !isTunnel, facts.contentLength == nil { try writer.field(.transferEncoding, "chunked") }
            }
        }.get()
        let head = try writer.end(.request)
        return (head, ByteBuffer(bytes: writer.bytes))
    }

    private mutating func upgrade(to name: UnsafeRawBufferPointer) throws(WireViolation) {
        // RFC 9220, 3, for all others.
        guard WebSocketHandshake.isName(name) else { throw WireViolation(501, .unsupportedProtocol) }
        try writer.field(.connection, "upgrade")
        try writer.field(.upgrade, "websocket")
    }

    /// The answer to extended CONNECT that opens the tunnel, as HTTP/1 says it.
    mutating func switching(
        _ list: FieldList, _ facts: HeadFacts
    ) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        writer.begin(status: 101, reason: reasonPhrase(101))
        try writer.field(.connection, "upgrade")
        try writer.field(.upgrade, "websocket")
        try list.store.withBytes { bytes in
            Result { () throws(WireViolation) in
                for field in list.fields[facts.fieldsStart...] where field.name != .contentLength {
                    try write(field, bytes)
                }
            }
        }.get()
        return try answerHead()
    }

    /// The answer's head. `hasBody`: DATA follows; else `addsLength` says that it has none, for HTTP/1's sake.
    mutating func response(
        _ list: FieldList, _ facts: HeadFacts, hasBody: Bool, addsLength: Bool
    ) throws(WireViolation) -> (MessageHead, ByteBuffer) {
        let status = facts.status
        // `:status` comes first, or the answer was refused.
        writer.begin(status: status, reason: reasonPhrase(status), isSecret: list.fields.first?.isSecret ?? false)
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
        return try answerHead()
    }
    private mutating func answerHead() throws(WireViolation) -> (MessageHead, ByteBuffer) {
        let head = try writer.end(.response)
        answer.clear()
        answer.writeBytes(writer.bytes)
        return (head, answer)
    }

    private mutating func write(_ field: Field, _ bytes: UnsafeRawBufferPointer) throws(WireViolation) {
        try writer.field(
            field.name.header, UnsafeRawBufferPointer(rebasing: bytes[field.nameRange]),
            UnsafeRawBufferPointer(rebasing: bytes[field.valueRange]), isSecret: field.isSecret)
    }

    /// Fields after a body, each line with its CRLF, and the empty line. Behind the colon of one that no table may take
    /// in stands a tab, which for HTTP/1 is as good as a blank.
    static func trailers(_ list: FieldList) -> ByteBuffer {
        var lines = ByteBufferAllocator().buffer(capacity: list.store.count + 4 * list.fields.count + 2)
        list.store.withBytes { bytes in
            for field in list.fields {
                switch field.name {
                // Too late for what they are about; the exchange drops what else may not stand here.
                case .host, .contentLength, .te: continue
                default: break
                }
                lines.writeBytes(bytes[field.nameRange])
                lines.writeStaticString(field.isSecret ? ":\t" : ": ")
                lines.writeBytes(bytes[field.valueRange])
                lines.writeStaticString("\r\n")
            }
        }
        lines.writeStaticString("\r\n")
        return lines
    }

    // MARK: To HTTP/2; what is sent at once into `list`

    /// A list of its own, for it is kept for another try. `isWebSocket`: by extended CONNECT.
    func request(
        _ head: MessageHead, _ bytes: ByteBuffer, _ edit: HeadEdit, scheme: StaticString, isWebSocket: Bool = false
    ) -> FieldList {
        var list = FieldList()
        list.reserve(bytes: bytes.readableBytes + 256, fields: head.headers.count + 8)
        bytes.withUnsafeReadableBytes { raw in
            let marks = FieldMarks(isSecret: head.startLineIsSecret)
            if isWebSocket {
                list.append(.method, UnsafeRawBufferPointer("CONNECT"))
                list.append(.protocol, UnsafeRawBufferPointer("websocket"))
            } else {
                list.append(.method, UnsafeRawBufferPointer(rebasing: raw[head.methodText.range]), marks: marks)
            }
            list.append(.scheme, UnsafeRawBufferPointer(start: scheme.utf8Start, count: scheme.utf8CodeUnitCount))
            edit.withTarget(head, raw) { list.append(.path, $0, marks: marks) }
            edit.withHost(head, raw) { list.append(.authority, $0, marks: FieldMarks(isSecret: $1)) }
            list.append(head, raw, edit)
        }
        return list
    }

    mutating func setResponse(_ head: MessageHead, _ bytes: ByteBuffer, _ edit: HeadEdit) {
        list.removeAll()
        bytes.withUnsafeReadableBytes { raw in
            // Behind `HTTP/1.1 `. What switches protocols there has succeeded here (RFC 8441, 5).
            let status = UnsafeRawBufferPointer(rebasing: raw[head.start + 9..<head.start + 12])
            list.append(
                .status, head.status == 101 ? UnsafeRawBufferPointer("200") : status,
                marks: FieldMarks(isSecret: head.startLineIsSecret))
            list.append(head, raw, edit)
        }
    }

    /// An answer of the proxy's own.
    mutating func setResponse(_ text: ByteBuffer) throws(WireViolation) {
        parser.reset()
        guard try parser.parse(text) else { throw WireViolation(502, .headTooLong) }
        setResponse(parser.head, text, HeadEdit())
    }

    /// What opens a tunnel (RFC 9110, 9.3.6): it has no length.
    mutating func setTunnelAnswer() {
        list.removeAll()
        list.append(.status, "200")
    }

    /// An answer without a body.
    mutating func setAnswer(_ status: UInt16) {
        list.removeAll()
        list.append(.status, "\(status)")
        list.append(.contentLength, "0")
    }

    /// Lines with their CRLFs.
    mutating func setTrailers(_ lines: ByteBuffer) {
        list.removeAll()
        lines.withUnsafeReadableBytes { raw in
            var start = 0
            while let end = raw[start...].firstIndex(of: 0x0a) {
                let line = raw[start..<end]
                start = end + 1
                guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
                let isSecret = raw[colon + 1] == UInt8(ascii: "\t")
                var (first, last) = (colon + 1, end)
                while first < last, isBlank(raw[first]) { first += 1 }
                while last > first, isBlank(raw[last - 1]) { last -= 1 }
                list.append(
                    lowercasing: UnsafeRawBufferPointer(rebasing: raw[line.startIndex..<colon]),
                    UnsafeRawBufferPointer(rebasing: raw[first..<last]), marks: FieldMarks(isSecret: isSecret))
            }
        }
    }
    private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0d }
}

extension FieldList {
    fileprivate mutating func append(_ head: MessageHead, _ raw: UnsafeRawBufferPointer, _ edit: HeadEdit) {
        edit.forEachField(head, raw) { field in
            switch field.known {
            // Said in other ways, or of the connection.
            case .host, .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade: break
            default:
                let marks = FieldMarks(isSecret: field.isSecret)
                let name = field.known.fieldName
                if name == .other {
                    append(lowercasing: field.name, field.value, marks: marks)
                } else {
                    append(name, field.value, marks: marks)
                }
            }
        }
    }
}

/// By the raw value of a `HeaderName`.
private let fieldNames: [FieldName] = {
    var names = [FieldName](repeating: .other, count: HeaderName.allCases.count)
    for name in FieldName.allCases { names[Int(name.header.rawValue)] = name }
    names[Int(HeaderName.other.rawValue)] = .other
    return names
}()

extension HeaderName {
    /// What HTTP/2 calls it.
    fileprivate var fieldName: FieldName { fieldNames[Int(rawValue)] }
}

extension Field { fileprivate var isSecret: Bool { marks.contains(.neverIndexed) } }
extension FieldMarks {
    // Not `[]`, which is made by code that knows no types, at the cost of the rest of it.
    fileprivate init(isSecret: Bool) { self = isSecret ? .neverIndexed : Self(rawValue: 0) }
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
