/// Which bytes names and values are made of. Stricter than RFC 9113, 8.2.1, demands: what an HTTP/1 peer would read
/// otherwise is not let through either (10.3).

enum FieldGrammar {
    /// A token of RFC 9110, 5.6.2, without capitals (RFC 9113, 8.2); pseudo-fields are known by name.
    static func isName(_ name: UnsafeRawBufferPointer) -> Bool {
        guard !name.isEmpty else { return false }
        for byte in name where !isLowerToken(byte) { return false }
        return true
    }

    /// !#$%&'*+-.0-9 and ^_`a-z|~ as bits of two words.
    @inline(__always) private static func isLowerToken(_ byte: UInt8) -> Bool {
        let word: UInt64 = byte < 64 ? 0x03ff_6cfa_0000_0000 : 0x57ff_ffff_c000_0000
        return byte < 128 && word >> UInt64(byte & 63) & 1 != 0
    }
    @inline(__always) static func isToken(_ byte: UInt8) -> Bool { isLowerToken(byte) || byte &- 0x41 < 26 }

    /// No controls but tabs, and no blanks at the ends. Eight bytes at a time as long as they are plain.
    static func isValue(_ value: UnsafeRawBufferPointer) -> Bool {
        guard let first = value.first, let last = value.last else { return true }
        if isBlank(first) || isBlank(last) { return false }
        var at = 0
        while at < value.count {
            if at + 8 <= value.count {
                let word = value.loadUnaligned(fromByteOffset: at, as: UInt64.self)
                let controls = (word &- 0x2020_2020_2020_2020) & ~word
                let flipped = word ^ 0x7f7f_7f7f_7f7f_7f7f
                let deletes = (flipped &- 0x0101_0101_0101_0101) & ~flipped
                if (controls | deletes) & 0x8080_8080_8080_8080 == 0 {
                    at += 8
                    continue
                }
            }
            let byte = value[at]
            guard byte >= 0x20 && byte != 0x7f || byte == 0x09 else { return false }
            at += 1
        }
        return true
    }

    @inline(__always) private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
}
