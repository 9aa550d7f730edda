/// Types of scalars by the core schema of YAML 1.2: what JSON calls null, true, 1 and 1.5 and nothing more. `yes`, `on`
/// and `12:30` are strings.

package enum YAMLScalar: Equatable, Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    /// A number that is no 64-bit integer.
    case number
    case string
}

extension YAMLNode {
    /// The type of a scalar; nil for sequences and mappings.
    package var scalar: YAMLScalar? {
        guard kind == .scalar else { return nil }
        guard isPlain else { return .string }
        return document.text.withUnsafeBufferPointer { YAMLScalar(plain: $0[textRange]) }
    }
}

extension YAMLScalar {
    init(plain text: Slice<UnsafeBufferPointer<UInt8>>) {
        guard let first = text.first else {
            self = .null
            return
        }
        switch first {
        case UInt8(ascii: "~"), UInt8(ascii: "n"), UInt8(ascii: "N"):
            self = text.isOneOf("~", "null", "Null", "NULL") ? .null : .string
        case UInt8(ascii: "t"), UInt8(ascii: "T"):
            self = text.isOneOf("true", "True", "TRUE") ? .bool(true) : .string
        case UInt8(ascii: "f"), UInt8(ascii: "F"):
            self = text.isOneOf("false", "False", "FALSE") ? .bool(false) : .string
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."):
            self = YAMLScalar(numeric: text)
        default: self = .string
        }
    }

    private init(numeric text: Slice<UnsafeBufferPointer<UInt8>>) {
        let string = String(decoding: text, as: UTF8.self)
        if string.hasPrefix("0x") || string.hasPrefix("0o") {
            let digits = string.dropFirst(2)
            let radix = string.hasPrefix("0x") ? 16 : 8
            guard !digits.isEmpty, digits.allSatisfy({ $0.hexDigitValue.map { $0 < radix } ?? false }) else {
                self = .string
                return
            }
            self = Int64(digits, radix: radix).map { .int($0) } ?? .number
        } else if let value = Int64(string) {
            self = .int(value)
        } else {
            self = isDecimal(text) || text.isOneOf(".inf", "-.inf", "+.inf", ".nan", ".Inf", ".NaN") ? .number : .string
        }
    }
}

/// `[-+]? ( . [0-9]+ | [0-9]+ ( . [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
private func isDecimal(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    var rest = text
    func skipSign() { if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") { rest.removeFirst() } }
    func skipDigits() -> Bool {
        let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }.count
        rest.removeFirst(digits)
        return digits > 0
    }
    skipSign()
    var hasDigits = skipDigits()
    if rest.first == UInt8(ascii: ".") {
        rest.removeFirst()
        hasDigits = skipDigits() || hasDigits
    }
    guard hasDigits else { return false }
    if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
        rest.removeFirst()
        skipSign()
        guard skipDigits() else { return false }
    }
    return rest.isEmpty
}

extension Slice<UnsafeBufferPointer<UInt8>> {
    fileprivate func isOneOf(_ words: StaticString...) -> Bool {
        words.contains { word in word.withUTF8Buffer { elementsEqual($0) } }
    }
}
