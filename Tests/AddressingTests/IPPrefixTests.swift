/// Ranges: reading (spec row 38), host bits, membership.
import Addressing
import TestSupport
import Testing

@Suite struct IPPrefixTests {
    @Test(arguments: [
        ("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3/8", "10.0.0.0/8"), ("10.0.0.1/32", "10.0.0.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("1.2.3.4/0", "0.0.0.0/0"), ("fd00::1/64", "fd00::/64"), ("::/0", "::/0"), ("ff::/0", "::/0"),
        ("2001:db8::ff/127", "2001:db8::fe/127"), ("fd00:0:0:1::/63", "fd00::/63"),
    ])
    func readsAndClearsHostBits(text: String, canonical: String) {
        #expect(IPPrefix(text)?.description == canonical)
    }
    @Test(arguments: [
        (" 203.0.113.0/25", "203.0.113.0/25"), ("203.000.113.000/25 ", "203.0.113.0/25"), ("\t::/64\n", "::/64"),
    ])
    func row38SpacesAndLeadingZeros(text: String, canonical: String) {
        #expect(IPPrefix(text)?.description == canonical)
    }
    @Test(arguments: [
        "", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8", "::/129", "/8",
        "10.0.0.0/a", "10.0.0.0 /8", "10.0.0.0/ 8", "10.0.0.0/99999999999999999999", "10.0.0.0/\u{664}",
    ])
    func refuses(text: String) {
        #expect(IPPrefix(text) == nil)
    }

    @Test func familiesNeverMix() throws {
        let v4 = try #require(IPPrefix("0.0.0.0/0"))
        let v6 = try #require(IPPrefix("::/0"))
        let (a, b) = (try #require(IPAddress("10.0.0.1")), try #require(IPAddress("fd00::1")))
        #expect(v4.contains(a) && !v4.contains(b))
        #expect(v6.contains(b) && !v6.contains(a))
    }
    @Test func edges() throws {
        let prefix = try #require(IPPrefix("10.96.0.0/12"))
        #expect(prefix.last.description == "10.111.255.255")
        #expect(try prefix.contains(#require(IPAddress("10.111.255.255"))))
        #expect(try !prefix.contains(#require(IPAddress("10.112.0.0"))))
        #expect(IPPrefix("fd00::/64")?.last.description == "fd00::ffff:ffff:ffff:ffff")
        #expect(IPPrefix("::/0")?.last.description == "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
        #expect(IPPrefix("0.0.0.0/0")?.last.description == "255.255.255.255")
        #expect(IPPrefix("::1/128")?.last.description == "::1")
    }

    @Test func everyPrefixReadsBackTheSameAndHoldsItsEnds() throws {
        var generator = SeededGenerator()
        for _ in 0..<5000 {
            let address = IPAddress.random(&generator)
            let length = Int.random(in: 0...address.family.bitWidth, using: &generator)
            let prefix = try #require(IPPrefix(address, length: length), "seed \(generator.seed)")
            // Ranges such as ::/80 end among the IPv4-mapped addresses, which are IPv4 here.
            guard prefix.address.family == address.family, prefix.last.family == address.family else { continue }
            #expect(IPPrefix(prefix.description) == prefix, "seed \(generator.seed)")
            #expect(prefix.contains(address), "seed \(generator.seed)")
            #expect(prefix.contains(prefix.address) && prefix.contains(prefix.last), "seed \(generator.seed)")
            #expect(prefix.address <= address && address <= prefix.last, "seed \(generator.seed)")
        }
    }
}
