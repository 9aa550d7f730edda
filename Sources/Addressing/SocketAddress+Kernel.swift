/// Addresses as Linux's system calls have them: sockaddr_in and sockaddr_in6, byte for byte. The numbers of the two
/// families are part of the kernel's interface and the same on every architecture.
private let familyIPv4: UInt16 = 2
private let familyIPv6: UInt16 = 10

extension SocketAddress {
    /// From a sockaddr; nil if it is not an address and port of the internet's.
    package init?(sockaddr raw: UnsafeRawBufferPointer) {
        guard raw.count >= 8 else { return nil }
        let port = UInt16(bigEndian: raw.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        let range: Range<Int>
        switch raw.loadUnaligned(as: UInt16.self) {
        case familyIPv4: range = 4..<8
        case familyIPv6: range = 8..<24
        default: return nil
        }
        guard port != 0, raw.count >= range.upperBound,
            let address = IPAddress(networkBytes: UnsafeRawBufferPointer(rebasing: raw[range]))
        else { return nil }
        self.init(address, port)
    }

    /// As a sockaddr, of the length that its family has.
    package var sockaddrBytes: [UInt8] { sockaddrBytes(asIPv6: !address.isIPv4) }

    /// `asIPv6`: for a socket of that family, which knows an IPv4 address by its mapped form.
    package func sockaddrBytes(asIPv6: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        withUnsafeBytes(of: asIPv6 ? familyIPv6 : familyIPv4) { bytes += $0 }
        withUnsafeBytes(of: port.bigEndian) { bytes += $0 }
        // IPv6 has a flow label before the address and a scope behind it.
        return bytes
            + (asIPv6
                ? [0, 0, 0, 0] + address.mappedBytes + [0, 0, 0, 0]
                : address.networkBytes + [UInt8](repeating: 0, count: 8))
    }
}
