/// The binary form of what agent and proxy tell each other, and of the proxy's last config on disk. Own and binary: a
/// snapshot of ten thousand routes is read in milliseconds at the start of a proxy, every count is bounded by the bytes
/// that are left, and both ends are built from one source, so there is no schema to keep.

package struct WireError: Error, Hashable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}

protocol WireCoded {
    func write(to writer: inout WireWriter)
    init(from reader: inout WireReader) throws(WireError)
}

struct WireWriter {
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
}

struct WireReader: ~Escapable {
    private let bytes: Span<UInt8>
    private(set) var offset = 0

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) { self.bytes = bytes }

    var remaining: Int { bytes.count - offset }

    mutating func byte() throws(WireError) -> UInt8 {
        guard offset < bytes.count else { throw WireError("it ends too early, at byte \(offset)") }
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
    /// A count of things of at least one byte each.
    mutating func count() throws(WireError) -> Int {
        let count = try number()
        guard count <= UInt64(remaining) else { throw WireError("a count is larger than the rest, at byte \(offset)") }
        return Int(count)
    }
    mutating func raw(_ count: Int) throws(WireError) -> [UInt8] {
        guard count <= remaining else { throw WireError("it ends too early, at byte \(offset)") }
        offset += count
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            for index in 0..<count { buffer.initializeElement(at: index, to: bytes[offset - count + index]) }
            filled = count
        }
    }
    mutating func take<Value: WireCoded>(_ type: Value.Type = Value.self) throws(WireError) -> Value {
        try Value(from: &self)
    }
    func unknownTag(_ tag: UInt8, _ what: String) -> WireError {
        WireError("\(tag) is no \(what), at byte \(offset - 1)")
    }
    func finish() throws(WireError) {
        guard remaining == 0 else { throw WireError("\(remaining) bytes are left over") }
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
    func write(to writer: inout WireWriter) {
        writer.number(UInt64(utf8.count))
        writer.raw(utf8)
    }
    init(from reader: inout WireReader) throws(WireError) {
        let bytes = try reader.raw(reader.count())
        guard let text = String(validating: bytes, as: UTF8.self) else { throw WireError("a text is not UTF-8") }
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
        writer.number(UInt64(count))
        for element in self { element.write(to: &writer) }
    }
    init(from reader: inout WireReader) throws(WireError) {
        self = []
        for _ in 0..<(try reader.count()) { append(try reader.take()) }
    }
}
extension Optional: WireCoded where Wrapped: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(self != nil)
        if let self { self.write(to: &writer) }
    }
    init(from reader: inout WireReader) throws(WireError) {
        self = try reader.take(Bool.self) ? try reader.take(Wrapped.self) : nil
    }
}
