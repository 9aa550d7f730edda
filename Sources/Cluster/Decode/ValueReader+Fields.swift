/// What the decoders call: checks the kind first and puts the path of fields together when something is wrong.

extension ValueReader where Self: ~Copyable, Self: ~Escapable {
    /// The fields of an object. A field that is null counts as absent, as in Kubernetes.
    mutating func fields(_ body: (inout Self, FieldKey) throws(DecodeError) -> Void) throws(DecodeError) {
        try expect(.object)
        try readObject { (reader, key) throws(DecodeError) in
            do throws(DecodeError) {
                if reader.kind == .null { try reader.skip() } else { try body(&reader, key) }
            } catch {
                throw error.inside(field: key.string)
            }
        }
    }
    mutating func elements(_ body: (inout Self, Int) throws(DecodeError) -> Void) throws(DecodeError) {
        try expect(.array)
        var index = 0
        try readArray { (reader) throws(DecodeError) in
            do throws(DecodeError) { try body(&reader, index) } catch { throw error.inside(index: index) }
            index += 1
        }
    }
    mutating func string() throws(DecodeError) -> String {
        guard kind != .number, kind != .bool else {
            throw DecodeError("must be text, but is \(kind.description); put it in quotes", line: line)
        }
        try expect(.string)
        return try readString()
    }
    mutating func int() throws(DecodeError) -> Int64 {
        try expect(.number)
        let line = line
        guard let value = try readInt() else { throw DecodeError("must be a whole number of 64 bits", line: line) }
        return value
    }
    mutating func bool() throws(DecodeError) -> Bool {
        try expect(.bool)
        return try readBool()
    }
    /// An object whose values are all text, such as labels.
    mutating func stringMap(where isWanted: (FieldKey) -> Bool = { _ in true }) throws(DecodeError) -> [String: String]
    {
        var map: [String: String] = [:]
        try fields { (reader, key) throws(DecodeError) in
            if isWanted(key) { map[key.string] = try reader.string() } else { try reader.skip() }
        }
        return map
    }
    /// The texts of a list.
    mutating func strings() throws(DecodeError) -> [String] {
        var strings: [String] = []
        try elements { (reader, _) throws(DecodeError) in strings.append(try reader.string()) }
        return strings
    }
    /// One of an enumeration's names; nil for the empty text, which Kubernetes uses for "unset".
    mutating func choice<Choice: RawRepresentable & CaseIterable>() throws(DecodeError) -> Choice?
    where Choice.RawValue == String {
        let line = line
        let text = try string()
        guard !text.isEmpty else { return nil }
        guard let choice = Choice(rawValue: text) else {
            let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw DecodeError("\(quoted(text)) is unknown; use one of \(names)", line: line)
        }
        return choice
    }

    private func expect(_ wanted: ValueKind) throws(DecodeError) {
        guard kind == wanted else {
            throw DecodeError("must be \(wanted.description), but is \(kind.description)", line: line)
        }
    }
}

/// A text from outside for use in a message: short, on one line, without control characters.
func quoted(_ text: some StringProtocol) -> String {
    String(text.prefix(80)).debugDescription
}
