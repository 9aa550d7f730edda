/// The two things legal in JSON that libyaml refuses: tabs around the outermost value, and characters beyond U+FFFF
/// written as two escapes, which is how most JSON writers put an emoji into an annotation.

enum JSONText {
    /// The text without white space around it and without surrogate pairs, and how many lines were dropped before it;
    /// nil if it does not begin like a JSON object or array.
    static func prepared(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> (text: [UInt8], linesBefore: Int)? {
        let isSpace = { (byte: UInt8) in [0x20, 0x09, 0x0a, 0x0d].contains(byte) }
        guard let start = text.firstIndex(where: { !isSpace($0) }),
            text[start] == UInt8(ascii: "{") || text[start] == UInt8(ascii: "["),
            let last = text.lastIndex(where: { !isSpace($0) })
        else { return nil }
        return (joiningSurrogates(text[start...last]), text[..<start].count { $0 == UInt8(ascii: "\n") })
    }

    /// Replaces `\ud83d\ude00` by the character's UTF-8.
    private static func joiningSurrogates(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var at = text.startIndex
        while at < text.endIndex {
            guard text[at] == UInt8(ascii: "\\") else {
                result.append(text[at])
                at += 1
                continue
            }
            if let high = escape(text, at), 0xd800..<0xdc00 ~= high, let low = escape(text, at + 6),
                0xdc00..<0xe000 ~= low, let scalar = Unicode.Scalar(0x10000 + (high - 0xd800) << 10 + (low - 0xdc00))
            {
                result.append(contentsOf: String(scalar).utf8)
                at += 12
            } else {
                // The escaped character goes along, so that the second of two backslashes begins no escape.
                let end = min(at + 2, text.endIndex)
                result.append(contentsOf: text[at..<end])
                at = end
            }
        }
        return result
    }

    /// The value of `\uXXXX` at an index.
    private static func escape(_ text: Slice<UnsafeBufferPointer<UInt8>>, _ at: Int) -> UInt32? {
        guard at + 6 <= text.endIndex, text[at] == UInt8(ascii: "\\"), text[at + 1] == UInt8(ascii: "u") else {
            return nil
        }
        let digits = text[at + 2..<at + 6]
        guard digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }) else { return nil }
        return UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
    }
}
