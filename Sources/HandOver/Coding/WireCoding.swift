/// The binary form of what agent and proxy tell each other, and of the proxy's last config on disk. Own and binary: a
/// snapshot of ten thousand routes is read in milliseconds at the start of a proxy.
///
/// A value is some bytes; whoever contains it writes their number before them. So a reader can pass over what it does
/// not know: a record is a list of fields, each its number, its length and its value, in ascending order. A release
/// may add fields (with new numbers) and cases without becoming another format; a missing field has its default.

package struct WireError: Error, Hashable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}

protocol WireCoded {
    func write(to writer: inout WireWriter)
    /// Reads all bytes up to the reader's limit.
    init(from reader: inout WireReader) throws(WireError)
}

/// A value made of numbered fields. One list of them says how it is written and how it is read.
protocol WireRecord: WireCoded {
    /// With the defaults of all fields.
    init(blank: ())
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError)
}

/// Called for each field of a record in ascending order of their numbers, which are for ever.
protocol FieldCoder: ~Escapable {
    mutating func field<Value: WireCoded>(_ number: UInt64, _ value: inout Value) throws(WireError)
    /// nil: there is no such field.
    mutating func field<Value: WireCoded>(_ number: UInt64, _ value: inout Value?) throws(WireError)
}

extension WireRecord {
    func write(to writer: inout WireWriter) {
        var copy = self
        // Writing reads nothing that could be wrong.
        do throws(WireError) { try copy.code(&writer) } catch { preconditionFailure("\(error)") }
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(blank: ())
        let outer = reader.beginRecord()
        try code(&reader)
        try reader.endRecord(outer, of: Self.self)
    }
}

/// An enum without payload, as one byte.
protocol WireTag: WireCoded, RawRepresentable<UInt8> {
    static var wireName: String { get }
}
extension WireTag {
    func write(to writer: inout WireWriter) { writer.tag(rawValue) }
    init(from reader: inout WireReader) throws(WireError) {
        let tag = try reader.byte()
        guard let value = Self(rawValue: tag) else { throw reader.unknownTag(tag, Self.wireName) }
        self = value
    }
}

struct WireWriter: FieldCoder {
    private(set) var bytes: [UInt8] = []

    mutating func number(_ value: UInt64) {
        // Seven bits a byte, the lowest first.
        var rest = value
        while rest > 0x7f {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
    mutating func raw(_ more: some Sequence<UInt8>) { bytes += more }
    mutating func put(_ value: some WireCoded) { value.write(to: &self) }
    /// The case of an enum.
    mutating func tag(_ value: UInt8) { bytes.append(value) }

    mutating func field<Value: WireCoded>(_ number: UInt64, _ value: inout Value) throws(WireError) {
        self.number(number)
        delimited(value)
    }
    mutating func field<Value: WireCoded>(_ number: UInt64, _ value: inout Value?) throws(WireError) {
        guard let value else { return }
        self.number(number)
        delimited(value)
    }
    /// The value after the number of its bytes.
    mutating func delimited(_ value: some WireCoded) {
        let start = bytes.count
        bytes.append(0)
        value.write(to: &self)
        let length = bytes.count - start - 1
        if length <= 0x7f {
            bytes[start] = UInt8(length)
        } else {
            var prefix = WireWriter()
            prefix.number(UInt64(length))
            bytes.replaceSubrange(start...start, with: prefix.bytes)
        }
    }
}

struct WireReader: FieldCoder, ~Escapable {
    /// So many kinds of unknown fields are told.
    private static let ignoredShown = 16
    private let bytes: Span<UInt8>
    private(set) var offset = 0
    /// Where the value that is being read ends.
    private var limit: Int
    /// The head of a field that has been read, its value has not.
    private var next: (number: UInt64, length: Int)?
    /// Fields of this record that were passed over.
    private var skipped: [UInt64] = []
    /// `RouteRule field 9`: what a newer release said and this one does not know.
    private(set) var ignored: [String] = []

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) {
        self.bytes = bytes
        limit = bytes.count
    }

    var remaining: Int { limit - offset }

    mutating func byte() throws(WireError) -> UInt8 {
        guard offset < limit else { throw WireError("it ends too early, at byte \(offset)") }
        offset += 1
        return bytes[offset - 1]
    }
    mutating func number() throws(WireError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try byte()
            guard shift < 63 || byte <= 1 else { throw WireError("a number is too large, at byte \(offset)") }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
    }
    /// A length that the rest has.
    private mutating func length() throws(WireError) -> Int {
        let count = try number()
        guard count <= UInt64(remaining) else { throw WireError("a length is larger than the rest, at byte \(offset)") }
        return Int(count)
    }
    /// All that is left.
    mutating func rest() -> [UInt8] {
        let (start, count) = (offset, remaining)
        offset = limit
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            for index in 0..<count { buffer.initializeElement(at: index, to: bytes[start + index]) }
            filled = count
        }
    }
    /// A value that fills all that is left.
    mutating func take<Value: WireCoded>(_ type: Value.Type = Value.self) throws(WireError) -> Value {
        try Value(from: &self)
    }
    /// A value after the number of its bytes.
    mutating func delimited<Value: WireCoded>(_ type: Value.Type = Value.self) throws(WireError) -> Value {
        try value(of: try length())
    }
    private mutating func value<Value: WireCoded>(of length: Int) throws(WireError) -> Value {
        let outer = limit
        limit = offset + length
        let value = try Value(from: &self)
        guard offset == limit else { throw WireError("\(limit - offset) bytes are left over, at byte \(offset)") }
        limit = outer
        return value
    }
    func unknownTag(_ tag: UInt8, _ what: String) -> WireError {
        WireError("\(tag) is no \(what), at byte \(offset - 1)")
    }

    // MARK: Records

    /// Returns what `endRecord` wants back.
    mutating func beginRecord() -> [UInt64] {
        next = nil
        defer { skipped = [] }
        return skipped
    }
    mutating func endRecord(_ outer: [UInt64], of type: Any.Type) throws(WireError) {
        while try hasField(before: .max) { pass() }
        for number in skipped where ignored.count < Self.ignoredShown {
            let text = "\(type) field \(number)"
            if !ignored.contains(text) { ignored.append(text) }
        }
        (skipped, next) = (outer, nil)
    }
    mutating func field<Value: WireCoded>(_ number: UInt64, _ value: inout Value) throws(WireError) {
        if let length = try find(number) { value = try self.value(of: length) }
    }
    mutating func field<Value: WireCoded>(_ number: UInt64, _ value: inout Value?) throws(WireError) {
        value = nil
        if let length = try find(number) { value = try self.value(of: length) as Value }
    }

    /// The length of this field's value, which is next; nil: the record has no such field.
    private mutating func find(_ number: UInt64) throws(WireError) -> Int? {
        while try hasField(before: number) { pass() }
        guard let found = next, found.number == number else { return nil }
        next = nil
        return found.length
    }
    private mutating func hasField(before number: UInt64) throws(WireError) -> Bool {
        if next == nil, remaining > 0 { next = (try self.number(), try length()) }
        return next.map { $0.number < number } ?? false
    }
    private mutating func pass() {
        guard let unknown = next else { return }
        offset += unknown.length
        if skipped.count < Self.ignoredShown { skipped.append(unknown.number) }
        next = nil
    }
}

// MARK: Values of the language

extension UInt64: WireCoded {
    func write(to writer: inout WireWriter) { writer.number(self) }
    init(from reader: inout WireReader) throws(WireError) { self = try reader.number() }
}
extension UInt32: WireCoded {
    func write(to writer: inout WireWriter) { writer.number(UInt64(self)) }
    init(from reader: inout WireReader) throws(WireError) {
        guard let value = UInt32(exactly: try reader.number()) else { throw WireError("a number is too large") }
        self = value
    }
}
extension UInt16: WireCoded {
    func write(to writer: inout WireWriter) { writer.number(UInt64(self)) }
    init(from reader: inout WireReader) throws(WireError) {
        guard let value = UInt16(exactly: try reader.number()) else { throw WireError("a number is too large") }
        self = value
    }
}
extension Bool: WireCoded {
    func write(to writer: inout WireWriter) { writer.tag(self ? 1 : 0) }
    init(from reader: inout WireReader) throws(WireError) {
        let tag = try reader.byte()
        guard tag < 2 else { throw reader.unknownTag(tag, "truth value") }
        self = tag == 1
    }
}
extension String: WireCoded {
    func write(to writer: inout WireWriter) { writer.raw(utf8) }
    init(from reader: inout WireReader) throws(WireError) {
        guard let text = String(validating: reader.rest(), as: UTF8.self) else {
            throw WireError("a text is not UTF-8")
        }
        self = text
    }
}
/// In microseconds: nothing finer is configured.
extension Duration: WireCoded {
    func write(to writer: inout WireWriter) {
        let (seconds, attoseconds) = components
        writer.number(UInt64(clamping: seconds) &* 1_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000_000))
    }
    init(from reader: inout WireReader) throws(WireError) {
        guard let microseconds = Int64(exactly: try reader.number()) else { throw WireError("a duration is too long") }
        self = .microseconds(microseconds)
    }
}
extension Array: WireCoded where Element: WireCoded {
    func write(to writer: inout WireWriter) {
        for element in self { writer.delimited(element) }
    }
    init(from reader: inout WireReader) throws(WireError) {
        self = []
        while reader.remaining > 0 { append(try reader.delimited()) }
    }
}
