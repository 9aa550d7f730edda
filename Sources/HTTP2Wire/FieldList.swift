/// The fields of a message, whatever it came as: names and values lie one after another in one buffer, and a field says
/// where. Lists are kept and used again, so that a message costs no allocation.

/// What was found out about a field when it was decoded, kept beside it in HPACK's table.
package struct FieldMarks: OptionSet, Sendable, BitwiseCopyable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Came, and goes on, as a literal that no table may take in (RFC 7541, 6.2.3).
    package static let neverIndexed = Self(rawValue: 1)
    /// The name is no lower-case token, or the value has bytes that RFC 9113, 8.2.1, forbids.
    static let badName = Self(rawValue: 2)
    static let badValue = Self(rawValue: 4)
}

package struct Field: Sendable, BitwiseCopyable {
    /// Where the name begins; the value follows it.
    fileprivate(set) var start: UInt32
    fileprivate(set) var nameCount: UInt32
    fileprivate(set) var valueCount: UInt32
    package let name: FieldName
    package fileprivate(set) var marks: FieldMarks

    package var nameRange: Range<Int> { Int(start)..<Int(start + nameCount) }
    package var valueRange: Range<Int> { Int(start + nameCount)..<Int(start + nameCount + valueCount) }
}

package struct FieldList: Sendable {
    package private(set) var store = ByteStore()
    package private(set) var fields: [Field] = []

    package init() {}

    /// As RFC 9113, 6.5.2, and RFC 7541, 4.1, count it.
    package var size: Int { store.count + 32 * fields.count }
    package var isEmpty: Bool { fields.isEmpty }

    /// For a list that is kept: what it takes, and no more.
    package mutating func reserve(bytes: Int, fields count: Int) {
        store.write(upTo: bytes) { _ in 0 }
        fields.reserveCapacity(count)
    }

    package mutating func removeAll() {
        store.removeAll()
        fields.removeAll(keepingCapacity: true)
    }

    // MARK: Reading

    package func nameText(_ field: Field) -> String { text(field.nameRange) }
    package func valueText(_ field: Field) -> String { text(field.valueRange) }
    private func text(_ range: Range<Int>) -> String {
        store.withBytes { String(decoding: UnsafeRawBufferPointer(rebasing: $0[range]), as: UTF8.self) }
    }

    /// The first field with this name.
    package func first(_ name: FieldName) -> Field? { fields.first { $0.name == name } }

    @inline(__always) package func withValue<Result>(
        _ field: Field, _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        store.withBytes { body(UnsafeRawBufferPointer(rebasing: $0[field.valueRange])) }
    }

    // MARK: Writing

    /// The name in lower case. What is malformed is marked, and refused when it is sent.
    package mutating func append(
        _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, marks: FieldMarks = []
    ) {
        let known = FieldName.recognise(name)
        append(known, name, value, known == .other && !FieldGrammar.isName(name) ? marks.union(.badName) : marks)
    }

    /// As above, of a name that may have capitals, as in HTTP/1.
    package mutating func append(
        lowercasing name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, marks: FieldMarks = []
    ) {
        let start = store.count
        store.write(upTo: max(1, name.count)) { target in
            for index in 0..<name.count { target[index] = name[index] &- 0x41 < 26 ? name[index] | 0x20 : name[index] }
            return name.count
        }
        let (known, isName) = store.withBytes { bytes in
            let name = UnsafeRawBufferPointer(rebasing: bytes[start...])
            let known = FieldName.recognise(name)
            return (known, known != .other || FieldGrammar.isName(name))
        }
        store.append(value)
        var marks = marks
        if !isName { marks.insert(.badName) }
        if !FieldGrammar.isValue(value) { marks.insert(.badValue) }
        finish(known, from: start, nameCount: name.count, marks)
    }

    package mutating func append(_ name: FieldName, _ value: UnsafeRawBufferPointer, marks: FieldMarks = []) {
        let text = UnsafeRawBufferPointer(start: name.text.utf8Start, count: name.text.utf8CodeUnitCount)
        append(name, text, value, marks)
    }

    package mutating func append(_ name: FieldName, _ value: some StringProtocol, marks: FieldMarks = []) {
        var value = String(value)
        value.withUTF8 { append(name, UnsafeRawBufferPointer($0), marks: marks) }
    }

    package mutating func append(_ name: String, _ value: String, marks: FieldMarks = []) {
        var (name, value) = (name, value)
        name.withUTF8 { name in
            value.withUTF8 { append(UnsafeRawBufferPointer(name), UnsafeRawBufferPointer($0), marks: marks) }
        }
    }

    private mutating func append(
        _ known: FieldName, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ marks: FieldMarks
    ) {
        let start = store.count
        store.append(name)
        store.append(value)
        finish(known, from: start, nameCount: name.count, FieldGrammar.isValue(value) ? marks : marks.union(.badValue))
    }

    // MARK: For the decoder

    /// All since `start` is one field.
    @inline(__always) mutating func finish(_ name: FieldName, from start: Int, nameCount: Int, _ marks: FieldMarks) {
        fields.append(
            Field(
                start: UInt32(truncatingIfNeeded: start), nameCount: UInt32(truncatingIfNeeded: nameCount),
                valueCount: UInt32(truncatingIfNeeded: store.count - start - nameCount), name: name, marks: marks))
    }

    @inline(__always) mutating func withStore<Result>(_ body: (inout ByteStore) -> Result) -> Result { body(&store) }

    mutating func dropLast(to start: Int) {
        fields.removeLast()
        store.truncate(to: start)
    }
}
