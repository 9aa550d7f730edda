/// Strings and numbers: checked where they stand, decoded only when wanted.

/// A checked string in a reader's bytes, without its quotes.
package struct JSONString: Equatable, Sendable {
    package let range: Range<Int>
    /// Contains `\` escapes, so the bytes are not yet the text.
    package let isEscaped: Bool
}

extension JSONReader {
    package func text(of string: JSONString) -> String {
        guard string.isEscaped else {
            return rawBytes(of: string).withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
        }
        return String(decoding: unescapedBytes(of: string), as: UTF8.self)
    }

    /// The bytes in place: those of the text, unless `isEscaped`.
    @_lifetime(copy self)
    package func rawBytes(of string: JSONString) -> Span<UInt8> { bytes.extracting(string.range) }

    /// The bytes of the text, escapes resolved, as a copy.
    package func unescapedBytes(of string: JSONString) -> [UInt8] { unescaped(bytes.extracting(string.range)) }

    /// Passes over a string whose opening quote is next.
    mutating func scanString() throws(JSONError) -> JSONString {
        let start = offset + 1
        offset = start
        var isEscaped = false
        while true {
            skipPlainASCII()
            guard offset < bytes.count else { throw JSONError("the string does not end", at: start - 1) }
            switch bytes[unchecked: offset] {
            case UInt8(ascii: "\""):
                offset += 1
                return JSONString(range: start..<offset - 1, isEscaped: isEscaped)
            case UInt8(ascii: "\\"):
                isEscaped = true
                try scanEscape()
            case 0..<0x20: throw JSONError("a control character is not escaped", at: offset)
            case 0x80...: try scanMultibyte()
            default: offset += 1
            }
        }
    }

    /// Eight bytes at a time, as long as all are ASCII and none is a quote, backslash or control character. The tests
    /// may also stop at a byte they need not stop at; the caller looks again.
    @inline(__always)
    private mutating func skipPlainASCII() {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        let raw = bytes.bytes
        while bytes.count - offset >= 8 {
            let word = raw.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
            let quote = word ^ (ones &* UInt64(UInt8(ascii: "\"")))
            let backslash = word ^ (ones &* UInt64(UInt8(ascii: "\\")))
            let isControl = (word &- ones &* 0x20) & ~word
            let isQuote = (quote &- ones) & ~quote
            let isBackslash = (backslash &- ones) & ~backslash
            guard (word | isControl | isQuote | isBackslash) & highs == 0 else { return }
            offset += 8
        }
    }

    private mutating func scanEscape() throws(JSONError) {
        let start = offset
        guard offset + 1 < bytes.count else { throw JSONError("the string does not end", at: start) }
        switch bytes[unchecked: offset + 1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            offset += 2
        case UInt8(ascii: "u"):
            let unit = try scanCodeUnit(at: start)
            guard !(0xdc00...0xdfff).contains(unit) else { throw JSONError("half a surrogate pair", at: start) }
            guard (0xd800...0xdbff).contains(unit) else { return }
            guard offset + 1 < bytes.count, bytes[unchecked: offset] == UInt8(ascii: "\\"),
                bytes[unchecked: offset + 1] == UInt8(ascii: "u"),
                (0xdc00...0xdfff).contains(try scanCodeUnit(at: offset))
            else { throw JSONError("half a surrogate pair", at: start) }
        default: throw JSONError("an unknown escape", at: start)
        }
    }

    /// The four digits of the `\uXXXX` that begins at `start`.
    private mutating func scanCodeUnit(at start: Int) throws(JSONError) -> UInt32 {
        guard let unit = codeUnit(bytes, at: start) else { throw JSONError("\\u needs four hex digits", at: start) }
        offset = start + 6
        return unit
    }

    /// One character of two to four bytes, in its shortest form and no surrogate (Unicode table 3-7).
    private mutating func scanMultibyte() throws(JSONError) {
        let lead = bytes[unchecked: offset]
        let second: ClosedRange<UInt8>
        let length: Int
        switch lead {
        case 0xc2...0xdf: (length, second) = (2, 0x80...0xbf)
        case 0xe0: (length, second) = (3, 0xa0...0xbf)
        case 0xed: (length, second) = (3, 0x80...0x9f)
        case 0xe1...0xef: (length, second) = (3, 0x80...0xbf)
        case 0xf0: (length, second) = (4, 0x90...0xbf)
        case 0xf1...0xf3: (length, second) = (4, 0x80...0xbf)
        case 0xf4: (length, second) = (4, 0x80...0x8f)
        default: throw JSONError("not UTF-8", at: offset)
        }
        guard bytes.count - offset >= length, second.contains(bytes[unchecked: offset + 1]),
            (2..<max(length, 2)).allSatisfy({ bytes[unchecked: offset + $0] & 0xc0 == 0x80 })
        else { throw JSONError("not UTF-8", at: offset) }
        offset += length
    }

    /// Passes over a number; whether it is written as an integer.
    mutating func scanNumber() throws(JSONError) -> Bool {
        let start = offset
        if peek == UInt8(ascii: "-") { offset += 1 }
        if peek == UInt8(ascii: "0") {
            offset += 1
        } else {
            try scanDigits(of: start)
        }
        var isInteger = true
        if peek == UInt8(ascii: ".") {
            isInteger = false
            offset += 1
            try scanDigits(of: start)
        }
        if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
            isInteger = false
            offset += 1
            if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { offset += 1 }
            try scanDigits(of: start)
        }
        return isInteger
    }

    private mutating func scanDigits(of start: Int) throws(JSONError) {
        let first = offset
        while let byte = peek, isDigit(byte) { offset += 1 }
        guard offset > first else { throw JSONError("a number was expected", at: start) }
    }
}

@inline(__always)
private func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

/// The value of the `\uXXXX` that begins at `start`; nil if it has not four hex digits.
private func codeUnit(_ bytes: Span<UInt8>, at start: Int) -> UInt32? {
    guard bytes.count - start >= 6 else { return nil }
    var value: UInt32 = 0
    for index in start + 2..<start + 6 {
        let byte = bytes[unchecked: index]
        let digit: UInt8
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
        default: return nil
        }
        value = value << 4 | UInt32(digit)
    }
    return value
}

/// The text of a string that was scanned before, so that its escapes are known to be good.
private func unescaped(_ raw: Span<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(raw.count)
    var at = 0
    while at < raw.count {
        let byte = raw[unchecked: at]
        guard byte == UInt8(ascii: "\\"), at + 1 < raw.count else {
            result.append(byte)
            at += 1
            continue
        }
        let name = raw[unchecked: at + 1]
        guard name == UInt8(ascii: "u"), let unit = codeUnit(raw, at: at) else {
            result.append(controlCharacter(name))
            at += 2
            continue
        }
        at += 6
        var value = unit
        if (0xd800...0xdbff).contains(unit), let low = codeUnit(raw, at: at) {
            value = 0x10000 + (unit - 0xd800) << 10 + (low &- 0xdc00) & 0x3ff
            at += 6
        }
        result.append(contentsOf: UTF8.encode(Unicode.Scalar(value) ?? "\u{fffd}").map(Array.init) ?? [])
    }
    return result
}

private func controlCharacter(_ name: UInt8) -> UInt8 {
    switch name {
    case UInt8(ascii: "b"): 0x08
    case UInt8(ascii: "f"): 0x0c
    case UInt8(ascii: "n"): 0x0a
    case UInt8(ascii: "r"): 0x0d
    case UInt8(ascii: "t"): 0x09
    default: name
    }
}
