/// JSON that is written into a status: only what that needs.

extension [UInt8] {
    mutating func append(_ text: String) { append(contentsOf: text.utf8) }

    /// A text in quotes.
    mutating func append(quoted text: String) {
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
    mutating func append(field name: String, _ text: String) {
        append(key: name)
        append(quoted: text)
    }
    mutating func append(key name: String) {
        if last != UInt8(ascii: "{") { append(UInt8(ascii: ",")) }
        append(quoted: name)
        append(UInt8(ascii: ":"))
    }
    mutating func append(list elements: [[UInt8]]) {
        append(UInt8(ascii: "["))
        for (index, element) in elements.enumerated() {
            if index > 0 { append(UInt8(ascii: ",")) }
            append(contentsOf: element)
        }
        append(UInt8(ascii: "]"))
    }
}
