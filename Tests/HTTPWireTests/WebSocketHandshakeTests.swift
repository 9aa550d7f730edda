/// Keys and what is answered to them (RFC 6455, 4), and the hash that they need.
import Testing

@testable import HTTPWire

@Suite struct WebSocketHandshakeTests {
    @Test(
        "FIPS 180-4, and lengths around the end of a block",
        arguments: [
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
            ),
            (String(repeating: "a", count: 55), "c1c8bbdc22796e28c0e15163d20899b65621d65a"),
            (String(repeating: "a", count: 64), "0098ba824b5c16427bd7a1122a5a442a25ec644d"),
            (String(repeating: "a", count: 1_000_000), "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
        ]) func hashes(text: String, hash: String)
    {
        let digits = sha1(Array(text.utf8)).map { byte in
            let digits = String(byte, radix: 16)
            return digits.count < 2 ? "0" + digits : digits
        }
        #expect(digits.joined() == hash)
    }

    /// The example of RFC 6455, 1.3.
    static let key = "dGhlIHNhbXBsZSBub25jZQ=="
    static let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

    @Test func theExampleOfTheStandard() { #expect(WebSocketHandshake.accept(for: Self.key) == Self.accept) }

    @Test func keysAreOfSixteenBytesAndNeverTheSame() throws {
        var random = SystemRandomNumberGenerator()
        let keys = (0..<100).map { _ in WebSocketHandshake.key(using: &random) }
        #expect(Set(keys).count == 100)
        for key in keys { #expect(try self.key(of: request(key: key)) == key) }
    }

    private func request(
        _ more: String = "", line: String = "GET / HTTP/1.1", upgrade: String = "Upgrade: WebSocket",
        key: String = Self.key
    ) -> String {
        "\(line)\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\(upgrade)\r\n"
            + "Sec-WebSocket-Key: \(key)\r\n\(more)\r\n"
    }
    private func key(of text: String) throws -> String? {
        let (head, bytes) = try parse(text, .request)
        return bytes.withUnsafeBytes { WebSocketHandshake.key(of: head, $0) }
    }
    private func parse(_ text: String, _ role: HeadParser.Role) throws -> (MessageHead, [UInt8]) {
        var parser = HeadParser(role)
        let bytes = Array(text.utf8)
        #expect(try parser.parse(bytes.span))
        return (parser.head, bytes)
    }

    @Test func whatOpensAWebSocket() throws {
        #expect(try key(of: request()) == Self.key)
        for other in [
            request(line: "POST / HTTP/1.1"), request(upgrade: "Upgrade: tcp"),
            request(upgrade: "Upgrade: websocket, tcp"),
            request(upgrade: "Upgrade: websocket\r\nUpgrade: websocket"), request(upgrade: "X: websocket"),
            request(key: ""), request(key: "dGhlIHNhbXBsZSBub25jZQ"), request(key: "dGhlIHNhbXBsZSBub25j.Q=="),
            request(key: "dGhlIHNhbXBsZSBub25jZQAA"), request("Sec-WebSocket-Key: \(Self.key)\r\n"),
            request("Content-Length: 1\r\n"),
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: \(Self.key)\r\n\r\n",
        ] { #expect(try key(of: other) == nil, "\(other)") }
    }

    @Test func whatIsAnAnswerToIt() throws {
        let good = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \(Self.accept)\r\n"
        let isAccepted = { (text: String) in
            let (answer, bytes) = try self.parse(text + "\r\n", .response)
            return bytes.withUnsafeBytes { WebSocketHandshake.isAccepted(answer, $0, key: Self.key) }
        }
        #expect(try isAccepted("HTTP/1.1 101 Switching Protocols\r\n" + good))
        for other in [
            "HTTP/1.1 200 OK\r\n" + good,
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
            "HTTP/1.1 101 S\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \(Self.accept)\r\n",
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: \(Self.accept)\r\n",
            "HTTP/1.1 101 S\r\nSec-WebSocket-Accept: \(Self.accept)\r\n" + good,
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \(Self.key)\r\n",
        ] { #expect(try !isAccepted(other), "\(other)") }
    }
}
