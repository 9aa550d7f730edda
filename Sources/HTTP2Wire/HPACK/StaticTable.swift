/// The static table (RFC 7541, Appendix A): for each of its 61 entries the name and the value, for each name that has
/// values the entry of one.

enum StaticTable {
    static let count = 61

    /// The name of an entry, 1...61.
    static func name(at index: Int) -> FieldName {
        switch index {
        case 1: .authority
        case 2, 3: .method
        case 4, 5: .path
        case 6, 7: .scheme
        case 8...14: .status
        default: FieldName(rawValue: UInt8(index - 9)) ?? .other
        }
    }

    static func value(at index: Int) -> StaticString { index <= 16 ? values[index] : "" }

    private static let values: [StaticString] = [
        "", "", "GET", "POST", "/", "/index.html", "http", "https", "200", "204", "206", "304", "400", "404", "500", "",
        "gzip, deflate",
    ]

    /// The entry with this name and value; 0: there is none.
    static func index(of name: FieldName, _ value: UnsafeRawBufferPointer) -> Int {
        let candidates: Range<Int> =
            switch name {
            case .method: 2..<4
            case .path: 4..<6
            case .scheme: 6..<8
            case .status: 8..<15
            case .acceptEncoding: 16..<17
            // An entry without a value is one with an empty value.
            case .other: 0..<0
            default: value.isEmpty && name.staticIndex > 0 ? name.staticIndex..<name.staticIndex + 1 : 0..<0
            }
        for index in candidates where isEqual(value, values.count > index ? values[index] : "") { return index }
        return 0
    }
}
