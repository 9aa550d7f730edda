/// `istio.v1.auth.IstioCertificateRequest` as it is on the wire (l7-behaviour §3.7), in Protocol Buffers. A field that
/// others would read in two ways (given twice, of another type) is refused.

package struct CertificateRequest: Equatable, Sendable {
    /// In PEM, as the peer sent it.
    package var csr = ""
    /// In seconds; 0: whatever the authority gives.
    package var validity = 0
    /// The identity that the proxy of a node asks for.
    package var impersonated: String?
    /// Names in the metadata that mean nothing here.
    package var otherMetadata: [String] = []

    package static let maximumBytes = 64 * 1024

    package init(_ bytes: Span<UInt8>) throws(Refusal) {
        guard bytes.count <= Self.maximumBytes else {
            throw Refusal(.badRequest, "the request has \(bytes.count) bytes, more than \(Self.maximumBytes)")
        }
        var fields = Fields(bytes, 0..<bytes.count)
        var seen: Set<Int> = []
        while let field = try fields.next() {
            guard (1...3).contains(field.number) else { continue }
            guard seen.insert(field.number).inserted else { throw twice("field \(field.number)") }
            switch (field.number, field.value) {
            case (1, .bytes(let range)): csr = try text(bytes, range, of: "csr")
            case (2, .number(let value)):
                guard let seconds = Int(exactly: value) else {
                    throw Refusal(.badRequest, "validity_duration is negative")
                }
                validity = seconds
            case (3, .bytes(let range)): try readMetadata(bytes, range)
            default: throw Refusal(.badRequest, "field \(field.number) of the request is not of its type")
            }
        }
        guard !csr.isEmpty else { throw Refusal(.badRequest, "the request has no csr") }
    }

    /// `google.protobuf.Struct`: a map, that is, entries of a key and a value.
    private mutating func readMetadata(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(Refusal) {
        var entries = Fields(bytes, range)
        var names: Set<String> = []
        while let entry = try entries.next() {
            guard entry.number == 1, case .bytes(let range) = entry.value else { continue }
            let (name, value) = try readEntry(bytes, range)
            guard names.insert(name).inserted else { throw twice("metadata \(shown(name))") }
            guard name == "ImpersonatedIdentity" else {
                otherMetadata.append(name)
                continue
            }
            guard let value else { throw Refusal(.badRequest, "metadata ImpersonatedIdentity is no text") }
            impersonated = value
        }
    }

    /// The value is nil if it is no text.
    private func readEntry(
        _ bytes: Span<UInt8>, _ range: Range<Int>
    ) throws(Refusal) -> (name: String, value: String?) {
        var fields = Fields(bytes, range)
        var name: String?
        var inner: Range<Int>?
        while let field = try fields.next() {
            guard case .bytes(let range) = field.value else { continue }
            if field.number == 1 {
                guard name == nil else { throw twice("a name in the metadata") }
                name = try text(bytes, range, of: "metadata")
            } else if field.number == 2 {
                guard inner == nil else { throw twice("a value in the metadata") }
                inner = range
            }
        }
        var value: String?
        guard let inner else { return (name ?? "", nil) }
        var kinds = Fields(bytes, inner)
        var isAlone = true
        while let kind = try kinds.next() {
            guard isAlone else { throw twice("a value in the metadata") }
            isAlone = false
            if kind.number == 3, case .bytes(let range) = kind.value { value = try text(bytes, range, of: "metadata") }
        }
        return (name ?? "", value)
    }
}

private func twice(_ what: String) -> Refusal { Refusal(.badRequest, "\(what) is given twice") }

private func text(_ bytes: Span<UInt8>, _ range: Range<Int>, of field: String) throws(Refusal) -> String {
    guard let text = String(validating: range.map { bytes[$0] }, as: UTF8.self) else {
        throw Refusal(.badRequest, "\(field) is not in UTF-8")
    }
    return text
}

/// The fields of one message, one after the other.
struct Fields: ~Escapable {
    enum Value {
        case number(UInt64)
        /// Where they are.
        case bytes(Range<Int>)
        /// Of a width that no field here has.
        case fixed
    }

    private let bytes: Span<UInt8>
    private var rest: Range<Int>

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>, _ range: Range<Int>) { (self.bytes, self.rest) = (bytes, range) }

    mutating func next() throws(Refusal) -> (number: Int, value: Value)? {
        guard !rest.isEmpty else { return nil }
        let key = try varint()
        // 29 bits of number, 3 of type.
        guard (1..<1 << 29).contains(key >> 3) else { throw malformed }
        let number = Int(key >> 3)
        switch key & 7 {
        case 0: return (number, .number(try varint()))
        case 1: _ = try take(8)
        case 2: return (number, .bytes(try take(try varint())))
        case 5: _ = try take(4)
        default: throw malformed
        }
        return (number, .fixed)
    }

    private mutating func take(_ count: UInt64) throws(Refusal) -> Range<Int> {
        guard count <= UInt64(rest.count) else { throw malformed }
        let range = rest.lowerBound..<rest.lowerBound + Int(count)
        rest = range.upperBound..<rest.upperBound
        return range
    }

    private mutating func varint() throws(Refusal) -> UInt64 {
        var result: UInt64 = 0
        for shift in stride(from: 0, to: 64, by: 7) {
            let byte = bytes[try take(1).lowerBound]
            // The tenth byte has room for one bit.
            guard shift < 63 || byte <= 1 else { throw malformed }
            result |= UInt64(byte & 0x7f) << UInt64(shift)
            if byte < 0x80 { return result }
        }
        throw malformed
    }

    private var malformed: Refusal { Refusal(.badRequest, "the request is no Protocol Buffers message") }
}
