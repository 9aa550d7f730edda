/// A second, naive JSON parser to compare the reader with: it works on characters instead of bytes, recursively, and
/// builds everything. Shares no code with the reader.
@testable import PullJSON

indirect enum JSONValue: Equatable {
    case object([(String, JSONValue)])
    case array([JSONValue])
    case string(String)
    /// nil: no 64-bit integer.
    case number(Int64?)
    case bool(Bool)
    case null

    static func == (a: JSONValue, b: JSONValue) -> Bool {
        switch (a, b) {
        case (.object(let a), .object(let b)): a.count == b.count && zip(a, b).allSatisfy { $0 == $1 }
        case (.array(let a), .array(let b)): a == b
        // By scalars: Swift's == takes canonically equivalent texts for the same.
        case (.string(let a), .string(let b)): a.unicodeScalars.elementsEqual(b.unicodeScalars)
        case (.number(let a), .number(let b)): a == b
        case (.bool(let a), .bool(let b)): a == b
        case (.null, .null): true
        default: false
        }
    }
}

struct JSONOracle {
    private var rest: [Unicode.Scalar]
    private var depth = 0

    /// nil: not JSON.
    static func parse(_ bytes: [UInt8]) -> JSONValue? {
        guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
        var oracle = JSONOracle(rest: Array(text.unicodeScalars).reversed())
        guard let value = oracle.value() else { return nil }
        oracle.space()
        return oracle.rest.isEmpty ? value : nil
    }

    private mutating func space() {
        while let next = rest.last, " \n\r\t".unicodeScalars.contains(next) { rest.removeLast() }
    }
    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard rest.last == character else { return false }
        rest.removeLast()
        return true
    }

    private mutating func value() -> JSONValue? {
        space()
        switch rest.last {
        case "{"?: return nested { $0.object() }
        case "["?: return nested { $0.array() }
        case "\""?: return string().map { .string($0) }
        case "t"?: return word("true", .bool(true))
        case "f"?: return word("false", .bool(false))
        case "n"?: return word("null", .null)
        default: return number()
        }
    }
    private mutating func nested(_ body: (inout JSONOracle) -> JSONValue?) -> JSONValue? {
        guard depth < JSONReader.maximumDepth else { return nil }
        depth += 1
        defer { depth -= 1 }
        rest.removeLast()
        return body(&self)
    }
    private mutating func object() -> JSONValue? {
        var entries: [(String, JSONValue)] = []
        space()
        if take("}") { return .object([]) }
        repeat {
            space()
            guard let key = string() else { return nil }
            space()
            guard take(":"), let value = value() else { return nil }
            entries.append((key, value))
            space()
        } while take(",")
        return take("}") ? .object(entries) : nil
    }
    private mutating func array() -> JSONValue? {
        var elements: [JSONValue] = []
        space()
        if take("]") { return .array([]) }
        repeat {
            guard let value = value() else { return nil }
            elements.append(value)
            space()
        } while take(",")
        return take("]") ? .array(elements) : nil
    }
    private mutating func word(_ word: String, _ value: JSONValue) -> JSONValue? {
        for character in word.unicodeScalars { guard take(character) else { return nil } }
        return value
    }
    private mutating func number() -> JSONValue? {
        var text = ""
        while let next = rest.last, "+-.eE0123456789".unicodeScalars.contains(next) {
            text.unicodeScalars.append(next)
            rest.removeLast()
        }
        guard text.wholeMatch(of: #/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/#) != nil else { return nil }
        return .number(Int64(text))
    }
    private mutating func string() -> String? {
        guard take("\"") else { return nil }
        var text = String.UnicodeScalarView()
        while let next = rest.popLast() {
            switch next {
            case "\"": return String(text)
            case "\\":
                guard let character = escape() else { return nil }
                text.append(character)
            case _ where next.value < 0x20: return nil
            default: text.append(next)
            }
        }
        return nil
    }
    private mutating func escape() -> Unicode.Scalar? {
        switch rest.popLast() {
        case "\""?: return "\""
        case "\\"?: return "\\"
        case "/"?: return "/"
        case "b"?: return "\u{8}"
        case "f"?: return "\u{c}"
        case "n"?: return "\n"
        case "r"?: return "\r"
        case "t"?: return "\t"
        case "u"?:
            guard let first = unit() else { return nil }
            if let scalar = Unicode.Scalar(first) { return scalar }
            guard first < 0xdc00, take("\\"), take("u"), let second = unit() else { return nil }
            guard case .scalarValue(let scalar) = decode([UInt16(first), UInt16(second)]) else { return nil }
            return scalar
        default: return nil
        }
    }
    private func decode(_ units: [UInt16]) -> UnicodeDecodingResult {
        var codec = UTF16()
        var iterator = units.makeIterator()
        return codec.decode(&iterator)
    }
    private mutating func unit() -> UInt32? {
        var digits = ""
        for _ in 0..<4 { digits.unicodeScalars.append(rest.popLast() ?? "?") }
        return digits.allSatisfy(\.isHexDigit) && digits.allSatisfy(\.isASCII) ? UInt32(digits, radix: 16) : nil
    }
}

/// Everything in the text through the reader, as a value.
func readAll(_ bytes: [UInt8]) throws(JSONError) -> JSONValue {
    var reader = JSONReader(bytes.span)
    let value = try readValue(&reader)
    try reader.finish()
    return value
}

private func readValue(_ reader: inout JSONReader) throws(JSONError) -> JSONValue {
    switch reader.token {
    case .object:
        var entries: [(String, JSONValue)] = []
        try reader.enterObject()
        while let key = try reader.nextKey() {
            let name = reader.text(of: key)
            entries.append((name, try readValue(&reader)))
        }
        return .object(entries)
    case .array:
        var elements: [JSONValue] = []
        try reader.enterArray()
        while try reader.nextElement() { elements.append(try readValue(&reader)) }
        return .array(elements)
    case .string: return .string(try reader.readText())
    case .number: return .number(try reader.readInteger())
    case .bool: return .bool(try reader.readBoolean())
    case .null:
        try reader.readNull()
        return .null
    case .none: throw JSONError("a value was expected", at: reader.offset)
    }
}
