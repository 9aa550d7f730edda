/// Text form of addresses. Reading accepts leading zeros in IPv4 octets and takes them as decimal, never octal (spec
/// row 43: old Kubernetes objects contain them); writing is canonical (RFC 5952), so they never leave again.

extension IPAddress: CustomStringConvertible {
    package init?(_ text: some StringProtocol) {
        var copy = String(text)
        let parsed: IPAddress? = copy.withUTF8 { IPAddress(ascii: $0) }
        guard let parsed else { return nil }
        self = parsed
    }

    package init?(ascii: UnsafeBufferPointer<UInt8>) {
        if ascii.contains(UInt8(ascii: ":")) {
            guard let value = parseIPv6(ascii) else { return nil }
            self = value
        } else {
            guard let value = parseIPv4(ascii[...]) else { return nil }
            self.init(v4: value)
        }
    }

    package var description: String {
        isIPv4
            ? "\(v4 >> 24).\(v4 >> 16 & 255).\(v4 >> 8 & 255).\(v4 & 255)"
            : ipv6Text
    }

    private func group(_ index: Int) -> UInt16 {
        UInt16(truncatingIfNeeded: (index < 4 ? high : low) >> UInt64((3 - index % 4) * 16))
    }

    /// The longest run of two or more zero groups becomes `::`; of equal runs the first.
    private var ipv6Text: String {
        var best = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, group(end) == 0 { end += 1 }
            if end - start > max(best.count, 1) { best = start..<end }
            start = max(end, start + 1)
        }
        let hex = { (range: Range<Int>) in range.map { String(group($0), radix: 16) }.joined(separator: ":") }
        return best.isEmpty ? hex(0..<8) : hex(0..<best.lowerBound) + "::" + hex(best.upperBound..<8)
    }
}

private func parseIPv4(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> UInt32? {
    var value: UInt32 = 0
    var octet: UInt32 = 0
    var digits = 0
    var octets = 1
    for byte in text {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            octet = octet * 10 + UInt32(byte - UInt8(ascii: "0"))
            digits += 1
            guard octet <= 255, digits <= 15 else { return nil }
        case UInt8(ascii: "."):
            guard digits > 0, octets < 4 else { return nil }
            value = value << 8 | octet
            (octet, digits, octets) = (0, 0, octets + 1)
        default: return nil
        }
    }
    return octets == 4 && digits > 0 ? value << 8 | octet : nil
}

private func parseIPv6(_ text: UnsafeBufferPointer<UInt8>) -> IPAddress? {
    let colon = UInt8(ascii: ":")
    var head: [UInt16] = []
    var tail: [UInt16] = []
    var gap = false
    var at = 0
    if text.count >= 2, text[0] == colon, text[1] == colon {
        gap = true
        at = 2
    }
    while at < text.count {
        var end = at
        while end < text.count, text[end] != colon { end += 1 }
        var groups: [UInt16]
        if end == text.count, text[at..<end].contains(UInt8(ascii: ".")) {
            guard let v4 = parseIPv4(text[at..<end]) else { return nil }
            groups = [UInt16(v4 >> 16), UInt16(truncatingIfNeeded: v4)]
        } else {
            guard end > at, end - at <= 4 else { return nil }
            var value: UInt16 = 0
            for byte in text[at..<end] {
                guard let digit = hexDigit(byte) else { return nil }
                value = value << 4 | UInt16(digit)
            }
            groups = [value]
        }
        if gap { tail += groups } else { head += groups }
        guard head.count + tail.count <= 8 else { return nil }
        guard end < text.count else { break }
        at = end + 1
        if at < text.count, text[at] == colon {
            guard !gap else { return nil }
            gap = true
            at += 1
        } else if at == text.count {
            return nil
        }
    }
    let missing = 8 - head.count - tail.count
    guard gap ? missing >= 1 : missing == 0 else { return nil }
    let all = head + Array(repeating: 0, count: missing) + tail
    let word = { (range: Range<Int>) in range.reduce(UInt64(0)) { $0 << 16 | UInt64(all[$1]) } }
    return IPAddress(high: word(0..<4), low: word(4..<8))
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}
