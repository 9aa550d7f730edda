/// JSON as it is written into answers and patches: only what these need.

extension [UInt8] {
    package mutating func append(_ text: String) { append(contentsOf: text.utf8) }

    /// A text in quotes.
    package mutating func append(quoted text: String) {
        append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                append(UInt8(ascii: "\\"))
                append(byte)
            case UInt8(ascii: "\n"): append("\\n")
            case UInt8(ascii: "\t"): append("\\t")
            case 0..<0x20:
                append("\\u00")
                append(byte < 0x10 ? "0" : "")
                append(String(byte, radix: 16))
            default: append(byte)
            }
        }
        append(UInt8(ascii: "\""))
    }

    /// `"name":"text"` after what came before.
    package mutating func append(field name: String, _ text: String) {
        append(key: name)
        append(quoted: text)
    }
    package mutating func append(key name: String) {
        if last != UInt8(ascii: "{") { append(UInt8(ascii: ",")) }
        append(quoted: name)
        append(UInt8(ascii: ":"))
    }
    package mutating func append(list elements: [[UInt8]]) {
        append(UInt8(ascii: "["))
        for (index, element) in elements.enumerated() {
            if index > 0 { append(UInt8(ascii: ",")) }
            append(contentsOf: element)
        }
        append(UInt8(ascii: "]"))
    }
}
