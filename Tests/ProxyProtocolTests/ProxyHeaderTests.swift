// The bytes as the protocol's text has them, section 2.2.
import Addressing
import ProxyProtocol
import Testing

@Suite struct ProxyHeaderTests {
    private let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
    private let pod4 = SocketAddress(IPAddress(v4: 0x0a01_0005), 4711)
    private let server4 = SocketAddress(IPAddress(v4: 0x0a01_0107), 8080)
    private let pod6 = SocketAddress(IPAddress(high: 0xfd00_0000_0000_0000, low: 5), 4711)
    private let server6 = SocketAddress(IPAddress(high: 0xfd00_0000_0000_0000, low: 7), 8080)

    @Test func overIPv4() {
        let expected: [UInt8] = [
            0x21, 0x11, 0, 12, 10, 1, 0, 5, 10, 1, 1, 7, 0x12, 0x67, 0x1f, 0x90,
        ]
        #expect(ProxyHeader(from: pod4, to: server4).bytes == signature + expected)
    }

    @Test func overIPv6() {
        let (zeros, prefix) = ([UInt8](repeating: 0, count: 13), [UInt8](arrayLiteral: 0xfd, 0))
        var expected: [UInt8] = [0x21, 0x21, 0, 36]
        expected += prefix + zeros + [5] + prefix + zeros + [7]
        expected += [0x12, 0x67, 0x1f, 0x90]
        #expect(ProxyHeader(from: pod6, to: server6).bytes == signature + expected)
    }

    /// A header has one family: IPv4 is written as IPv6 writes it.
    @Test func ofTwoFamilies() {
        let mapped = [UInt8](repeating: 0, count: 10) + [0xff, 0xff, 10, 1, 0, 5]
        let bytes = ProxyHeader(from: pod4, to: server6).bytes
        #expect(bytes.count == 52 && bytes[13] == 0x21 && Array(bytes[16..<32]) == mapped)
    }

    @Test func whoTheClientIs() {
        let name = "spiffe://cluster.local/ns/shop/sa/client"
        let bytes = ProxyHeader(from: pod4, to: server4, identity: name).bytes
        #expect(Array(bytes[14..<16]) == [0, UInt8(12 + 3 + name.utf8.count)])
        #expect(Array(bytes[28..<31]) == [0xd0, 0, UInt8(name.utf8.count)])
        #expect(String(decoding: bytes[31...], as: UTF8.self) == name)
        let endless = String(repeating: "x", count: 70_000)
        #expect(ProxyHeader(from: pod4, to: server4, identity: endless).bytes.count == 28)
    }
}
