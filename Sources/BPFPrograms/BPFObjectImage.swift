/// One compiled BPF object, as the build embedded it.
package struct BPFObjectImage: Sendable {
    package let name: String
    package let bytes: [UInt8]

    init(name: String, base64: StaticString) {
        self.name = name
        self.bytes = base64.withUTF8Buffer { decodeBase64($0) }
    }
}

func decodeBase64(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8] {
    var out = [UInt8]()
    out.reserveCapacity(text.count / 4 * 3)
    var acc: UInt32 = 0
    var bits = 0
    for c in text {
        let v: UInt32
        switch c {
        case 65...90: v = UInt32(c) - 65
        case 97...122: v = UInt32(c) - 71
        case 48...57: v = UInt32(c) + 4
        case 43: v = 62
        case 47: v = 63
        default: continue
        }
        acc = acc << 6 | v
        bits += 6
        if bits >= 8 {
            bits -= 8
            out.append(UInt8(truncatingIfNeeded: acc >> UInt32(bits)))
        }
    }
    return out
}
