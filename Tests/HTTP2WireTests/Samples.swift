/// Helpers of these tests: bytes from hexadecimal text, fields as pairs of texts, whole blocks at once.
import HTTP2Wire
import Testing

struct TextField: Equatable, CustomStringConvertible {
    var name: String
    var value: String
    var isNeverIndexed = false

    init(_ name: String, _ value: String, neverIndexed: Bool = false) {
        (self.name, self.value, isNeverIndexed) = (name, value, neverIndexed)
    }
    var description: String { "\(name): \(value)" + (isNeverIndexed ? " (never indexed)" : "") }
}

extension FieldList {
    init(_ fields: [TextField]) {
        self.init()
        for field in fields { append(field.name, field.value, marks: field.isNeverIndexed ? .neverIndexed : []) }
    }
    var texts: [TextField] {
        fields.map { TextField(nameText($0), valueText($0), neverIndexed: $0.marks.contains(.neverIndexed)) }
    }
}

/// "82 86" as bytes.
func hex(_ text: String) -> [UInt8] {
    let digits = text.utf8.filter { $0 != 0x20 && $0 != 0x0a }
    return stride(from: 0, to: digits.count - 1, by: 2).map { at in
        UInt8(String(decoding: digits[at..<at + 2], as: UTF8.self), radix: 16) ?? 0
    }
}

extension HPACKDecoder {
    /// nil: the list is too long.
    mutating func fields(of block: [UInt8], limit: Int = 1 << 16) throws(HPACKFault) -> [TextField]? {
        var list = FieldList()
        let result: Result<Bool, HPACKFault> = block.withUnsafeBytes { bytes in
            Result { () throws(HPACKFault) in try decode(bytes, into: &list, limit: limit) }
        }
        return try result.get() ? list.texts : nil
    }
}

extension HPACKEncoder {
    mutating func block(of fields: [TextField]) -> [UInt8] {
        var output = ByteStore()
        encode(FieldList(fields), to: &output)
        return output.bytes
    }
}
