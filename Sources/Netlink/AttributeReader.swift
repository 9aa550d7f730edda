/// Reads netlink attributes in place. Every length is checked against what is left, so bytes cut short or made up end
/// the iteration instead of reading past the buffer.
package import Addressing

package struct Attribute: ~Escapable {
    /// Without the flag bits (nested, byte order).
    package let type: UInt16
    package let payload: RawSpan

    @_lifetime(copy payload)
    fileprivate init(type: UInt16, payload: RawSpan) {
        self.type = type
        self.payload = payload
    }
    /// The attributes inside.
    package var nested: AttributeReader {
        @_lifetime(copy self) get { AttributeReader(payload) }
    }
    /// nil unless the payload has exactly the size of the number.
    package func number<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type = T.self) -> T? {
        guard payload.byteCount == MemoryLayout<T>.size else { return nil }
        return payload.unsafeLoadUnaligned(as: T.self)
    }
    package func bigEndian<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type = T.self) -> T? {
        number(T.self).map { T(bigEndian: $0) }
    }
    /// Up to the first zero byte.
    package var string: String {
        payload.withUnsafeBytes { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
    /// nil unless the payload is 4 or 16 bytes.
    package var address: IPAddress? { payload.withUnsafeBytes { IPAddress(networkBytes: $0) } }
    package var bytes: [UInt8] { payload.withUnsafeBytes { Array($0) } }
}

package struct AttributeReader: ~Escapable {
    private let span: RawSpan
    private var position = 0

    @_lifetime(copy span)
    package init(_ span: RawSpan) { self.span = span }

    @_lifetime(copy self)
    package mutating func next() -> Attribute? {
        guard span.byteCount - position >= 4 else { return nil }
        let length = Int(span.unsafeLoadUnaligned(fromByteOffset: position, as: UInt16.self))
        let type = span.unsafeLoadUnaligned(fromByteOffset: position + 2, as: UInt16.self)
        guard length >= 4, length <= span.byteCount - position else {
            position = span.byteCount
            return nil
        }
        let payload = span.extracting(position + 4..<position + length)
        position = min(position + (length + 3) & ~3, span.byteCount)
        return Attribute(type: type & 0x3fff, payload: payload)
    }

    /// The first attribute of a type.
    @_lifetime(copy self)
    package func first(_ type: UInt16) -> Attribute? {
        var rest = AttributeReader(span)
        while let attribute = rest.next() {
            if attribute.type == type { return attribute }
        }
        return nil
    }
}
