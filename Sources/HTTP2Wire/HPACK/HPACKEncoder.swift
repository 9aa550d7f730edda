/// Encodes lists of fields (RFC 7541). A field enters the table when it comes a second time: paths, identifiers and
/// dates that never come again push nothing out, a gRPC method or a user agent costs one byte from its third use on.

package struct HPACKEncoder: Sendable {
    /// More than the default is not worth its memory, whatever the peer would keep.
    static let maximumTableSize = 4096
    /// Cookies shorter than this could be guessed, and a guess tested: they stay out of the table (RFC 7541, 7.1.3).
    private static let shortCookie = 20

    private var table = DynamicTable(limit: maximumTableSize)
    private var index = EncoderIndex()
    /// Of the hashes of fields seen of late the first half, each in the place that its last bits name.
    private var seen: [UInt16] = []
    /// The smallest size since the last block, if it must be told (RFC 7541, 4.2).
    private var smallestLimit: Int?

    package init() {}

    package var tableSize: Int { table.size }
    var memory: Int { table.memory + index.memory + seen.capacity * 2 }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE, in the order they come.
    package mutating func setPeerLimit(_ limit: Int) {
        let limit = min(limit, Self.maximumTableSize)
        guard limit != table.limit else { return }
        smallestLimit = min(smallestLimit ?? .max, limit)
        table.setLimit(limit)
        if limit == 0 { index.removeAll() }
    }

    /// Appends the block of a whole list.
    package mutating func encode(_ list: FieldList, to output: inout ByteStore) {
        if let smallest = smallestLimit {
            // The smallest first, then the final one.
            if smallest < table.limit { output.write(upTo: 8) { writeInteger(smallest, 5, 0x20, to: $0) } }
            output.write(upTo: 8) { writeInteger(table.limit, 5, 0x20, to: $0) }
            smallestLimit = nil
        }
        list.store.withBytes { bytes in
            for field in list.fields { encode(field, bytes, to: &output) }
        }
    }

    private mutating func encode(_ field: Field, _ bytes: UnsafeRawBufferPointer, to output: inout ByteStore) {
        let name = UnsafeRawBufferPointer(rebasing: bytes[field.nameRange])
        let value = UnsafeRawBufferPointer(rebasing: bytes[field.valueRange])
        let nameHash = field.name == .other ? hash(name, seed: 0x9e37_79b9) : UInt32(field.name.rawValue) &* 0x9e37_79b1
        if isSecret(field, value) {
            let nameIndex = indexOfName(field, name, nameHash)
            return literal(nameIndex, name, value, (prefix: 4, bits: 0x10), to: &output)
        }
        let fixed = StaticTable.index(of: field.name, value)
        if fixed > 0 { return output.append(UInt8(truncatingIfNeeded: 0x80 | fixed)) }
        let pairHash = hash(value, seed: nameHash)
        let pair = UnsafeRawBufferPointer(rebasing: bytes[field.nameRange.lowerBound..<field.valueRange.upperBound])
        let found = table.withBytes { stored in
            index.find(pairHash, byName: false, in: table) { entry in
                Int(entry.nameCount) == name.count && Int(entry.valueCount) == value.count
                    && stored.baseAddress.map { isEqual(pair, $0 + Int(entry.start)) } ?? false
            }
        }
        if let found {
            let place = StaticTable.count + Int(table.next &- found)
            return output.write(upTo: 8) { writeInteger(place, 7, 0x80, to: $0) }
        }
        let nameIndex = indexOfName(field, name, nameHash)
        guard isWorthKeeping(pair, pairHash) else {
            return literal(nameIndex, name, value, (prefix: 4, bits: 0), to: &output)
        }
        literal(nameIndex, name, value, (prefix: 6, bits: 0x40), to: &output)
        let number = table.next
        if table.insert(pair, nameCount: name.count, field.name, []) {
            index.insert(number, pairHash: pairHash, nameHash: nameHash, in: table)
        }
    }

    /// RFC 7541, 7.1.3: what names a user is no part of what others can compress against, here and further on.
    private func isSecret(_ field: Field, _ value: UnsafeRawBufferPointer) -> Bool {
        switch field.name {
        case .authorization, .proxyAuthorization, .setCookie: true
        case .cookie: value.count < Self.shortCookie || field.marks.contains(.neverIndexed)
        default: field.marks.contains(.neverIndexed)
        }
    }

    /// True the second time. Large fields would push out all others.
    private mutating func isWorthKeeping(_ pair: UnsafeRawBufferPointer, _ hash: UInt32) -> Bool {
        guard pair.count + DynamicTable.overhead <= table.limit / 2 else { return false }
        if seen.isEmpty { seen = Array(repeating: 0, count: 64) }
        let place = Int(hash) & 63
        let half = UInt16(truncatingIfNeeded: hash >> 16)
        guard seen[place] != half else { return true }
        seen[place] = half
        return false
    }

    private func indexOfName(_ field: Field, _ name: UnsafeRawBufferPointer, _ hash: UInt32) -> Int {
        let fixed = field.name.staticIndex
        if fixed > 0 { return fixed }
        let found = table.withBytes { stored in
            index.find(hash, byName: true, in: table) { entry in
                Int(entry.nameCount) == name.count
                    && stored.baseAddress.map { isEqual(name, $0 + Int(entry.start)) } ?? false
            }
        }
        return found.map { StaticTable.count + Int(table.next &- $0) } ?? 0
    }

    private func literal(
        _ nameIndex: Int, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        _ form: (prefix: Int, bits: UInt8), to output: inout ByteStore
    ) {
        output.write(upTo: 24 + name.count + value.count) { target in
            var at = writeInteger(nameIndex, form.prefix, form.bits, to: target)
            if nameIndex == 0 { at += writeString(name, to: target + at) }
            return at + writeString(value, to: target + at)
        }
    }
}

/// The integer of RFC 7541, 5.1; at most six bytes for what occurs here.
func writeInteger(_ value: Int, _ prefix: Int, _ bits: UInt8, to target: UnsafeMutablePointer<UInt8>) -> Int {
    let mask = 1 << prefix - 1
    guard value >= mask else {
        target[0] = bits | UInt8(truncatingIfNeeded: value)
        return 1
    }
    target[0] = bits | UInt8(truncatingIfNeeded: mask)
    var rest = value - mask
    var at = 1
    while rest >= 128 {
        target[at] = UInt8(truncatingIfNeeded: rest | 0x80)
        rest >>= 7
        at += 1
    }
    target[at] = UInt8(truncatingIfNeeded: rest)
    return at + 1
}

/// In Huffman's code if that is shorter (RFC 7541, 5.2).
func writeString(_ text: UnsafeRawBufferPointer, to target: UnsafeMutablePointer<UInt8>) -> Int {
    let coded = Huffman.encodedCount(text)
    if coded < text.count {
        let at = writeInteger(coded, 7, 0x80, to: target)
        Huffman.encode(text, to: target + at)
        return at + coded
    }
    let at = writeInteger(text.count, 7, 0, to: target)
    if let source = text.baseAddress {
        UnsafeMutableRawPointer(target + at).copyMemory(from: source, byteCount: text.count)
    }
    return at + text.count
}

/// Mixes eight bytes at a time. Who makes collisions makes chains no longer than the table.
private func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt32) -> UInt32 {
    var state = UInt64(seed) ^ UInt64(bytes.count) &* 0x9e37_79b9_7f4a_7c15
    var at = 0
    while at < bytes.count {
        var word: UInt64 = 0
        if at + 8 <= bytes.count {
            word = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
        } else {
            for index in at..<bytes.count { word = word << 8 | UInt64(bytes[index]) }
        }
        state = (state ^ word) &* 0xff51_afd7_ed55_8ccd
        state ^= state >> 32
        at += 8
    }
    return UInt32(truncatingIfNeeded: state ^ state >> 17)
}
