/// How the agent hands the configuration to the proxy: messages in frames over a Unix socket. The agent listens
/// (/run/heddle/proxy.sock), every proxy of the node connects: while one process takes over from another there are two.
///
///     proxy                                   agent
///       hello(version, pid, generation) ──►
///                                       ◄──   update(base nil: everything)
///       ack(generation, ignored)        ──►        the next update is the difference to this one
///       nack(generation, reason)        ──►        the proxy keeps its last good one; shown in `agentctl status`
///                                       ◄──   query(id, "health" | "upstreams" | ...)
///       answer(id, JSON)                ──►
///       certificate(id, identity, CSR)  ──►        where pods of this node are enrolled
///                                       ◄──   certified(id, chain, roots | why not); with id 0: other roots
///                                       ◄──   ownSockets(token)    before the first update, and when it changes
///
/// Every query is answered within five seconds, an unknown one with `{"error": ...}`; a proxy that does not counts as
/// down. One update is under way at a time. After a nack the agent sends nothing before the configuration changed, and
/// then all of it. The proxy keeps its whole snapshot on disk, as the frame of an update without base.
///
/// Two releases understand each other: fields and messages that one does not know it passes over, the proxy tells
/// which in its ack, and what it cannot pass over (a case of an enum) it refuses with a nack.
package import RouteIR

package enum HandOverMessage: Equatable, Sendable {
    /// `generation`: of the config it starts with, from disk; 0 for none.
    case hello(version: String, pid: UInt32, generation: UInt64)
    case update(ProxyUpdate)
    /// `ignored`: what the update said that the proxy does not know.
    case ack(UInt64, ignored: [String] = [])
    /// `generation` 0: of the update under way, which could not be read.
    case nack(UInt64, reason: String)
    case query(id: UInt64, String)
    case answer(id: UInt64, [UInt8])
    case certificate(CertificateQuestion)
    case certified(CertificateAnswer)
    /// Sockets to applications of this node are to be claimed with it; nil: no longer.
    case ownSockets(OwnSocketToken?)
    /// Of a newer release.
    case unknown(UInt8)

    /// Which side says it; the other one's word is not even read.
    package enum Side: Sendable {
        case agent, proxy
    }
    fileprivate static func side(of tag: UInt8) -> Side? {
        switch tag {
        case 1, 3, 4, 6, 7: .proxy
        case 2, 5, 8, 9: .agent
        default: nil
        }
    }
}

extension HandOverMessage: WireCoded {
    /// The fields of all messages but those that have a type of their own.
    private struct Fields: WireRecord {
        var number: UInt64 = 0
        var text = ""
        var pid: UInt32 = 0
        var bytes = Blob()
        var ignored: [String] = []

        init(_ number: UInt64 = 0, _ text: String = "") { (self.number, self.text) = (number, text) }
        init(blank: ()) {}
        mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
            try coder.field(1, &number)
            try coder.field(2, &text)
            try coder.field(3, &pid)
            try coder.field(4, &bytes)
            try coder.field(5, &ignored)
        }
    }
    private struct Blob: WireCoded {
        var bytes: [UInt8] = []

        init() {}
        init(from reader: inout WireReader) throws(WireError) { bytes = reader.rest() }
        func write(to writer: inout WireWriter) { writer.raw(bytes) }
    }

    func write(to writer: inout WireWriter) {
        var fields = Fields()
        switch self {
        case .hello(let version, let pid, let generation):
            writer.tag(1)
            fields = Fields(generation, version)
            fields.pid = pid
        case .update(let update):
            writer.tag(2)
            return writer.put(update)
        case .ack(let generation, let ignored):
            writer.tag(3)
            fields = Fields(generation)
            fields.ignored = ignored
        case .nack(let generation, let reason):
            writer.tag(4)
            fields = Fields(generation, reason)
        case .query(let id, let text):
            writer.tag(5)
            fields = Fields(id, text)
        case .answer(let id, let bytes):
            writer.tag(6)
            fields = Fields(id)
            fields.bytes.bytes = bytes
        case .certificate(let question):
            writer.tag(7)
            return writer.put(question)
        case .certified(let answer):
            writer.tag(8)
            return writer.put(answer)
        case .ownSockets(let token):
            writer.tag(9)
            fields.bytes.bytes = token?.bytes ?? []
        case .unknown(let tag): return writer.tag(tag)
        }
        writer.put(fields)
    }
    init(from reader: inout WireReader) throws(WireError) {
        let tag = try reader.byte()
        switch tag {
        case 2: self = .update(try reader.take())
        case 7: self = .certificate(try reader.take())
        case 8: self = .certified(try reader.take())
        case _ where Self.side(of: tag) == nil:
            _ = reader.rest()
            self = .unknown(tag)
        default: self = Self.message(tag, try reader.take())
        }
    }

    private static func message(_ tag: UInt8, _ fields: Fields) -> HandOverMessage {
        switch tag {
        case 1: .hello(version: fields.text, pid: fields.pid, generation: fields.number)
        case 3: .ack(fields.number, ignored: fields.ignored)
        case 4: .nack(fields.number, reason: fields.text)
        case 5: .query(id: fields.number, fields.text)
        case 9: .ownSockets(OwnSocketToken(fields.bytes.bytes))
        default: .answer(id: fields.number, fields.bytes.bytes)
        }
    }
}

/// A message with what finds its end and its mistakes: `HDL7`, format, length and checksum, 20 bytes, little-endian.
package enum HandOverFrame {
    package static let headerLength = 20
    /// Raised when frames or the way of writing fields change, which no release after format 2 should need. Format 1
    /// had no numbers of fields: proxies of that release keep what they have until their successor has the
    /// configuration.
    package static let format: UInt32 = 2
    package static let maximumLength = 64 << 20
    private static let magic: UInt32 = 0x374c_4448

    package struct Decoded: Sendable {
        /// A frame that is whole and yet cannot be read says why.
        package let message: Result<HandOverMessage, WireError>
        /// Of the frame.
        package let length: Int
        /// What it said that this release does not know.
        package let ignored: [String]
    }

    package static func encode(_ message: HandOverMessage) -> [UInt8] {
        var body = WireWriter()
        body.put(message)
        return sealed(body.bytes)
    }

    /// A frame around these bytes.
    package static func sealed(_ body: [UInt8]) -> [UInt8] {
        var frame: [UInt8] = []
        frame.reserveCapacity(headerLength + body.count)
        for word in [magic, format, UInt32(clamping: body.count)] { append(word, to: &frame) }
        append(checksum(body.span), to: &frame)
        return frame + body
    }

    /// The message at the beginning of `bytes` and the length of its frame; nil: more bytes are needed.
    package static func decode(_ bytes: Span<UInt8>) throws(WireError) -> (message: HandOverMessage, length: Int)? {
        guard let decoded = try read(bytes) else { return nil }
        return (try decoded.message.get(), decoded.length)
    }

    /// nil: more bytes are needed. Throws where nobody can tell where the next frame begins. `side`: whose frames these
    /// are; `limit`: the longest that is waited for.
    package static func read(
        _ bytes: Span<UInt8>, from side: HandOverMessage.Side? = nil, limit: Int = maximumLength
    ) throws(WireError) -> Decoded? {
        guard bytes.count >= headerLength else { return nil }
        if let other = foreignFormat(bytes) {
            throw WireError("it has format \(other), not \(format): agent and proxy are of releases too far apart")
        }
        guard word(bytes, 0) == magic else { throw WireError("it does not begin like a configuration of Heddle") }
        let length = Int(word(bytes, 8))
        guard length <= limit else {
            throw WireError("it has \(length) bytes, more than the \(limit) that are allowed")
        }
        guard bytes.count - headerLength >= length else { return nil }
        let body = bytes.extracting(headerLength..<(headerLength + length))
        guard UInt64(word(bytes, 12)) | UInt64(word(bytes, 16)) << 32 == checksum(body) else {
            throw WireError("its checksum is wrong: it is torn or damaged")
        }
        if let side, length > 0, let sender = HandOverMessage.side(of: body[0]), sender != side {
            throw WireError("message \(body[0]) is not for this side to say")
        }
        var reader = WireReader(body)
        do throws(WireError) {
            let message: HandOverMessage = try reader.take()
            return Decoded(message: .success(message), length: headerLength + length, ignored: reader.ignored)
        } catch {
            return Decoded(message: .failure(error), length: headerLength + length, ignored: [])
        }
    }

    /// The format of a frame that is one of Heddle's, but of another format than this one's; nil: it is none.
    package static func foreignFormat(_ bytes: Span<UInt8>) -> UInt32? {
        guard bytes.count >= headerLength, word(bytes, 0) == magic, word(bytes, 4) != format else { return nil }
        return word(bytes, 4)
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
