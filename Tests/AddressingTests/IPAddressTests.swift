/// Reading and writing addresses: leading zeros (spec row 43), RFC 5952, and that what is written reads back the same.
import Addressing
import TestSupport
import Testing

@Suite struct IPAddressTests {
    @Test(arguments: [
        ("10.0.0.1", "10.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"),
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("fd00:10:96::a", "fd00:10:96::a"),
        ("2001:DB8::1", "2001:db8::1"), ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("::ffff:10.0.0.1", "10.0.0.1"), ("::ffff:a00:1", "10.0.0.1"), ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ])
    func readsAndWrites(text: String, canonical: String) {
        #expect(IPAddress(text)?.description == canonical)
    }

    @Test(arguments: [
        ("172.030.001.001", "172.30.1.1"), ("010.010.010.010", "10.10.10.10"), ("0000000010.0.0.08", "10.0.0.8"),
        ("00:0::0", "::"),
    ])
    func row43LeadingZerosAreDecimal(text: String, canonical: String) {
        #expect(IPAddress(text)?.description == canonical)
    }

    /// RFC 5952, section 4: lower case, no leading zeros, the longest run of zeros shortened, the first of equal runs,
    /// never a single group.
    @Test(arguments: [
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("0:0:1::", "0:0:1::"),
        ("2001:DB8:AAAA::FFFF", "2001:db8:aaaa::ffff"),
        ("0:1:0:1:0:1:0:1", "0:1:0:1:0:1:0:1"),
    ])
    func rfc5952(text: String, canonical: String) {
        #expect(IPAddress(text)?.description == canonical)
    }

    @Test(arguments: [
        "", ".", ":", ":::", "1", "10.0.0", "10.0.0.1.", ".10.0.0.1", "10..0.1", "10.0.0.256", "10.0.0.1.1",
        "10.0.0.-1",
        "10.0.0.1 ", "0x0a.0.0.1", "10.0.0.1/8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "1:2:3:4:5:6:7:8::",
        "::1:2:3:4:5:6:7:8", "12345::", "g::", ":1::", "1::2:", "fe80::1%eth0", "::10.0.0.1:1", "::10.0.0",
        "::256.0.0.1",
        "1:2:3:4:5:6:7:10.0.0.1", "[::1]", "١٠.0.0.1",
    ])
    func refuses(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func networkBytes() {
        #expect(IPAddress("10.1.2.3")?.networkBytes == [10, 1, 2, 3])
        #expect(IPAddress("10.1.2.3")?.mappedBytes == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3])
        #expect(IPAddress("fd00::1")?.networkBytes.count == 16)
        [UInt8](repeating: 1, count: 5).withUnsafeBytes { #expect(IPAddress(networkBytes: $0) == nil) }
    }

    @Test func classes() {
        #expect(["127.0.0.1", "127.255.0.1", "::1"].allSatisfy { IPAddress($0)?.isLoopback == true })
        #expect(["0.0.0.0", "::"].allSatisfy { IPAddress($0)?.isUnspecified == true })
        #expect(["169.254.1.1", "fe80::1", "febf::1"].allSatisfy { IPAddress($0)?.isLinkLocal == true })
        #expect(["224.0.0.1", "239.1.1.1", "ff02::1"].allSatisfy { IPAddress($0)?.isMulticast == true })
        for text in ["10.0.0.1", "fd00::1", "128.0.0.1", "fec0::1"] {
            let address = IPAddress(text)
            #expect(address?.isLoopback == false && address?.isLinkLocal == false && address?.isMulticast == false)
        }
    }

    @Test func everyAddressReadsBackTheSame() {
        var generator = SeededGenerator()
        for _ in 0..<20_000 {
            let address = IPAddress.random(&generator)
            #expect(IPAddress(address.description) == address, "seed \(generator.seed)")
            let bytes = address.networkBytes.withUnsafeBytes { IPAddress(networkBytes: $0) }
            #expect(bytes == address, "seed \(generator.seed)")
        }
    }
    @Test func leadingZerosNeverChangeTheValue() {
        var generator = SeededGenerator()
        for _ in 0..<2000 {
            let address = IPAddress(v4: UInt32(truncatingIfNeeded: generator.next()))
            let padded = address.description.split(separator: ".")
                .map { String(repeating: "0", count: Int.random(in: 0...4, using: &generator)) + $0 }
                .joined(separator: ".")
            #expect(IPAddress(padded) == address, "seed \(generator.seed): \(padded)")
        }
    }
}

extension IPAddress {
    /// Of both families, and with runs of zero groups more often than chance has them.
    static func random(_ generator: inout SeededGenerator) -> IPAddress {
        if Bool.random(using: &generator) { return IPAddress(v4: UInt32(truncatingIfNeeded: generator.next())) }
        var halves: [UInt64] = []
        for _ in 0..<2 {
            halves.append(
                (0..<4).reduce(UInt64(0)) { value, _ in
                    let group = Bool.random(using: &generator) ? 0 : generator.next() & 0xffff
                    return value << 16 | group
                })
        }
        return IPAddress(high: halves[0], low: halves[1])
    }
}
