/// An address range in CIDR form.

package struct IPPrefix: Hashable, Sendable, CustomStringConvertible {
    /// The first address of the range: host bits are zero.
    package let address: IPAddress
    /// Bits of the prefix, counted in the address's own family: 0...32 or 0...128.
    package let length: Int

    /// Clears the host bits of `address`; nil when the length does not fit the family.
    package init?(_ address: IPAddress, length: Int) {
        guard (0...address.family.bitWidth).contains(length) else { return nil }
        self.length = length
        self.address = address.masked(length)
    }
    package init(host address: IPAddress) {
        self.address = address
        self.length = address.family.bitWidth
    }
    /// Reads `10.0.0.0/8`. Spaces around it and leading zeros are accepted (spec row 38), a bare address is not.
    package init?(_ text: some StringProtocol) {
        let text = text.trimmed
        guard let slash = text.firstIndex(of: "/"), let address = IPAddress(text[..<slash]),
            let length = Int(text[text.index(after: slash)...]),
            text[text.index(after: slash)...].first?.isNumber == true
        else { return nil }
        self.init(address, length: length)
    }

    package var family: AddressFamily { address.family }
    package func contains(_ other: IPAddress) -> Bool {
        other.family == family && other.masked(length) == address
    }
    /// The last address of the range.
    package var last: IPAddress {
        let bits = mappedLength
        return IPAddress(
            high: address.high | (bits >= 64 ? 0 : ~0 >> UInt64(bits)),
            low: address.low | (bits <= 64 ? ~0 : bits == 128 ? 0 : ~0 >> UInt64(bits - 64)))
    }
    /// The prefix length in the 128-bit, IPv4-mapped form.
    package var mappedLength: Int { family == .ipv4 ? length + 96 : length }
    package var description: String { "\(address)/\(length)" }
}

extension IPPrefix: Comparable {
    package static func < (a: IPPrefix, b: IPPrefix) -> Bool { (a.address, a.length) < (b.address, b.length) }
}

extension IPAddress {
    /// Keeps the first `length` bits, counted in the address's own family.
    package func masked(_ length: Int) -> IPAddress {
        let bits = family == .ipv4 ? length + 96 : length
        return IPAddress(
            high: bits >= 64 ? high : bits == 0 ? 0 : high & ~(~0 >> UInt64(bits)),
            low: bits <= 64 ? 0 : bits == 128 ? low : low & ~(~0 >> UInt64(bits - 64)))
    }
}

extension StringProtocol {
    /// Without white space at either end.
    package var trimmed: SubSequence {
        var rest = self[...]
        while rest.first?.isWhitespace == true { rest = rest.dropFirst() }
        while rest.last?.isWhitespace == true { rest = rest.dropLast() }
        return rest
    }
}
