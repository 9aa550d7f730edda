/// What the two sides of HTTP/2 share: streams, windows, flushing. NIO's handler below does frames, header compression
/// and the protocol's states; streams are plain objects here, because a channel for each costs more than the rest.
import Balancing
import HTTPWire
import NIOCore
import NIOHPACK
import NIOHTTP2

/// Why a stream ended before its end.
enum HTTP2Reset {
    case byPeer
    /// The peer said that it did nothing with the request.
    case refused
    /// What the peer sent was malformed, and NIO's handler has ended the stream.
    case violation
    case connectionClosed
}

/// Half of an exchange, on one stream. Sides override what they get.
class HTTP2Stream {
    let id: HTTP2StreamID
    /// nil: the stream is over, which also ends the circle of references.
    fileprivate(set) var connection: HTTP2Connection?
    /// DATA that the peer's windows have not let out yet.
    fileprivate(set) var queued = 0
    /// In how many pieces, each of which costs more than its bytes; since nothing was queued.
    private var pieces = 0
    fileprivate var isFull = false
    /// Bytes received for which no window was given back.
    fileprivate var unacknowledged = 0
    fileprivate var isPaused = false
    fileprivate var hasEnded = false
    fileprivate var peerHasEnded = false
    fileprivate var lastCode: HTTP2ErrorCode?
    fileprivate(set) var lastActivity: Moment

    init(_ id: HTTP2StreamID, on connection: HTTP2Connection) {
        self.id = id
        self.connection = connection
        lastActivity = connection.shard.now
    }

    // What came from the peer:
    func receivedHeaders(_ headers: HPACKHeaders, isLast: Bool) {}
    func receivedData(_ bytes: ByteBuffer, isLast: Bool) {}
    func wasReset(_ cause: HTTP2Reset) {}
    func becameWritable() {}

    var isWritable: Bool { !isFull && connection != nil }
    var isOver: Bool { connection == nil }
    /// Nothing more can be sent.
    var isEnded: Bool { hasEnded || isOver }

    // For the peer:
    func sendHeaders(_ headers: HPACKHeaders, isLast: Bool) {
        connection?.write(self, .headers(.init(headers: headers, endStream: isLast)), isLast)
    }
    func sendData(_ bytes: ByteBuffer, isLast: Bool) {
        guard let connection else { return }
        queued += bytes.readableBytes
        pieces = queued == 0 ? 0 : pieces + 1
        connection.queued += bytes.readableBytes
        isFull = isFull || queued > connection.watermark || pieces > HTTP2Connection.maximumPieces
        connection.write(self, .data(.init(data: .byteBuffer(bytes), endStream: isLast)), isLast)
    }
    func endBody(_ trailers: HPACKHeaders) {
        if trailers.isEmpty { sendData(ByteBuffer(), isLast: true) } else { sendHeaders(trailers, isLast: true) }
    }
    func reset(_ code: HTTP2ErrorCode) { connection?.reset(self, code) }
    /// A reset throws away what waits to be sent, so this one waits for it.
    func resetAfterSending(_ code: HTTP2ErrorCode) {
        lastCode = code
        connection?.scheduleFlush()
        connection?.resetIfSent(self)
    }
    func flush() { connection?.scheduleFlush() }

    fileprivate func sent(_ bytes: Int) {
        queued -= bytes
        if queued == 0 { pieces = 0 }
    }
    fileprivate func hasRoom(below watermark: Int) -> Bool {
        queued < watermark && (pieces <= HTTP2Connection.maximumPieces || queued == 0)
    }

    /// No window is given back for what comes from now on.
    func pause() { isPaused = true }
    func resume() {
        isPaused = false
        connection?.acknowledge(self)
    }
}

class HTTP2Connection: ChannelDuplexHandler {
    typealias InboundIn = HTTP2Frame
    typealias OutboundIn = HTTP2Frame
    typealias OutboundOut = HTTP2Frame

    private static let highWatermark = 64 << 10
    /// Of a stream while all streams together have more queued than `connectionWatermark`: a few that the peer does not
    /// read must not fill the memory, and must not hold up the others either.
    private static let crowdedWatermark = 4 << 10
    private static let connectionWatermark = 1 << 20
    fileprivate static let maximumPieces = 256
    /// The connection's window stays shut while so much that came over it waits.
    private static let maximumUnread = 4 << 20
    /// What a peer may send ahead on one stream, and on the connection: memory a slow reader can cost.
    private static let streamWindow = 256 << 10
    private static let connectionWindow = 1 << 20

    let shard: Shard
    private(set) var context: ChannelHandlerContext?
    private(set) var streams: [HTTP2StreamID: HTTP2Stream] = [:]
    /// DATA of all streams that the peer's windows have not let out.
    fileprivate(set) var queued = 0 { didSet { queuedChanged(by: queued - oldValue) } }
    fileprivate var watermark: Int { queued > Self.connectionWatermark ? Self.crowdedWatermark : Self.highWatermark }
    private var unacknowledged = 0
    private var wantsRead = false
    private var flushIsScheduled = false
    /// The longest frame that the peer takes. NIO's handler cannot divide a head, so it is a head's limit, too.
    private(set) var maxFrameSize = 16 << 10
    /// NIO's handler has said goodbye because of a mistake that ends the connection.
    fileprivate var hasFailed = false

    init(_ shard: Shard) { self.shard = shard }

    /// Puts NIO's handler and this one into a channel whose other handlers are gone.
    func install(in channel: any Channel, as mode: NIOHTTP2Handler.ParserMode) throws {
        var connection = NIOHTTP2Handler.ConnectionConfiguration()
        connection.initialSettings = [
            HTTP2Setting(parameter: .maxConcurrentStreams, value: 100),
            HTTP2Setting(parameter: .initialWindowSize, value: Self.streamWindow),
            HTTP2Setting(parameter: .maxHeaderListSize, value: 60 << 10),
        ]
        // It knows nothing of HEAD on the server's side; requests are checked where they are read.
        // Heads are checked where they are translated, too; twice would cost a tenth of a request.
        connection.headerBlockValidation = .disabled
        if mode == .server { connection.contentLengthValidation = .disabled }
        if mode == .client { connection.initialSettings.append(HTTP2Setting(parameter: .enablePush, value: 0)) }
        // Some clients end every message with an empty frame of its own.
        connection.maximumSequentialEmptyDataFrames = 8
        connection.maximumBufferedControlFrames = 1024
        connection.controlFrameRateLimit.maximumCount = 1000
        var stream = NIOHTTP2Handler.StreamConfiguration()
        // Cancelling is part of gRPC's daily life; a flood is another order of magnitude.
        stream.streamResetFrameRateLimit.maximumCount = 1000
        let handler = NIOHTTP2Handler(
            mode: mode, frameDelegate: SentFrames(self), connectionConfiguration: connection,
            streamConfiguration: stream)
        try channel.pipeline.syncOperations.addHandlers(handler, self)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if context.channel.isActive { began(context) }
    }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }
    func channelActive(context: ChannelHandlerContext) { began(context) }

    func began(_ context: ChannelHandlerContext) {
        send(.rootStream, .windowUpdate(windowSizeIncrement: Self.connectionWindow - 65535))
        context.flush()
    }

    // MARK: What a side overrides

    /// The peer opens a stream; nil: it may not.
    func opened(_ id: HTTP2StreamID) -> HTTP2Stream? { nil }
    func receivedSettings(_ settings: HTTP2Settings) {}
    func receivedGoAway(lastStream: HTTP2StreamID) {}
    func streamEnded() {}
    func closed() {}
    /// `queued` has changed; the channel holds so much that the kernel does not take.
    func queuedChanged(by bytes: Int) {}
    func pendingChanged(to bytes: Int) {}
    /// What waits here of what the peer sent.
    var unread: Int { 0 }
    /// Also from a peer that does not read.
    var readsAlways: Bool { true }

    // MARK: Receiving

    func read(context: ChannelHandlerContext) {
        if readsAlways || context.channel.isWritable { context.read() } else { wantsRead = true }
    }
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        context.fireChannelWritabilityChanged()
        guard context.channel.isWritable else { return }
        pendingChanged(to: 0)
        if wantsRead {
            wantsRead = false
            context.read()
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        switch frame.payload {
        case .headers(let payload):
            guard let stream = streams[frame.streamID] ?? start(frame.streamID) else { return }
            stream.lastActivity = shard.now
            stream.peerHasEnded = stream.peerHasEnded || payload.endStream
            stream.receivedHeaders(payload.headers, isLast: payload.endStream)
            endIfOver(stream)
        case .data(let payload): received(payload, on: frame.streamID)
        case .rstStream(let code):
            remove(frame.streamID)?.wasReset(code == .refusedStream ? .refused : .byPeer)
        case .goAway(let lastStream, _, _): receivedGoAway(lastStream: lastStream)
        case .settings(.settings(let settings)):
            for setting in settings where setting.parameter == .maxFrameSize { maxFrameSize = setting.value }
            receivedSettings(settings)
        default: break
        }
    }

    private func start(_ id: HTTP2StreamID) -> HTTP2Stream? {
        let stream = opened(id)
        streams[id] = stream
        return stream
    }
    func add(_ stream: HTTP2Stream) { streams[stream.id] = stream }

    private func received(_ payload: HTTP2Frame.FramePayload.Data, on id: HTTP2StreamID) {
        guard case .byteBuffer(let bytes) = payload.data else { return }
        let size = bytes.readableBytes + (payload.paddingBytes.map { $0 + 1 } ?? 0)
        // The connection's window is for all streams: one whose bytes nobody takes must not hold up the others.
        unacknowledged += size
        acknowledgeConnection()
        guard let stream = streams[id] else { return }
        stream.lastActivity = shard.now
        stream.unacknowledged += size
        stream.peerHasEnded = stream.peerHasEnded || payload.endStream
        stream.receivedData(bytes, isLast: payload.endStream)
        acknowledge(stream)
        endIfOver(stream)
    }

    func acknowledgeConnection() {
        guard unacknowledged > Self.connectionWindow / 2, unread < Self.maximumUnread else { return }
        send(.rootStream, .windowUpdate(windowSizeIncrement: unacknowledged))
        unacknowledged = 0
        scheduleFlush()
    }
    fileprivate func acknowledge(_ stream: HTTP2Stream) {
        acknowledgeConnection()
        guard !stream.isPaused, !stream.peerHasEnded, stream.connection != nil,
            stream.unacknowledged > Self.streamWindow / 2
        else { return }
        send(stream.id, .windowUpdate(windowSizeIncrement: stream.unacknowledged))
        stream.unacknowledged = 0
        scheduleFlush()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        // Ends that are in order were seen in the frames; what is left was reset, perhaps by NIO's handler.
        case let event as StreamClosedEvent:
            if event.reason != nil { remove(event.streamID)?.wasReset(.violation) }
        case ChannelEvent.inputClosed: context.close(promise: nil)
        default: break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        // First, so that nobody who waits is given a place here.
        closed()
        for id in streams.keys.sorted() { remove(id)?.wasReset(.connectionClosed) }
    }

    /// NIO's handler answers mistakes on a stream by resetting it and mistakes on the connection by a GOAWAY. After a
    /// head that it began and could not send, the peer's table of fields is no longer ours.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let error = error as? NIOHTTP2Errors.StreamError { return failed(error.streamID) }
        let isDesynchronised = error is NIOHTTP2Errors.UnableToSerializeFrame
        if hasFailed || isDesynchronised || !context.channel.isActive { context.close(promise: nil) }
    }

    /// A mistake of the peer's ends the stream before this turn is over; what could not be sent to it ends it here.
    private func failed(_ id: HTTP2StreamID) {
        shard.loop.assumeIsolated().execute {
            guard let stream = self.streams[id] else { return }
            self.reset(stream, .internalError)
            stream.wasReset(.violation)
        }
    }

    // MARK: Sending

    fileprivate func write(_ stream: HTTP2Stream, _ payload: HTTP2Frame.FramePayload, _ isLast: Bool) {
        stream.lastActivity = shard.now
        send(stream.id, payload)
        if isLast {
            stream.hasEnded = true
            scheduleFlush()
            endIfOver(stream)
        }
    }
    func send(_ id: HTTP2StreamID, _ payload: HTTP2Frame.FramePayload) {
        context?.write(wrapOutboundOut(HTTP2Frame(streamID: id, payload: payload)), promise: nil)
    }
    fileprivate func reset(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
        guard remove(stream.id) != nil else { return }
        send(stream.id, .rstStream(code))
        scheduleFlush()
    }

    /// In the turn after the flush that is due.
    fileprivate func resetIfSent(_ stream: HTTP2Stream) {
        shard.loop.assumeIsolated().execute {
            if let code = stream.lastCode, stream.queued == 0, !stream.isOver { self.reset(stream, code) }
        }
    }

    /// Once for all streams that have something to send in this turn of the loop.
    func scheduleFlush() {
        guard !flushIsScheduled else { return }
        flushIsScheduled = true
        shard.loop.assumeIsolated().execute {
            self.flushIsScheduled = false
            guard let context = self.context else { return }
            context.flush()
            if !context.channel.isWritable { self.pendingChanged(to: context.channel.pendingBytes) }
        }
    }

    fileprivate func sent(_ frame: HTTP2Frame) {
        switch frame.payload {
        case .data(let payload):
            guard let stream = streams[frame.streamID] else { return }
            stream.sent(payload.data.readableBytes)
            queued -= payload.data.readableBytes
            stream.lastActivity = shard.now
            if stream.lastCode != nil { resetIfSent(stream) }
            endIfOver(stream)
            guard stream.isFull, stream.hasRoom(below: watermark / 2) else { return }
            stream.isFull = false
            // Not from inside NIO's handler.
            shard.loop.assumeIsolated().execute { if !stream.isOver { stream.becameWritable() } }
        case .goAway(_, let code, _): if code != .noError { hasFailed = true }
        default: break
        }
    }

    // MARK: Streams

    private func endIfOver(_ stream: HTTP2Stream) {
        if stream.hasEnded, stream.peerHasEnded, stream.queued == 0 { remove(stream.id) }
    }
    @discardableResult func remove(_ id: HTTP2StreamID) -> HTTP2Stream? {
        guard let stream = streams.removeValue(forKey: id) else { return nil }
        stream.connection = nil
        queued -= stream.queued
        acknowledgeConnection()
        streamEnded()
        return stream
    }
    func close() { context?.close(promise: nil) }
}

/// Sees what really goes out.
// Called on the channel's loop only, as the connection is.
private struct SentFrames: NIOHTTP2FrameDelegate {
    private let connection: HTTP2Connection
    init(_ connection: HTTP2Connection) { self.connection = connection }
    func wroteFrame(_ frame: HTTP2Frame) { connection.sent(frame) }
}
