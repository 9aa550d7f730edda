/// IPv4 and IPv6 addresses as one 16-byte value. IPv4 is kept IPv4-mapped (`::ffff:a.b.c.d`), as the eBPF maps keep
/// it, so that no code above this file needs two variants.

package enum AddressFamily: UInt8, Hashable, Sendable, CaseIterable, CustomStringConvertible {
    case ipv4 = 4
    case ipv6 = 6

    package var description: String { self == .ipv4 ? "IPv4" : "IPv6" }
    /// Bits in an address of this family: 32 or 128.
    package var bitWidth: Int { self == .ipv4 ? 32 : 128 }
    package var byteCount: Int { bitWidth / 8 }
}

package struct IPAddress: Hashable, Sendable, BitwiseCopyable {
    /// The first and the last eight bytes, as numbers (network order read as big-endian).
    package let high: UInt64
    package let low: UInt64

    @inlinable package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
    /// An IPv4 address from its 32-bit value, `0x0a000001` for 10.0.0.1.
    @inlinable package init(v4 value: UInt32) {
        self.init(high: 0, low: 0xffff_0000_0000 | UInt64(value))
    }
    /// Reads 4 or 16 bytes in network order; nil for any other length.
    package init?(networkBytes bytes: UnsafeRawBufferPointer) {
        switch bytes.count {
        case 4: self.init(v4: UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
        case 16:
            self.init(
                high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        default: return nil
        }
    }

    @inlinable package var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }
    @inlinable package var family: AddressFamily { isIPv4 ? .ipv4 : .ipv6 }
    /// The 32-bit value of an IPv4 address.
    @inlinable package var v4: UInt32 { UInt32(truncatingIfNeeded: low) }

    /// The address in network order: 4 bytes for IPv4, 16 for IPv6.
    package var networkBytes: [UInt8] {
        isIPv4 ? withUnsafeBytes(of: v4.bigEndian) { Array($0) } : mappedBytes
    }
    /// The address in network order, always 16 bytes: IPv4 as IPv4-mapped IPv6.
    package var mappedBytes: [UInt8] {
        withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { Array($0) }
    }

    /// 127.0.0.0/8 or ::1.
    package var isLoopback: Bool { isIPv4 ? v4 >> 24 == 127 : high == 0 && low == 1 }
    /// 0.0.0.0 or ::.
    package var isUnspecified: Bool { isIPv4 ? v4 == 0 : high == 0 && low == 0 }
    package var isLinkLocal: Bool { isIPv4 ? v4 >> 16 == 0xa9fe : high >> 54 == 0xfe80 >> 6 }
    package var isMulticast: Bool { isIPv4 ? v4 >> 28 == 0xe : high >> 56 == 0xff }
    /// One interface of one machine can have it and others reach it there: no loopback, link-local, multicast or
    /// unspecified address. Kubernetes' API takes no other address for an endpoint.
    package var isOfOneMachine: Bool { !isLoopback && !isUnspecified && !isMulticast && !isLinkLocal }
}

extension IPAddress: Comparable {
    package static func < (a: IPAddress, b: IPAddress) -> Bool { (a.high, a.low) < (b.high, b.low) }
}
