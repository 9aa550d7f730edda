/// Which bytes may stand where, as bit masks: a test is a shift, without a table in memory.

/// The bytes below 128 as two words of bits.
private struct ByteSet {
    var low: UInt64 = 0
    var high: UInt64 = 0

    @inline(__always) func contains(_ byte: UInt8) -> Bool {
        let word = byte < 64 ? low : high
        return byte < 128 && word >> UInt64(byte & 63) & 1 != 0
    }
}

/// `tchar` of RFC 9110: letters, digits and !#$%&'*+-.^_`|~
@inline(__always) func isTokenByte(_ byte: UInt8) -> Bool {
    ByteSet(low: 0x03ff_6cfa_0000_0000, high: 0x57ff_ffff_c7ff_fffe).contains(byte)
}

/// How many of eight bytes, the lowest first, are letters or hyphens before the first that is neither.
@inline(__always) func nameBytes(_ word: UInt64) -> Int {
    let high: UInt64 = 0x8080_8080_8080_8080
    // Without its highest bit no byte's sum is carried into the next.
    let ascii = word & ~high
    let lower = ascii | 0x2020_2020_2020_2020
    // From `a` to `z`, capitals with them.
    let letters = (lower &+ 0x1f1f_1f1f_1f1f_1f1f) & ~(lower &+ 0x0505_0505_0505_0505)
    let hyphens = ~((ascii ^ 0x2d2d_2d2d_2d2d_2d2d) &+ 0x7f7f_7f7f_7f7f_7f7f)
    let others = (~(letters | hyphens) | word) & high
    return others.trailingZeroBitCount >> 3
}

/// Bytes of a target: everything visible except `#`, which never goes over the wire.
@inline(__always) func isTargetByte(_ byte: UInt8) -> Bool { byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: "#") }

/// Bytes of an authority without userinfo: unreserved, sub-delims, `%` and `:[]`.
@inline(__always) func isHostByte(_ byte: UInt8) -> Bool {
    ByteSet(low: 0x2fff_7ff2_0000_0000, high: 0x47ff_fffe_afff_fffe).contains(byte)
}

/// Bytes of a field value: visible, space, tab and what is above ASCII.
@inline(__always) func isValueByte(_ byte: UInt8) -> Bool { byte >= 0x20 && byte != 0x7f || byte == 0x09 }

@inline(__always) func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

@inline(__always) func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

@inline(__always) func lowercased(_ byte: UInt8) -> UInt8 { byte &- 0x41 < 26 ? byte | 0x20 : byte }

@inline(__always) func hexValue(_ byte: UInt8) -> UInt8? {
    if isDigit(byte) { return byte &- 0x30 }
    let letter = byte | 0x20
    return letter &- 0x61 < 6 ? letter &- 0x57 : nil
}
