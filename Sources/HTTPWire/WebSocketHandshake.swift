/// The opening handshake of RFC 6455, 4, for a proxy that stands for one of its sides: HTTP/2 opens WebSockets without
/// keys (RFC 8441, 5).

package enum WebSocketHandshake {
    /// Of the protocol, in any case.
    package static func isName(_ name: UnsafeRawBufferPointer) -> Bool {
        isEqual(name, ByteRange(0, name.count), "websocket")
    }

    /// What a server answers to this key, to show that it took the request for what it is.
    package static func accept(for key: String) -> String {
        encodeBase64(sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    }

    /// Sixteen random bytes: a server of HTTP, or a cache, cannot answer them by chance.
    package static func key(using random: inout some RandomNumberGenerator) -> String {
        encodeBase64((0..<16).map { _ in UInt8.random(in: 0...255, using: &random) })
    }

    /// The key of a request that opens a WebSocket; nil: it does not, or not as RFC 6455, 4.1, has it.
    package static func key(of head: MessageHead, _ bytes: UnsafeRawBufferPointer) -> String? {
        guard head.method == .get, head.minorVersion >= 1, head.requestBody == .none, isUpgrade(head, bytes) else {
            return nil
        }
        let keys = head.headers.filter { isEqual(bytes, $0.name, "sec-websocket-key") }
        // Sixteen bytes in base64.
        guard keys.count == 1, let key = keys.first?.value, key.count == 24 else { return nil }
        let text = UnsafeRawBufferPointer(rebasing: bytes[key.range])
        guard text[22] == UInt8(ascii: "="), text[23] == UInt8(ascii: "="), text[..<22].allSatisfy(isBase64) else {
            return nil
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Whether this is the 101 of a server that has seen the key.
    package static func isAccepted(_ answer: MessageHead, _ bytes: UnsafeRawBufferPointer, key: String) -> Bool {
        let accepts = answer.headers.filter { isEqual(bytes, $0.name, "sec-websocket-accept") }
        guard answer.status == 101, isUpgrade(answer, bytes), accepts.count == 1, let accept = accepts.first else {
            return false
        }
        return bytes[accept.value.range].elementsEqual(self.accept(for: key).utf8)
    }

    /// To this protocol and no other.
    private static func isUpgrade(_ head: MessageHead, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let protocols = head.headers.filter { $0.known == .upgrade }
        return head.wantsUpgrade && protocols.count == 1 && isEqual(bytes, protocols[0].value, "websocket")
    }

    private static func isBase64(_ byte: UInt8) -> Bool {
        (byte | 0x20) &- 0x61 < 26 || isDigit(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: "/")
    }
}

private func encodeBase64(_ bytes: [UInt8]) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let group = bytes[start..<min(start + 3, bytes.count)]
        let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
        for place in 0...3 {
            text.append(
                place <= group.count ? alphabet[Int(bits >> UInt32(18 - 6 * place) & 63)] : UInt8(ascii: "="))
        }
    }
    return String(decoding: text, as: UTF8.self)
}
