/// The seam between the decoders of Kubernetes objects and the formats they come in. A reader stands before one value
/// of the text and consumes it when asked; what the caller does not want it skips, without building anything. The
/// decoders are written once against this protocol; a reader may borrow the bytes it reads (hence `~Escapable`).

package protocol ValueReader: ~Copyable, ~Escapable {
    /// The line of the value that comes next, counted from 1.
    var line: Int { get }
    /// What comes next.
    var kind: ValueKind { get }

    // Each of these is called only when `kind` says so, and consumes the value.
    /// Calls `body` with each key; it must consume the key's value.
    mutating func readObject(_ body: (inout Self, FieldKey) throws(DecodeError) -> Void) throws(DecodeError)
    /// Calls `body` before each element; it must consume the element.
    mutating func readArray(_ body: (inout Self) throws(DecodeError) -> Void) throws(DecodeError)
    mutating func readString() throws(DecodeError) -> String
    /// nil: a number that is no 64-bit integer.
    mutating func readInt() throws(DecodeError) -> Int64?
    mutating func readBool() throws(DecodeError) -> Bool
    mutating func skip() throws(DecodeError)
    /// Calls `body`, which must consume the value that comes next; the bytes that it consumed, in formats where they
    /// are JSON.
    mutating func readRaw(_ body: (inout Self) throws(DecodeError) -> Void) throws(DecodeError) -> [UInt8]
}

extension ValueReader where Self: ~Copyable, Self: ~Escapable {
    package mutating func readRaw(_ body: (inout Self) throws(DecodeError) -> Void) throws(DecodeError) -> [UInt8] {
        try body(&self)
        return []
    }
}

package enum ValueKind: Sendable {
    case object
    case array
    case string
    case number
    case bool
    case null

    var description: String {
        switch self {
        case .object: "an object"
        case .array: "a list"
        case .string: "text"
        case .number: "a number"
        case .bool: "true or false"
        case .null: "null"
        }
    }
}

/// A key of an object as it stands in the text: most are only compared with the names of fields.
package struct FieldKey: ~Escapable {
    private let bytes: Span<UInt8>

    @_lifetime(copy bytes)
    package init(_ bytes: Span<UInt8>) { self.bytes = bytes }

    package var string: String { bytes.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) } }

    package func hasPrefix(_ prefix: StaticString) -> Bool {
        bytes.count >= prefix.utf8CodeUnitCount
            && bytes.withUnsafeBufferPointer { key in prefix.withUTF8Buffer { key.starts(with: $0) } }
    }

    package static func ~= (name: StaticString, key: FieldKey) -> Bool {
        name.utf8CodeUnitCount == key.bytes.count
            && key.bytes.withUnsafeBufferPointer { key in name.withUTF8Buffer { key.elementsEqual($0) } }
    }
}

/// Any reader, also one that borrows its bytes.
package typealias Reader = ValueReader & ~Copyable & ~Escapable
