/// How the agent hands the configuration to the proxy: messages in frames over a Unix socket. The agent listens
/// (/run/heddle/proxy.sock), every proxy of the node connects: while one process takes over from another there are two.
///
///     proxy                                   agent
///       hello(version, pid, generation) ──►
///                                       ◄──   update(base nil: everything)
///       ack(generation)                 ──►        the next update is the difference to this one
///       nack(generation, reason)        ──►        the proxy keeps its last good one; shown in `agentctl status`
///                                       ◄──   query(id, "health" | "upstreams" | ...)
///       answer(id, JSON)                ──►
///
/// Every query is answered within five seconds, an unknown one with `{"error": ...}`; a proxy that does not counts as
/// down. One update is under way at a time. After a nack the agent sends nothing before the configuration changed, and
/// then all of it. The proxy keeps its whole snapshot on disk, as the frame of an update without base.

package enum HandOverMessage: Equatable, Sendable {
    /// `generation`: of the config it starts with, from disk; 0 for none.
    case hello(version: String, pid: UInt32, generation: UInt64)
    case update(ProxyUpdate)
    case ack(UInt64)
    case nack(UInt64, reason: String)
    case query(id: UInt64, String)
    case answer(id: UInt64, [UInt8])
}

extension HandOverMessage: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .hello(let version, let pid, let generation):
            writer.tag(1)
            writer.put(version)
            writer.put(pid)
            writer.put(generation)
        case .update(let update):
            writer.tag(2)
            writer.put(update)
        case .ack(let generation):
            writer.tag(3)
            writer.put(generation)
        case .nack(let generation, let reason):
            writer.tag(4)
            writer.put(generation)
            writer.put(reason)
        case .query(let id, let text):
            writer.tag(5)
            writer.put(id)
            writer.put(text)
        case .answer(let id, let bytes):
            writer.tag(6)
            writer.put(id)
            writer.number(UInt64(bytes.count))
            writer.raw(bytes)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 1: self = .hello(version: try reader.take(), pid: try reader.take(), generation: try reader.take())
        case 2: self = .update(try reader.take())
        case 3: self = .ack(try reader.take())
        case 4: self = .nack(try reader.take(), reason: try reader.take())
        case 5: self = .query(id: try reader.take(), try reader.take())
        case 6: self = .answer(id: try reader.take(), try reader.raw(reader.count()))
        case let tag: throw reader.unknownTag(tag, "message")
        }
    }
}

/// A message with what finds its end and its mistakes: `HDL7`, version, length and checksum, 20 bytes, little-endian.
package enum HandOverFrame {
    package static let headerLength = 20
    /// Raised when the coding of any value changes. Agent and proxy of one release fit; others refuse each other.
    package static let version: UInt32 = 1
    package static let maximumLength = 64 << 20
    private static let magic: UInt32 = 0x374c_4448

    package static func encode(_ message: HandOverMessage) -> [UInt8] {
        var body = WireWriter()
        body.put(message)
        return sealed(body.bytes)
    }

    /// A frame around these bytes.
    package static func sealed(_ body: [UInt8]) -> [UInt8] {
        var frame: [UInt8] = []
        frame.reserveCapacity(headerLength + body.count)
        for word in [magic, version, UInt32(body.count)] { append(word, to: &frame) }
        append(checksum(body.span), to: &frame)
        return frame + body
    }

    /// The message at the beginning of `bytes` and the length of its frame; nil: more bytes are needed.
    package static func decode(_ bytes: Span<UInt8>) throws(WireError) -> (message: HandOverMessage, length: Int)? {
        guard bytes.count >= headerLength else { return nil }
        guard word(bytes, 0) == magic else { throw WireError("it does not begin like a configuration of Heddle") }
        guard word(bytes, 4) == version else {
            throw WireError("it has format \(word(bytes, 4)), not \(version): agent and proxy must be of one release")
        }
        let length = Int(word(bytes, 8))
        guard length <= maximumLength else { throw WireError("it is longer than \(maximumLength) bytes") }
        guard bytes.count - headerLength >= length else { return nil }
        let body = bytes.extracting(headerLength..<(headerLength + length))
        guard UInt64(word(bytes, 12)) | UInt64(word(bytes, 16)) << 32 == checksum(body) else {
            throw WireError("its checksum is wrong: it is torn or damaged")
        }
        var reader = WireReader(body)
        let message: HandOverMessage = try reader.take()
        try reader.finish()
        return (message, headerLength + length)
    }

    private static func append(_ value: some FixedWidthInteger, to frame: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { frame += $0 }
    }

    private static func word(_ bytes: Span<UInt8>, _ at: Int) -> UInt32 {
        var word: UInt32 = 0
        for index in 0..<4 { word |= UInt32(bytes[at + index]) << UInt32(8 * index) }
        return word
    }

    /// FNV-1a over eight bytes at a time.
    private static func checksum(_ bytes: Span<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        var at = 0
        while at < bytes.count {
            var word: UInt64 = 0
            for offset in 0..<min(8, bytes.count - at) { word |= UInt64(bytes[at + offset]) << UInt64(8 * offset) }
            hash = (hash ^ word) &* 0x100_0000_01b3
            hash ^= hash >> 32
            at += 8
        }
        return hash ^ UInt64(bytes.count)
    }
}
