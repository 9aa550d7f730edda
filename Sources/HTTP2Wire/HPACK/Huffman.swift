/// Huffman's code in both directions (RFC 7541, 5.2), 64 bits at a time.

enum Huffman {
    /// How many bytes the code of these takes.
    static func encodedCount(_ bytes: UnsafeRawBufferPointer) -> Int {
        HuffmanCode.shared.codes.withUnsafeBufferPointer { codes in
            var bits: UInt64 = 0
            for byte in bytes { bits &+= codes[Int(byte)] & 0xff }
            return Int((bits + 7) / 8)
        }
    }

    /// Writes `encodedCount` bytes; the last is filled up with ones, the beginning of EOS.
    static func encode(_ bytes: UnsafeRawBufferPointer, to target: UnsafeMutablePointer<UInt8>) {
        HuffmanCode.shared.codes.withUnsafeBufferPointer { codes in
            var word: UInt64 = 0
            var bits: UInt64 = 0
            var at = 0
            for byte in bytes {
                let entry = codes[Int(byte)]
                // At most 31 bits are left over and a code has at most 30.
                word = word << (entry & 0xff) | entry >> 8
                bits += entry & 0xff
                guard bits >= 32 else { continue }
                bits -= 32
                let full = UInt32(truncatingIfNeeded: word >> bits).bigEndian
                UnsafeMutableRawPointer(target + at).storeBytes(of: full, as: UInt32.self)
                at += 4
            }
            while bits >= 8 {
                bits -= 8
                target[at] = UInt8(truncatingIfNeeded: word >> bits)
                at += 1
            }
            if bits > 0 { target[at] = UInt8(truncatingIfNeeded: word << (8 - bits) | 0xff >> bits) }
        }
    }

    /// The most bytes that so many of code can mean: the shortest code has five bits.
    static func decodedLimit(_ count: Int) -> Int { count * 8 / 5 }

    /// How many bytes were written, at most `decodedLimit`; nil: this is no code. Bits that no longer make a symbol are
    /// the beginning of EOS and fewer than eight; EOS itself is an error.
    static func decode(_ bytes: UnsafeRawBufferPointer, to target: UnsafeMutablePointer<UInt8>) -> Int? {
        let code = HuffmanCode.shared
        return code.fast.withUnsafeBufferPointer { fast in
            // The bits not used yet, at the top.
            var word: UInt64 = 0
            var bits = 0
            var at = 0
            var written = 0
            while true {
                if bytes.count - at >= 8 {
                    let next = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                    let taken = (63 - bits) >> 3
                    // Bits beyond those taken are read again next time, as the same.
                    word |= next >> UInt64(bits)
                    at += taken
                    bits += 8 * taken
                } else {
                    while bits <= 56, at < bytes.count {
                        word |= UInt64(bytes[at]) << UInt64(56 - bits)
                        at += 1
                        bits += 8
                    }
                }
                repeat {
                    let entry = fast[Int(word >> UInt64(64 - HuffmanCode.fastBits))]
                    var length = Int(entry >> 8)
                    var symbol = Int(entry & 0xff)
                    if entry == 0 { (symbol, length) = longCode(word, code) }
                    guard length <= bits else {
                        // Nothing more comes, and what is left are ones.
                        return at == bytes.count && bits < 8 && word >> 56 == UInt64(0xff00 >> bits & 0xff)
                            ? written : nil
                    }
                    guard symbol != HuffmanCode.endOfString else { return nil }
                    target[written] = UInt8(truncatingIfNeeded: symbol)
                    written += 1
                    word <<= UInt64(length)
                    bits -= length
                } while bits >= 30
            }
        }
    }

    private static func longCode(_ word: UInt64, _ code: HuffmanCode) -> (symbol: Int, length: Int) {
        let top = word >> 32
        var length = HuffmanCode.fastBits + 1
        while length < 30, top >= code.limits[length] { length += 1 }
        return (Int(code.symbols[Int(word >> UInt64(64 - length)) + code.offsets[length]]), length)
    }
}
