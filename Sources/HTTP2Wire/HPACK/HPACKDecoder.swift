/// Decodes header blocks (RFC 7541) into a list of fields. A mistake leaves the table unlike the peer's: it ends the
/// connection with COMPRESSION_ERROR (RFC 9113, 4.3).

package enum HPACKFault: String, Error, Hashable, Sendable, CaseIterable {
    case truncated = "hpack_truncated"
    /// Longer or larger than anything that could be meant (RFC 7541, 5.1).
    case badInteger = "hpack_integer"
    case badHuffmanCode = "hpack_huffman"
    case badIndex = "hpack_index"
    /// Larger than we allow, not at the beginning of a block, or the third.
    case badSizeUpdate = "hpack_size_update"
    /// The table was made smaller, and the first block afterwards does not say so (RFC 7541, 4.2).
    case missingSizeUpdate = "hpack_size_update_missing"
    /// So many times what we take that only somebody who means harm can have sent it.
    case tooLarge = "hpack_too_large"
}

package struct HPACKDecoder: Sendable {
    private var table: DynamicTable
    /// What our SETTINGS allow the peer.
    private var allowed: Int
    private var awaitsUpdate = false

    package init(tableSize: Int = 4096) {
        table = DynamicTable(limit: tableSize)
        allowed = tableSize
    }

    package var tableSize: Int { table.size }
    var memory: Int { table.memory }

    /// The peer knows of a new SETTINGS_HEADER_TABLE_SIZE.
    package mutating func allow(tableSize: Int) {
        allowed = tableSize
        awaitsUpdate = table.limit > allowed
    }

    /// A list that is longer than its limit is read on, for the table's sake, up to so many times the limit: each byte
    /// of a block may mean four thousand to copy.
    static let mostOfLimit = 4

    /// Appends the fields of a whole block. False: they are more than `limit` (RFC 9113, 6.5.2), and those beyond it
    /// were left out; the table is what the peer thinks it is (10.5.1).
    package mutating func decode(
        _ block: UnsafeRawBufferPointer, into list: inout FieldList, limit: Int
    ) throws(HPACKFault) -> Bool {
        var input = HPACKInput(bytes: block)
        var isBeginning = true
        var updates = 0
        var isWithin = true
        var leftOut = 0
        while input.at < block.count {
            let first = block[input.at]
            if first & 0xe0 == 0x20 {
                // RFC 7541, 4.2: at the beginning, at most the smallest size since the last block and the final one.
                updates += 1
                let size = try input.integer(prefix: 5)
                guard isBeginning, updates <= 2, size <= allowed else { throw .badSizeUpdate }
                table.setLimit(size)
                awaitsUpdate = false
                continue
            }
            if awaitsUpdate { throw .missingSizeUpdate }
            isBeginning = false
            let start = list.store.count
            if first & 0x80 != 0 {
                try indexed(input.integer(prefix: 7), &list)
            } else {
                try literal(first, &input, &list)
            }
            if list.size > limit || !isWithin {
                isWithin = false
                leftOut += list.store.count - start + DynamicTable.overhead
                list.dropLast(to: start)
                if leftOut > limit * (Self.mostOfLimit - 1) { throw .tooLarge }
            }
        }
        return isWithin
    }

    private func indexed(_ index: Int, _ list: inout FieldList) throws(HPACKFault) {
        let start = list.store.count
        if index > StaticTable.count {
            guard let entry = table.entry(at: index - StaticTable.count - 1) else { throw .badIndex }
            append(entry, count: Int(entry.nameCount) + Int(entry.valueCount), to: &list)
            list.finish(entry.name, from: start, nameCount: Int(entry.nameCount), entry.marks)
        } else {
            guard index > 0 else { throw .badIndex }
            let name = StaticTable.name(at: index)
            let nameCount = append(name.text, to: &list)
            append(StaticTable.value(at: index), to: &list)
            list.finish(name, from: start, nameCount: nameCount, [])
        }
    }

    private mutating func literal(
        _ first: UInt8, _ input: inout HPACKInput, _ list: inout FieldList
    ) throws(HPACKFault) {
        let isIndexed = first & 0x40 != 0
        let index = try input.integer(prefix: isIndexed ? 6 : 4)
        let start = list.store.count
        var name = FieldName.other
        var marks: FieldMarks = []
        let nameCount: Int
        if index > StaticTable.count {
            guard let entry = table.entry(at: index - StaticTable.count - 1) else { throw .badIndex }
            (name, nameCount) = (entry.name, Int(entry.nameCount))
            marks = entry.marks.intersection(.badName)
            append(entry, count: nameCount, to: &list)
        } else if index > 0 {
            name = StaticTable.name(at: index)
            nameCount = append(name.text, to: &list)
        } else {
            nameCount = try input.string(to: &list)
            (name, marks) = list.store.withBytes { bytes in
                let text = UnsafeRawBufferPointer(rebasing: bytes[start...])
                let known = FieldName.recognise(text)
                return (known, known == .other && !FieldGrammar.isName(text) ? .badName : [])
            }
        }
        let valueCount = try input.string(to: &list)
        let isGood = list.store.withBytes { bytes in
            FieldGrammar.isValue(UnsafeRawBufferPointer(rebasing: bytes[(bytes.count - valueCount)...]))
        }
        if !isGood { marks.insert(.badValue) }
        if isIndexed {
            list.store.withBytes { bytes in
                _ = table.insert(UnsafeRawBufferPointer(rebasing: bytes[start...]), nameCount: nameCount, name, marks)
            }
        } else if first & 0x10 != 0 {
            marks.insert(.neverIndexed)
        }
        list.finish(name, from: start, nameCount: nameCount, marks)
    }

    @inline(__always) private func append(_ entry: DynamicTable.Entry, count: Int, to list: inout FieldList) {
        table.withBytes { bytes in
            let start = Int(entry.start)
            list.withStore { $0.append(UnsafeRawBufferPointer(rebasing: bytes[start..<start + count])) }
        }
    }

    @inline(__always) @discardableResult
    private func append(_ text: StaticString, to list: inout FieldList) -> Int {
        let count = text.utf8CodeUnitCount
        list.withStore { $0.append(UnsafeRawBufferPointer(start: text.utf8Start, count: count)) }
        return count
    }
}

/// The primitive types of RFC 7541, 5.
struct HPACKInput {
    let bytes: UnsafeRawBufferPointer
    var at = 0
    /// More than any length or index here can be.
    static let maximum = 1 << 24

    @inline(__always) mutating func integer(prefix: UInt8) throws(HPACKFault) -> Int {
        guard at < bytes.count else { throw .truncated }
        let mask = UInt8(truncatingIfNeeded: 1 << Int(prefix) - 1)
        let value = bytes[at] & mask
        at += 1
        return value < mask ? Int(value) : try longInteger(Int(mask))
    }

    private mutating func longInteger(_ prefix: Int) throws(HPACKFault) -> Int {
        var value = prefix
        var shift = 0
        while at < bytes.count {
            let byte = bytes[at]
            at += 1
            // Five bytes more say all that a sane encoder can mean, leading zeros included.
            guard shift <= 28 else { throw .badInteger }
            value += Int(byte & 0x7f) << shift
            shift += 7
            guard value <= Self.maximum else { throw .badInteger }
            if byte & 0x80 == 0 { return value }
        }
        throw .truncated
    }

    /// Appends the string; its length.
    mutating func string(to list: inout FieldList) throws(HPACKFault) -> Int {
        guard at < bytes.count else { throw .truncated }
        let isCoded = bytes[at] & 0x80 != 0
        let count = try integer(prefix: 7)
        guard count <= bytes.count - at else { throw .truncated }
        let text = UnsafeRawBufferPointer(rebasing: bytes[at..<at + count])
        at += count
        guard isCoded else {
            list.withStore { $0.append(text) }
            return count
        }
        var decoded: Int?
        list.withStore { store in
            store.write(upTo: Huffman.decodedLimit(count)) { target in
                decoded = Huffman.decode(text, to: target)
                return decoded ?? 0
            }
        }
        guard let decoded else { throw .badHuffmanCode }
        return decoded
    }
}
