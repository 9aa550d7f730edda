/// Half of an exchange, on one stream of HTTP/2: what the peer's windows and the connection do not take waits here.
import Balancing
import HTTP2Wire
import HTTPWire
import NIOCore

/// Why a stream ended before its end.
enum HTTP2Reset {
    case byPeer
    /// The peer said that it did nothing with the request.
    case refused
    /// The same of all streams behind the last one that its GOAWAY speaks of.
    case leaving
    /// What the peer sent was malformed, and the stream was reset.
    case violation(HTTP2Fault)
    case connectionClosed
}

/// Sides override what they get.
class HTTP2Stream {
    /// How the sending side ends, once everything is out.
    private enum Ending {
        /// Trailers as lines of HTTP/1: a list of fields may have far more memory than it needs.
        case open, data, trailers(ByteBuffer)
        /// END_STREAM is out.
        case sent
    }
    private static let maximumPieces = 256

    /// 0: not opened yet.
    var id: UInt32
    /// nil: the stream is over, which also ends the circle of references.
    private(set) var connection: HTTP2Connection?
    /// Bytes that wait for the peer's windows, or for the channel.
    private(set) var queued = 0
    /// In pieces, each of which costs more than its bytes; those before `first` are out.
    private var pieces: [ByteBuffer] = []
    private var first = 0
    private var ending = Ending.open
    private var isFull = false
    private var lastCode: HTTP2Code?
    /// Waits for the channel, in the connection's list.
    var isStalled = false
    /// Received, and still the owner's.
    private var unconsumed = 0
    private var isPaused = false
    private(set) var peerHasEnded = false
    private(set) var lastActivity: Moment

    init(_ id: UInt32, on connection: HTTP2Connection) {
        self.id = id
        self.connection = connection
        lastActivity = connection.shard.now
    }

    // What came from the peer; fields are in `shard.fields`:
    func receivedInterim(_ facts: HeadFacts) {}
    func receivedHead(_ facts: HeadFacts, isLast: Bool) {}
    func receivedData(_ bytes: ByteBuffer, isLast: Bool) {}
    func receivedTrailers() {}
    func wasReset(_ cause: HTTP2Reset) {}
    func becameWritable() {}
    /// Both sides have sent all.
    func ended() { connection?.remove(self) }

    var isWritable: Bool { !isFull && connection != nil }
    var isOver: Bool { connection == nil }
    /// Nothing more can be sent.
    var isEnded: Bool { if case .open = ending { isOver } else { true } }
    /// Nothing waits to be sent either.
    var hasSentAll: Bool { if case .sent = ending { true } else { isOver } }

    // MARK: For the peer

    func sendHead(_ fields: FieldList, isLast: Bool) throws(SendRefusal) {
        guard let connection else { return }
        try connection.machine.sendHead(id, fields, isLast: isLast)
        wrote(isLast: isLast)
    }
    /// The head went out by other means.
    func wrote(isLast: Bool) {
        guard let connection else { return }
        lastActivity = connection.shard.now
        connection.flushLater()
        if isLast { sentAll() }
    }

    func sendData(_ bytes: ByteBuffer, isLast: Bool) {
        guard let connection, !isEnded else { return }
        lastActivity = connection.shard.now
        if isLast { ending = .data }
        var bytes = bytes
        if first == pieces.count {
            let size = bytes.readableBytes
            guard size > 0 || isLast else { return }
            connection.write(&bytes, of: self, isLast: isLast)
            if bytes.readableBytes == 0 {
                if isLast { sentAll() }
                return
            }
        }
        enqueue(bytes, connection)
    }

    /// What lies in a much larger buffer would keep all of that, for as long as the peer likes.
    private func compact(_ piece: inout ByteBuffer) {
        if piece.storageCapacity > 4 * piece.readableBytes { piece = ByteBuffer(bytes: piece.readableBytesView) }
    }
    private func enqueue(_ bytes: ByteBuffer, _ connection: HTTP2Connection) {
        let size = bytes.readableBytes
        guard size > 0 else { return }
        pieces.keep(bytes, from: first)
        count(size, connection)
        isFull = isFull || queued > connection.watermark || pieces.count - first > Self.maximumPieces
        if !connection.isWritable { connection.stall(self) }
    }

    private func count(_ bytes: Int, _ connection: HTTP2Connection) {
        queued += bytes
        connection.queued += bytes
    }

    /// Ends the body, with fields behind it: lines with their CRLFs.
    func endBody(_ trailers: ByteBuffer?) throws(SendRefusal) {
        guard let connection, !isEnded else { return }
        guard let trailers else { return sendData(ByteBuffer(), isLast: true) }
        guard first == pieces.count else {
            ending = .trailers(trailers)
            return count(trailers.readableBytes, connection)
        }
        try send(trailers, connection)
    }
    private func send(_ trailers: ByteBuffer, _ connection: HTTP2Connection) throws(SendRefusal) {
        connection.shard.heads.setTrailers(trailers)
        let fields = connection.shard.heads.list
        if fields.isEmpty {
            _ = try connection.machine.sendData(id, UnsafeRawBufferPointer(start: nil, count: 0), isLast: true)
        } else {
            try connection.machine.sendTrailers(id, fields)
        }
        wrote(isLast: true)
    }

    /// Goes on where windows or the channel stopped it.
    func pump() {
        guard let connection, first < pieces.count else { return }
        lastActivity = connection.shard.now
        while first < pieces.count {
            let size = pieces[first].readableBytes
            let isLast = if case .data = ending { first == pieces.count - 1 } else { false }
            guard connection.isWritable else { return connection.stall(self) }
            connection.write(&pieces[first], of: self, isLast: isLast)
            let rest = pieces[first].readableBytes
            count(rest - size, connection)
            if rest > 0 {
                compact(&pieces[first])
                if !connection.isWritable { connection.stall(self) }
                break
            }
            // What is out has no claim to its memory, whenever the queue comes to its end.
            pieces[first] = ByteBuffer()
            first += 1
        }
        if first > 16, first < pieces.count, 2 * first > pieces.count {
            pieces.removeFirst(first)
            first = 0
        }
        if first == pieces.count { finishQueue(connection) }
        guard isFull, queued < connection.watermark / 2, pieces.count - first <= Self.maximumPieces else { return }
        isFull = false
        if !isOver { becameWritable() }
    }

    private func finishQueue(_ connection: HTTP2Connection) {
        pieces.removeAll(keepingCapacity: pieces.count < 8)
        first = 0
        switch ending {
        case .open, .sent: break
        case .data: return sentAll()
        case .trailers(let trailers):
            count(-trailers.readableBytes, connection)
            do throws(SendRefusal) { try send(trailers, connection) } catch { cannotSendTrailers(error) }
            return
        }
        if let lastCode { reset(lastCode) }
    }
    /// They waited behind data, and whoever sent them has gone.
    func cannotSendTrailers(_ refusal: SendRefusal) { reset(.internalError) }

    private func sentAll() {
        ending = .sent
        if let lastCode, !peerHasEnded { return reset(lastCode) }
        endIfOver()
    }
    private func endIfOver() {
        if case .sent = ending, peerHasEnded { ended() }
    }

    func reset(_ code: HTTP2Code) {
        guard let connection else { return }
        connection.machine.reset(id, code)
        connection.remove(self)
        connection.flushLater()
    }
    /// A reset throws away what waits to be sent, so this one waits for it.
    func resetAfterSending(_ code: HTTP2Code) {
        if queued == 0 { reset(code) } else { lastCode = code }
    }
    func flush() { connection?.flushLater() }

    // MARK: From the peer

    /// No window is given back for what comes from now on.
    func pause() { isPaused = true }
    func resume() {
        isPaused = false
        returnWindow()
    }

    func took(_ bytes: ByteBuffer, isLast: Bool) {
        guard let connection else { return }
        lastActivity = connection.shard.now
        unconsumed += bytes.readableBytes
        peerHasEnded = peerHasEnded || isLast
        receivedData(bytes, isLast: isLast)
        returnWindow()
        endIfOver()
    }
    func took(isLast: Bool, _ receive: () -> Void) {
        guard let connection else { return }
        lastActivity = connection.shard.now
        peerHasEnded = peerHasEnded || isLast
        receive()
        endIfOver()
    }

    /// A whole body may wait for its endpoint without being paused: while too much of that lies here, the connection's
    /// window stays as it is.
    func returnWindow() {
        guard unconsumed > 0, !isPaused, let connection else { return }
        guard !peerHasEnded || connection.unread < HTTP2Connection.maximumUnread else {
            connection.holdsWindows = true
            return
        }
        connection.machine.consumed(id, unconsumed)
        unconsumed = 0
        connection.flushIfNeeded()
    }

    /// Taken out of its connection.
    func left(_ connection: HTTP2Connection) {
        self.connection = nil
        if isStalled { connection.unstall(self) }
        if unconsumed > 0 { connection.machine.consumed(id, unconsumed) }
        connection.queued -= queued
        (pieces, first, queued) = ([], 0, 0)
    }
}
