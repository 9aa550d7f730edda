/// Takes the bytes of a connection apart into frames, whatever pieces they come in (RFC 9113, 4). A frame that lies
/// whole in what came is read where it lies; DATA is handed on as it comes; only the rest is kept. Checks what can be
/// checked without knowing streams: lengths, padding, stream 0, the order around header blocks.

struct FrameReader: Sendable {
    /// Where bytes lie that are valid until the next call.
    enum Place {
        case input(Range<Int>)
        /// In what `takeHeld` gives.
        case held(Range<Int>)
    }
    enum Piece {
        /// A whole header block, padding, priority and CONTINUATION taken away.
        case headers(stream: UInt32, isLast: Bool, Place)
        /// A DATA frame begins; `length` is what the windows pay for it.
        case dataStart(stream: UInt32, length: Int, padding: Int)
        /// A part of its data. `isLast`: END_STREAM, and nothing of it is left.
        case data(stream: UInt32, Range<Int>, isLast: Bool)
        case resetStream(stream: UInt32, HTTP2Code)
        case settings(Place)
        case settingsAck
        case ping(UInt64, isAck: Bool)
        case goAway(lastStream: UInt32, HTTP2Code)
        case windowUpdate(stream: UInt32, UInt32)
        /// PRIORITY (RFC 9113, 5.3.2), and types that we do not know.
        case ignored
    }
    private enum State {
        case preface(read: Int)
        case header
        case payload(FrameHeader)
        case padLength(FrameHeader)
        case data(stream: UInt32, left: Int, padding: Int, isLast: Bool)
        case skipping(Int)
    }
    static let preface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    private let maxFrameSize: Int
    private let maxBlockSize: Int
    private let maxContinuations: Int
    private var state: State
    private var hasSettings = false
    private var held: [UInt8] = []
    private var heldIsRead = false
    /// The header block whose CONTINUATION is awaited; `blockStream` is 0 if there is none.
    private var block: [UInt8] = []
    private var blockStream: UInt32 = 0
    private var blockIsLast = false
    private var continuations = 0

    init(isServer: Bool, maxFrameSize: Int, maxBlockSize: Int, maxContinuations: Int) {
        state = isServer ? .preface(read: 0) : .header
        self.maxFrameSize = maxFrameSize
        self.maxBlockSize = maxBlockSize
        self.maxContinuations = maxContinuations
    }

    var memory: Int { held.capacity + block.capacity }

    /// The bytes of `Place.held`; they are given back for use again, if there are few.
    mutating func takeHeld() -> [UInt8] {
        defer { held = [] }
        return held
    }
    mutating func giveBack(_ bytes: consuming [UInt8]) { if bytes.capacity <= 1024 { held = bytes } }

    /// nil: all of the input was taken, and more is needed. After a fault of a stream reading goes on behind the frame.
    mutating func next(_ input: UnsafeRawBufferPointer, _ at: inout Int) throws(HTTP2Fault) -> Piece? {
        if heldIsRead {
            heldIsRead = false
            held.removeAll(keepingCapacity: held.capacity <= 1024)
        }
        while true {
            switch state {
            case .preface(let read):
                guard at < input.count else { return nil }
                try readPreface(input, &at, read)
            case .header:
                guard let place = collect(FrameHeader.size, input, &at) else { return nil }
                let header = withBytes(place, input) { FrameHeader($0) }
                held.removeAll(keepingCapacity: true)
                if let piece = try begin(header) { return piece }
            case .payload(let header):
                guard let place = collect(header.length, input, &at) else { return nil }
                state = .header
                if case .held = place { heldIsRead = true }
                if let piece = try read(header, place, input) { return piece }
                if heldIsRead { held.removeAll(keepingCapacity: true) }
                heldIsRead = false
            case .padLength(let header):
                guard at < input.count else { return nil }
                let padding = Int(input[at])
                at += 1
                state = .skipping(header.length - 1)
                // RFC 9113, 6.1: padding as long as the payload or longer.
                guard padding < header.length else { throw .connection(.protocolError, .badPadding) }
                return startData(header, left: header.length - 1 - padding, padding: padding)
            case .data(let stream, let left, let padding, let isLast):
                guard at < input.count || left == 0 else { return nil }
                let count = min(left, input.count - at)
                let range = at..<at + count
                at += count
                state =
                    left > count
                    ? .data(stream: stream, left: left - count, padding: padding, isLast: isLast) : .skipping(padding)
                return .data(stream: stream, range, isLast: isLast && left == count)
            case .skipping(let left):
                let count = min(left, input.count - at)
                at += count
                state = left > count ? .skipping(left - count) : .header
                if left > count { return nil }
            }
        }
    }

    // MARK: Pieces of input

    private mutating func readPreface(
        _ input: UnsafeRawBufferPointer, _ at: inout Int, _ read: Int
    ) throws(HTTP2Fault) {
        // RFC 9113, 3.4. Other protocols are told at the first byte that differs.
        guard input[at] == Self.preface.utf8Start[read] else { throw .connection(.protocolError, .badPreface) }
        at += 1
        state = read + 1 == Self.preface.utf8CodeUnitCount ? .header : .preface(read: read + 1)
    }

    /// So many bytes together, where they came if they came together.
    private mutating func collect(_ count: Int, _ input: UnsafeRawBufferPointer, _ at: inout Int) -> Place? {
        if held.isEmpty, input.count - at >= count {
            at += count
            return .input(at - count..<at)
        }
        let taken = min(count - held.count, input.count - at)
        held.append(contentsOf: input[at..<at + taken])
        at += taken
        return held.count == count ? .held(0..<count) : nil
    }

    private func withBytes<Result>(
        _ place: Place, _ input: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        switch place {
        case .input(let range): body(UnsafeRawBufferPointer(rebasing: input[range]))
        case .held(let range): held.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[range])) }
        }
    }

    // MARK: Frames

    /// What a frame's header says already: whether it may stand here and be so long.
    private mutating func begin(_ header: FrameHeader) throws(HTTP2Fault) -> Piece? {
        state = .payload(header)
        // RFC 9113, 4.2 and 6.10: nothing comes between the frames of a header block.
        if blockStream != 0, header.type != .continuation || header.stream != blockStream {
            throw .connection(.protocolError, .continuationExpected)
        }
        guard header.length <= maxFrameSize else { throw .connection(.frameSizeError, .frameTooLong) }
        if !hasSettings {
            // RFC 9113, 3.4.
            guard header.type == .settings, !header.flags.contains(.ack) else {
                throw .connection(.protocolError, .settingsExpected)
            }
            hasSettings = true
        }
        guard let type = header.type else {
            state = .skipping(header.length)
            return .ignored
        }
        try checkStream(type, header.stream)
        switch type {
        case .data:
            guard header.flags.contains(.padded) else { return startData(header, left: header.length, padding: 0) }
            guard header.length > 0 else { throw .connection(.frameSizeError, .badFrameSize) }
            state = .padLength(header)
        case .priority where header.length != 5:
            state = .skipping(header.length)
            throw .stream(header.stream, .frameSizeError, .badFrameSize)
        case .resetStream where header.length != 4, .windowUpdate where header.length != 4,
            .ping where header.length != 8, .goAway where header.length < 8,
            .settings where header.length % 6 != 0 || header.flags.contains(.ack) && header.length > 0:
            throw .connection(.frameSizeError, .badFrameSize)
        case .pushPromise:
            // RFC 9113, 8.4: clients do not push, and we ask servers not to.
            throw .connection(.protocolError, .pushRefused)
        case .headers where header.length > maxBlockSize + 261:
            // Priority and padding are no part of the block.
            throw .connection(.enhanceYourCalm, .headerBlockTooLong)
        case .continuation:
            guard blockStream != 0 else { throw .connection(.protocolError, .unexpectedContinuation) }
            continuations += 1
            guard continuations <= maxContinuations else {
                throw .connection(.enhanceYourCalm, .tooManyContinuations)
            }
            guard block.count + header.length <= maxBlockSize else {
                throw .connection(.enhanceYourCalm, .headerBlockTooLong)
            }
        default: break
        }
        return nil
    }

    /// RFC 9113, 6: which frames are about a stream, and which are about the connection.
    private func checkStream(_ type: FrameType, _ stream: UInt32) throws(HTTP2Fault) {
        switch type {
        case .settings, .ping, .goAway: if stream != 0 { throw .connection(.protocolError, .badStreamID) }
        case .windowUpdate: break
        default: if stream == 0 { throw .connection(.protocolError, .badStreamID) }
        }
    }

    private mutating func startData(_ header: FrameHeader, left: Int, padding: Int) -> Piece {
        state = .data(
            stream: header.stream, left: left, padding: padding, isLast: header.flags.contains(.endStream))
        return .dataStart(stream: header.stream, length: header.length, padding: header.length - left)
    }

    /// nil: the header block goes on.
    private mutating func read(
        _ header: FrameHeader, _ place: Place, _ input: UnsafeRawBufferPointer
    ) throws(HTTP2Fault) -> Piece? {
        let stream = header.stream
        func number(_ offset: Int) -> UInt32 { withBytes(place, input) { $0.number(at: offset) } }
        switch header.type {
        case .headers: return try readHeaders(header, place, input)
        case .continuation: return continueBlock(header, place, input)
        case .resetStream: return .resetStream(stream: stream, HTTP2Code(rawValue: number(0)))
        case .settings: return header.flags.contains(.ack) ? .settingsAck : .settings(place)
        case .ping: return .ping(UInt64(number(0)) << 32 | UInt64(number(4)), isAck: header.flags.contains(.ack))
        case .goAway: return .goAway(lastStream: number(0) & 0x7fff_ffff, HTTP2Code(rawValue: number(4)))
        case .windowUpdate: return .windowUpdate(stream: stream, number(0) & 0x7fff_ffff)
        default: return .ignored
        }
    }

    private mutating func readHeaders(
        _ header: FrameHeader, _ place: Place, _ input: UnsafeRawBufferPointer
    ) throws(HTTP2Fault) -> Piece? {
        let isPadded = header.flags.contains(.padded)
        let before = (isPadded ? 1 : 0) + (header.flags.contains(.priority) ? 5 : 0)
        guard header.length >= before else { throw .connection(.frameSizeError, .badFrameSize) }
        let padding = isPadded ? withBytes(place, input) { Int($0[0]) } : 0
        guard before + padding <= header.length else { throw .connection(.protocolError, .badPadding) }
        let isLast = header.flags.contains(.endStream)
        let fragment = place.dropping(before, padding)
        if header.flags.contains(.endHeaders) { return .headers(stream: header.stream, isLast: isLast, fragment) }
        (blockStream, blockIsLast, continuations) = (header.stream, isLast, 0)
        block = withBytes(fragment, input) { Array($0) }
        return nil
    }

    private mutating func continueBlock(
        _ header: FrameHeader, _ place: Place, _ input: UnsafeRawBufferPointer
    ) -> Piece? {
        var whole: [UInt8] = []
        swap(&whole, &block)
        withBytes(place, input) { whole.append(contentsOf: $0) }
        guard header.flags.contains(.endHeaders) else {
            block = whole
            return nil
        }
        held = whole
        heldIsRead = true
        defer { blockStream = 0 }
        return .headers(stream: blockStream, isLast: blockIsLast, .held(0..<held.count))
    }
}

extension FrameReader.Place {
    fileprivate func dropping(_ first: Int, _ last: Int) -> Self {
        switch self {
        case .input(let range): .input(range.lowerBound + first..<range.upperBound - last)
        case .held(let range): .held(range.lowerBound + first..<range.upperBound - last)
        }
    }
}
