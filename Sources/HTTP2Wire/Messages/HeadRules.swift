/// What RFC 9113, 8.1 to 8.5, and RFC 8441 ask of the fields of a message. Who breaks it has sent a malformed message:
/// a stream error (8.1.1). The bytes of names and values were looked at when they were decoded.
import HTTPWire

/// What a head says of its message: places in the list of fields, and what follows from them.
package struct HeadFacts: Sendable, BitwiseCopyable {
    /// Index of the first field that is no pseudo-field.
    package fileprivate(set) var fieldsStart = 0
    fileprivate var places: (method: Int8, scheme: Int8, path: Int8, authority: Int8, protocol: Int8, status: Int8) =
        (-1, -1, -1, -1, -1, -1)
    /// Of a response.
    package fileprivate(set) var status: UInt16 = 0
    package fileprivate(set) var isHEAD = false
    package fileprivate(set) var isCONNECT = false
    package fileprivate(set) var contentLength: UInt64?

    package var method: Int? { places.method >= 0 ? Int(places.method) : nil }
    package var scheme: Int? { places.scheme >= 0 ? Int(places.scheme) : nil }
    package var path: Int? { places.path >= 0 ? Int(places.path) : nil }
    package var authority: Int? { places.authority >= 0 ? Int(places.authority) : nil }
    /// Of extended CONNECT (RFC 8441, 4).
    package var `protocol`: Int? { places.protocol >= 0 ? Int(places.protocol) : nil }

    package var isInterim: Bool { status >= 100 && status < 200 }
}

enum HeadRules {
    static func request(
        _ list: FieldList, allowsProtocol: Bool = true
    ) throws(Malformed) -> HeadFacts {
        var facts = HeadFacts()
        for (index, field) in list.fields.enumerated() {
            if field.name.isPseudo, !field.marks.contains(.badName) {
                guard index == facts.fieldsStart, facts.take(field, Int8(truncatingIfNeeded: index)) else {
                    throw Malformed(.badPseudoField)
                }
                facts.fieldsStart += 1
                if field.marks.contains(.badValue) { throw Malformed(.badFieldValue) }
            } else {
                try check(field, list, &facts)
            }
        }
        try list.store.withBytes { bytes in
            Result { () throws(Malformed) in try checkTarget(&facts, list, bytes, allowsProtocol) }
        }.get()
        return facts
    }

    static func response(_ list: FieldList) throws(Malformed) -> HeadFacts {
        var facts = HeadFacts()
        guard let first = list.fields.first, first.name == .status else { throw Malformed(.badStatus) }
        facts.fieldsStart = 1
        facts.places.status = 0
        // Three digits; 101 does not exist here (RFC 9113, 8.6).
        facts.status = list.withValue(first) { value in
            value.count == 3 && value.allSatisfy { $0 &- 0x30 < 10 }
                ? value.reduce(0) { $0 * 10 + UInt16($1 - 0x30) } : 0
        }
        guard facts.status >= 100, facts.status != 101 else { throw Malformed(.badStatus) }
        for field in list.fields.dropFirst() {
            if field.name.isPseudo { throw Malformed(.badPseudoField) }
            try check(field, list, &facts)
        }
        return facts
    }

    static func trailers(_ list: FieldList) throws(Malformed) {
        var facts = HeadFacts()
        for field in list.fields {
            if field.name.isPseudo { throw Malformed(.badPseudoField) }
            try check(field, list, &facts)
        }
    }

    /// A field that is no pseudo-field.
    @inline(__always) private static func check(
        _ field: Field, _ list: FieldList, _ facts: inout HeadFacts
    ) throws(Malformed) {
        if field.marks.contains(.badName) { throw Malformed(.badFieldName) }
        if field.marks.contains(.badValue) { throw Malformed(.badFieldValue) }
        switch field.name {
        // RFC 9113, 8.2.2: the connection is none of a message's business.
        case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade: throw Malformed(.connectionField)
        case .te:
            let isTrailers = list.withValue(field) { value in isEqualIgnoringCase(value, "trailers") }
            guard isTrailers else { throw Malformed(.connectionField) }
        case .contentLength:
            guard let length = list.withValue(field, { number($0) }) else { throw Malformed(.badContentLength) }
            // Once: RFC 9110, 8.6, lets us refuse what the next one may read otherwise, also as HTTP/1 is read here.
            guard facts.contentLength == nil else { throw Malformed(.badContentLength) }
            facts.contentLength = length
        default: break
        }
    }

    private static func checkTarget(
        _ facts: inout HeadFacts, _ list: FieldList, _ bytes: UnsafeRawBufferPointer, _ allowsProtocol: Bool
    ) throws(Malformed) {
        let value = { (index: Int) in UnsafeRawBufferPointer(rebasing: bytes[list.fields[index].valueRange]) }
        guard let method = facts.method.map(value), !method.isEmpty, method.allSatisfy(FieldGrammar.isToken) else {
            throw Malformed(.badMethod)
        }
        facts.isHEAD = isEqual(method, "HEAD")
        facts.isCONNECT = isEqual(method, "CONNECT")
        if facts.protocol != nil {
            // RFC 8441, 4: only with CONNECT, and only if we have said that we know it.
            guard facts.isCONNECT else { throw Malformed(.badPseudoField) }
            guard allowsProtocol else { throw Malformed(.extendedConnectNotOffered) }
            guard let name = facts.protocol.map(value), !name.isEmpty, name.allSatisfy(FieldGrammar.isToken),
                facts.authority != nil
            else { throw Malformed(.badPseudoField) }
        }
        // What goes through a tunnel is no content (RFC 9110, 9.3.6): an HTTP/1 server would take the first bytes of
        // the tunnel for a body, and the rest for requests.
        if facts.isCONNECT, facts.contentLength ?? 0 > 0 { throw Malformed(.badContentLength) }
        let isTunnel = facts.isCONNECT && facts.protocol == nil
        let scheme = facts.scheme.map(value)
        let path = facts.path.map(value)
        // RFC 9113, 8.5: CONNECT has an authority in place of scheme and path.
        if isTunnel {
            guard scheme == nil, path == nil else { throw Malformed(.badPseudoField) }
        } else {
            guard let scheme, isScheme(scheme) else { throw Malformed(.badScheme) }
            let isOptions = isEqual(method, "OPTIONS")
            guard let path, isPath(path, isOptions: isOptions) else { throw Malformed(.badPath) }
        }
        try checkAuthority(
            facts, list, value, isTunnel: isTunnel, isSecure: scheme.map { isEqual($0, "https") } ?? false)
    }

    private static func checkAuthority(
        _ facts: HeadFacts, _ list: FieldList, _ value: (Int) -> UnsafeRawBufferPointer, isTunnel: Bool, isSecure: Bool
    ) throws(Malformed) {
        let authority = facts.authority.map(value)
        if isTunnel, authority == nil { throw Malformed(.badAuthority) }
        // RFC 9113, 8.3.1: without user information, and not empty.
        if let authority, !isAuthority(authority) { throw Malformed(.badAuthority) }
        var host: UnsafeRawBufferPointer?
        for index in facts.fieldsStart..<list.fields.count where list.fields[index].name == .host {
            guard host == nil else { throw Malformed(.badAuthority) }
            host = value(index)
        }
        guard let host else { return }
        guard isAuthority(host) else { throw Malformed(.badAuthority) }
        // Two answers to the question whom the request is for (RFC 9113, 8.3.1).
        if let authority, !host.elementsEqual(authority), !isSameAuthority(host, authority, isSecure: isSecure) {
            throw Malformed(.badAuthority)
        }
    }

    private static func isScheme(_ scheme: UnsafeRawBufferPointer) -> Bool {
        guard let first = scheme.first, (first | 0x20) &- 0x61 < 26 else { return false }
        return scheme.allSatisfy { byte in
            (byte | 0x20) &- 0x61 < 26 || byte &- 0x30 < 10 || byte == 0x2b || byte == 0x2d || byte == 0x2e
        }
    }

    /// What HTTP/1 could say in its first line: visible, without a fragment.
    private static func isPath(_ path: UnsafeRawBufferPointer, isOptions: Bool) -> Bool {
        guard path.first == UInt8(ascii: "/") else { return isOptions && isEqual(path, "*") }
        return path.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "#") }
    }

    /// A host and perhaps a port: unreserved, sub-delims, `%` and `:[]`.
    private static func isAuthority(_ text: UnsafeRawBufferPointer) -> Bool {
        !text.isEmpty
            && text.allSatisfy { byte in
                let word: UInt64 = byte < 64 ? 0x2fff_7ff2_0000_0000 : 0x47ff_fffe_afff_fffe
                return byte < 128 && word >> UInt64(byte & 63) & 1 != 0
            }
    }

    private static func number(_ text: UnsafeRawBufferPointer) -> UInt64? {
        // Eighteen digits cannot overflow.
        guard (1...18).contains(text.count), text.allSatisfy({ $0 &- 0x30 < 10 }) else { return nil }
        return text.reduce(0) { $0 * 10 + UInt64($1 - 0x30) }
    }

    private static func isEqualIgnoringCase(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
        guard bytes.count == text.utf8CodeUnitCount else { return false }
        for index in 0..<bytes.count where (bytes[index] | 0x20) != text.utf8Start[index] { return false }
        return true
    }
}

/// A message that breaks a rule; the machine knows of which stream.
struct Malformed: Error, Hashable {
    let kind: HTTP2FaultKind
    init(_ kind: HTTP2FaultKind) { self.kind = kind }
}

extension HeadFacts {
    /// False: it was there before, or has no place in a request.
    fileprivate mutating func take(_ field: Field, _ index: Int8) -> Bool {
        switch field.name {
        case .method: return Self.set(&places.method, index)
        case .scheme: return Self.set(&places.scheme, index)
        case .path: return Self.set(&places.path, index)
        case .authority: return Self.set(&places.authority, index)
        case .protocol: return Self.set(&places.protocol, index)
        default: return false
        }
    }
    private static func set(_ place: inout Int8, _ index: Int8) -> Bool {
        defer { place = index }
        return place < 0
    }
}
