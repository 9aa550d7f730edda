/// `address:port` texts and the names of protocols.
import Addressing
import Testing

@Suite struct SocketAddressTests {
    @Test(arguments: [
        ("10.0.0.1:80", "10.0.0.1:80"), ("[fd00::1]:443", "[fd00::1]:443"), ("[10.0.0.1]:80", "10.0.0.1:80"),
        ("010.0.0.1:00080", "10.0.0.1:80"), ("10.0.0.1:0", "10.0.0.1:0"), ("10.0.0.1:65535", "10.0.0.1:65535"),
    ])
    func readsAndWrites(text: String, canonical: String) {
        #expect(SocketAddress(text)?.description == canonical)
    }
    @Test(arguments: [
        "", ":", "10.0.0.1", "10.0.0.1:", ":80", "10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:+80", "fd00::1:80",
        "[fd00::1]",
        "[fd00::1]80", "[]:80", "10.0.0.1:80 ", "localhost:80",
    ])
    func refuses(text: String) {
        #expect(SocketAddress(text) == nil)
    }

    @Test func protocolNames() {
        #expect(TransportProtocol("TCP") == .tcp)
        #expect(TransportProtocol("udp") == .udp)
        #expect(TransportProtocol("Sctp") == .sctp)
        #expect(TransportProtocol("ICMP") == nil)
        #expect(TransportProtocol("") == nil)
        #expect(TransportProtocol.allCases.allSatisfy { TransportProtocol($0.description) == $0 })
    }
    @Test func order() throws {
        let texts = ["10.0.0.1:80", "10.0.0.1:443", "10.0.0.2:1", "[fd00::1]:80"]
        let addresses = try texts.map { try #require(SocketAddress($0)) }
        #expect(addresses.shuffled().sorted() == addresses)
    }
}
