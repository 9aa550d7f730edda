/// Finds where a body ends, and its payload between the marks of the chunked coding. It keeps no bytes except trailers,
/// so a body of any length passes through in the buffers it came in.

package struct BodyReader: Sendable {
    private enum State: Sendable {
        case remaining(UInt64)
        case untilClose
        case chunkSize(UInt64, digits: UInt8)
        case chunkExtension(UInt64)
        case chunkSizeEnd(UInt64)
        case chunk(UInt64)
        case chunkEnd
        case chunkLineFeed
        case trailer
        case complete
    }
    /// Of all chunk extensions of a message: nobody needs them, and they cost the reader of each chunk.
    private static let extensionLimit: UInt32 = 4 << 10
    private static let trailerLimit = 8 << 10

    private var state: State
    private var extensionBytes: UInt32 = 0
    /// The lines after the last chunk, with the empty one that ends them.
    package private(set) var trailers: [UInt8] = []

    package init(_ framing: BodyFraming) {
        state =
            switch framing {
            case .none: .complete
            case .length(let length): length == 0 ? .complete : .remaining(length)
            case .chunked: .chunkSize(0, digits: 0)
            case .untilClose: .untilClose
            }
    }

    package var isComplete: Bool { if case .complete = state { true } else { false } }
    package var endsWithConnection: Bool { if case .untilClose = state { true } else { false } }

    /// The connection has ended: true if the body has, too.
    package mutating func connectionEnded() -> Bool {
        if endsWithConnection { state = .complete }
        return isComplete
    }

    /// How many of the bytes belong to this body; `payload` is called for each piece of content among them.
    package mutating func read(
        _ bytes: UnsafeRawBufferPointer, payload: (Range<Int>) -> Void
    ) throws(WireViolation) -> Int {
        var at = 0
        while at < bytes.count {
            switch state {
            case .complete: return at
            case .untilClose:
                payload(at..<bytes.count)
                return bytes.count
            case .remaining(let length), .chunk(let length):
                let count = Int(min(UInt64(bytes.count - at), length))
                payload(at..<at + count)
                at += count
                advance(past: UInt64(count), of: length)
            default:
                try step(bytes[at])
                at += 1
            }
        }
        return at
    }

    private mutating func advance(past count: UInt64, of length: UInt64) {
        let rest = length - count
        if case .chunk = state {
            state = rest == 0 ? .chunkEnd : .chunk(rest)
        } else {
            state = rest == 0 ? .complete : .remaining(rest)
        }
    }

    /// One byte of what stands between the payload.
    private mutating func step(_ byte: UInt8) throws(WireViolation) {
        switch state {
        case .chunkSize(let size, let digits):
            if let digit = hexValue(byte), digits < 15 {
                state = .chunkSize(size << 4 | UInt64(digit), digits: digits + 1)
            } else if digits > 0, byte == 0x0d {
                state = .chunkSizeEnd(size)
            } else if digits > 0, byte == UInt8(ascii: ";") {
                state = .chunkExtension(size)
            } else {
                throw WireViolation(400, .badChunk)
            }
        case .chunkExtension(let size):
            extensionBytes += 1
            guard byte == 0x0d || isValueByte(byte), extensionBytes <= Self.extensionLimit else {
                throw WireViolation(400, .badChunk)
            }
            if byte == 0x0d { state = .chunkSizeEnd(size) }
        case .chunkSizeEnd(let size):
            guard byte == 0x0a else { throw WireViolation(400, .badChunk) }
            state = size == 0 ? .trailer : .chunk(size)
        case .chunkEnd:
            guard byte == 0x0d else { throw WireViolation(400, .badChunk) }
            state = .chunkLineFeed
        case .chunkLineFeed:
            guard byte == 0x0a else { throw WireViolation(400, .badChunk) }
            state = .chunkSize(0, digits: 0)
        case .trailer: try collectTrailer(byte)
        case .remaining, .chunk, .untilClose, .complete: break
        }
    }

    private mutating func collectTrailer(_ byte: UInt8) throws(WireViolation) {
        trailers.append(byte)
        guard trailers.count <= Self.trailerLimit else { throw WireViolation(431, .headTooLong) }
        guard byte == 0x0a else { return }
        guard trailers.count >= 2, trailers[trailers.count - 2] == 0x0d else {
            throw WireViolation(400, .bareLineFeed)
        }
        let isEnd = trailers.count == 2 || trailers.count >= 4 && trailers[trailers.count - 3] == 0x0a
        if isEnd {
            for line in try trailerLines() {
                // What frames or addresses a message is too late here.
                switch line.known {
                case .host, .contentLength, .transferEncoding, .connection, .upgrade, .te, .trailer, .expect:
                    throw WireViolation(400, .badTrailer)
                default: break
                }
            }
            state = .complete
        }
    }

    /// The fields of `trailers`.
    package func trailerLines() throws(WireViolation) -> [HeaderLine] {
        let lines: Result<[HeaderLine], WireViolation> = trailers.withUnsafeBytes { bytes in
            Result { () throws(WireViolation) in
                var lines: [HeaderLine] = []
                var start = 0
                for at in bytes.indices where bytes[at] == 0x0a {
                    if at - 1 > start { lines.append(try readField(bytes, ByteRange(start, at - 1))) }
                    start = at + 1
                }
                return lines
            }
        }
        return try lines.get()
    }
}
