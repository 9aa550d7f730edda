/// A pull reader over JSON in place: the caller asks for what it wants and skips the rest, for which nothing is built.
/// Strict (RFC 8259 and valid UTF-8, also in what is skipped) and bounded in depth, because what a server or a proxy
/// in between sends is not to be trusted.

package struct JSONReader: ~Escapable {
    package enum Token: Sendable {
        case object
        case array
        case string
        case number
        case bool
        case null
        /// The end of the bytes, or a byte no value begins with.
        case none
    }

    let bytes: Span<UInt8>
    /// The byte that is read next.
    package internal(set) var offset = 0
    /// Objects and lists that are open around `offset`.
    private(set) var depth = 0
    /// Just after `{` or `[`, where no comma is expected.
    private var isFirst = false

    /// Deeper nesting than this is refused. Kubernetes objects stay below 30.
    package static let maximumDepth = 100

    @_lifetime(copy bytes)
    package init(_ bytes: Span<UInt8>) { self.bytes = bytes }

    /// What begins at the next byte that is no white space.
    package var token: Token {
        let start = nextToken
        guard start < bytes.count else { return .none }
        switch bytes[unchecked: start] {
        case UInt8(ascii: "{"): return .object
        case UInt8(ascii: "["): return .array
        case UInt8(ascii: "\""): return .string
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
        case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
        case UInt8(ascii: "n"): return .null
        default: return .none
        }
    }

    /// Must follow the last value: nothing but white space may be left.
    package mutating func finish() throws(JSONError) {
        skipSpace()
        guard offset == bytes.count else { throw JSONError("something follows the value", at: offset) }
    }

    // MARK: Objects and lists

    package mutating func enterObject() throws(JSONError) { try enter(UInt8(ascii: "{"), "an object") }
    package mutating func enterArray() throws(JSONError) { try enter(UInt8(ascii: "["), "a list") }

    /// The next key of the object entered last, of which the value must be read or skipped next; nil at its end.
    package mutating func nextKey() throws(JSONError) -> JSONString? {
        skipSpace()
        if peek == UInt8(ascii: "}") {
            leave()
            return nil
        }
        try separate()
        guard peek == UInt8(ascii: "\"") else { throw JSONError("a key was expected", at: offset) }
        let key = try scanString()
        skipSpace()
        guard peek == UInt8(ascii: ":") else { throw JSONError("':' was expected", at: offset) }
        offset += 1
        return key
    }

    /// Whether the list entered last has another element, which must be read or skipped next.
    package mutating func nextElement() throws(JSONError) -> Bool {
        skipSpace()
        if peek == UInt8(ascii: "]") {
            leave()
            return false
        }
        try separate()
        return true
    }

    private mutating func enter(_ bracket: UInt8, _ what: String) throws(JSONError) {
        skipSpace()
        guard peek == bracket else { throw JSONError("\(what) was expected", at: offset) }
        guard depth < Self.maximumDepth else {
            throw JSONError("nested deeper than \(Self.maximumDepth) levels", at: offset)
        }
        offset += 1
        depth += 1
        isFirst = true
    }
    private mutating func leave() {
        offset += 1
        depth -= 1
        isFirst = false
    }
    private mutating func separate() throws(JSONError) {
        if isFirst {
            isFirst = false
            return
        }
        guard peek == UInt8(ascii: ",") else { throw JSONError("',' was expected", at: offset) }
        offset += 1
        skipSpace()
    }

    // MARK: Values

    package mutating func readText() throws(JSONError) -> String { text(of: try readRawString()) }

    /// A string left in place; `text(of:)` or `withBytes(of:)` give what it says.
    package mutating func readRawString() throws(JSONError) -> JSONString {
        skipSpace()
        guard peek == UInt8(ascii: "\"") else { throw JSONError("a string was expected", at: offset) }
        return try scanString()
    }

    /// nil for a number that is no 64-bit integer, such as 1.5, 1e3 or one that is too large.
    package mutating func readInteger() throws(JSONError) -> Int64? {
        skipSpace()
        let start = offset
        guard try scanNumber() else { return nil }
        let isNegative = bytes[unchecked: start] == UInt8(ascii: "-")
        var value: Int64 = 0
        for index in (isNegative ? start + 1 : start)..<offset {
            let digit = Int64(bytes[unchecked: index] &- UInt8(ascii: "0"))
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) =
                isNegative
                ? product.subtractingReportingOverflow(digit) : product.addingReportingOverflow(digit)
            guard !overflow, !carry else { return nil }
            value = sum
        }
        return value
    }

    package mutating func readBoolean() throws(JSONError) -> Bool {
        skipSpace()
        if peek == UInt8(ascii: "t") {
            try scanLiteral("true")
            return true
        }
        try scanLiteral("false")
        return false
    }

    package mutating func readNull() throws(JSONError) {
        skipSpace()
        try scanLiteral("null")
    }

    /// Passes over one value of any kind. Iterative: what it passes over costs no stack.
    package mutating func skipValue() throws(JSONError) {
        // One bit for each open level: set for an object.
        var isObject = (UInt64(0), UInt64(0))
        let outside = depth
        repeat {
            skipSpace()
            switch token {
            case .object:
                try enterObject()
                setBit(&isObject, depth - outside, true)
            case .array:
                try enterArray()
                setBit(&isObject, depth - outside, false)
            case .string: _ = try scanString()
            case .number: _ = try scanNumber()
            case .bool: _ = try readBoolean()
            case .null: try readNull()
            case .none: throw JSONError("a value was expected", at: offset)
            }
            while depth > outside {
                let hasMore = bit(isObject, depth - outside) ? try nextKey() != nil : try nextElement()
                if hasMore { break }
            }
        } while depth > outside
    }

    // MARK: Bytes

    var peek: UInt8? { offset < bytes.count ? bytes[unchecked: offset] : nil }

    @inline(__always)
    mutating func skipSpace() { offset = nextToken }

    /// Calls `body`, which must read or skip the value that comes next, and gives the value's bytes as they stand.
    package mutating func copyingValue<Failure: Error>(
        _ body: (inout JSONReader) throws(Failure) -> Void
    ) throws(Failure) -> [UInt8] {
        skipSpace()
        let start = offset
        try body(&self)
        return bytes.extracting(start..<offset).withUnsafeBufferPointer(Array.init)
    }

    @inline(__always)
    private var nextToken: Int {
        var index = offset
        while index < bytes.count {
            switch bytes[unchecked: index] {
            case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"): index += 1
            default: return index
            }
        }
        return index
    }

    private mutating func scanLiteral(_ word: StaticString) throws(JSONError) {
        let length = word.utf8CodeUnitCount
        guard bytes.count - offset >= length else { throw JSONError("\(word) was expected", at: offset) }
        for index in 0..<length where bytes[unchecked: offset + index] != word.utf8Start[index] {
            throw JSONError("\(word) was expected", at: offset)
        }
        offset += length
    }
}

/// Levels are counted from 1, and there are at most `JSONReader.maximumDepth` of them.
private func bit(_ bits: (UInt64, UInt64), _ level: Int) -> Bool {
    (level < 64 ? bits.0 >> UInt64(level) : bits.1 >> UInt64(level - 64)) & 1 == 1
}
private func setBit(_ bits: inout (UInt64, UInt64), _ level: Int, _ value: Bool) {
    let mask = UInt64(1) << UInt64(level % 64)
    if level < 64 {
        bits.0 = value ? bits.0 | mask : bits.0 & ~mask
    } else {
        bits.1 = value ? bits.1 | mask : bits.1 & ~mask
    }
}
