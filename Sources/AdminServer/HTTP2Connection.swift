/// One HTTP/2 connection: how many requests at once, how much they hold together, how long it stays.
import NIOCore
import NIOHTTP2

final class HTTP2Connection: ChannelInboundHandler, OpenConnection {
    typealias InboundIn = HTTP2Frame
    typealias OutboundOut = HTTP2Frame

    private enum Phase {
        /// Not a frame is here.
        case starting
        case serving
        /// The client was told to ask elsewhere; `isHeard`: and has acknowledged it.
        case leaving(isHeard: Bool)
    }

    let connections: ServerConnections
    let responder: HTTPResponder
    private var context: ChannelHandlerContext?
    private var phase = Phase.starting
    private var openStreams = 0
    private var lastStream = HTTP2StreamID.rootStream
    /// Requests that the responder has, with those whose stream is gone.
    private var answering = 0
    private(set) var heldBytes = 0
    private(set) var waitingSince = NIODeadline.now()
    private(set) var peer = ""
    private var deadline: Scheduled<Void>?
    private var age: Scheduled<Void>?
    private let farewell = HTTP2PingData(withInteger: .random(in: .min ... .max))

    var limits: ConnectionLimits { connections.limits }
    var isOpen: Bool { context != nil }
    var isWaitingForClient: Bool { answering == 0 }

    init(_ connections: ServerConnections, responder: @escaping HTTPResponder) {
        self.connections = connections
        self.responder = responder
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        peer = context.channel.remoteAddress?.peer ?? ""
        wait(limits.request) { self.close(.slowRequest) }
        age = context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(limits.age)) { self.leave() }
        connections.add(self)
    }
    func channelInactive(context: ChannelHandlerContext) { close(nil) }

    /// Frames of the connection itself.
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .starting = phase {
            phase = .serving
            if openStreams == 0 { wait(limits.idle) { self.leave() } }
        }
        if case .ping(farewell, ack: true) = unwrapInboundIn(data).payload, case .leaving(isHeard: false) = phase {
            phase = .leaving(isHeard: true)
            goAway(lastStream)
            endIfDone()
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        // Its stream is told.
        case is NIOHTTP2Errors.StreamError: break
        // A stream that came while we were leaving.
        case is NIOHTTP2Errors.NoSuchStream where isLeaving: break
        case is NIOHTTP2Errors.ExcessivelyLargeHeaderBlock, is NIOHTTP2Errors.ExcessiveContinuationFrames:
            close(.largeRequest)
        case is NIOHTTP2Errors.ExcessiveRSTFrames, is NIOHTTP2Errors.ExcessiveControlFrames,
            is NIOHTTP2Errors.ExcessiveStreamErrors, is NIOHTTP2Errors.ExcessiveEmptyDataFrames,
            is NIOHTTP2Errors.ExcessiveNumberOfGlitches, is NIOHTTP2Errors.ExcessiveOutboundFrameBuffering:
            close(.frameFlood)
        default: close(nil)
        }
    }

    func close(_ reason: ShedReason?) {
        connections.remove(self, reason)
        deadline?.cancel()
        age?.cancel()
        guard let context = context.take() else { return }
        if reason == .tooMany { goAway(lastStream, context) }
        context.close(promise: nil)
    }

    // MARK: Streams

    func opened(_ stream: HTTP2StreamID) {
        openStreams += 1
        lastStream = max(lastStream, stream)
        if case .serving = phase { deadline?.cancel() }
    }
    func closed() {
        openStreams -= 1
        guard openStreams == 0 else { return }
        waitingSince = .now()
        if case .serving = phase { wait(limits.idle) { self.leave() } }
        endIfDone()
    }

    /// The client may not have heard of our settings yet, or not care for them; nor does a reset end what was begun.
    var hasRoom: Bool { openStreams <= limits.streams && answering < limits.streams }

    /// Whether the requests are still of a size together. The connection may be closed when this returns.
    func held(_ count: Int) -> Bool {
        heldBytes += count
        // TLS goes on reading until its farewell is out, and a connection that was removed counts no more.
        guard context != nil else { return false }
        connections.held(count)
        return isOpen && heldBytes <= 2 * limits.requestBytes
    }
    func released(_ count: Int) {
        heldBytes -= count
        if context != nil { connections.released(count) }
    }
    func began() { answering += 1 }
    func answered() {
        answering -= 1
        waitingSince = .now()
    }

    // MARK: The end

    private var isLeaving: Bool { if case .leaving = phase { true } else { false } }

    /// What was begun is still answered. Streams that come meanwhile are refused as not looked at, and clients ask
    /// again elsewhere; the ping behind our word tells when they have heard it, so that none is cut off.
    private func leave() {
        guard let context, !isLeaving else { return }
        phase = .leaving(isHeard: false)
        wait(limits.answer) { self.close(nil) }
        goAway(.maxID)
        let ping = HTTP2Frame(streamID: .rootStream, payload: .ping(farewell, ack: false))
        context.writeAndFlush(wrapOutboundOut(ping), promise: nil)
    }

    /// At the next turn of the loop: the answer's last frame is written, and not sent yet.
    private func endIfDone() {
        guard case .leaving(isHeard: true) = phase, openStreams == 0, let context else { return }
        context.eventLoop.assumeIsolated().execute { self.close(nil) }
    }

    private func goAway(_ last: HTTP2StreamID, _ context: ChannelHandlerContext? = nil) {
        let frame = HTTP2Frame(
            streamID: .rootStream, payload: .goAway(lastStreamID: last, errorCode: .noError, opaqueData: nil))
        (context ?? self.context)?.writeAndFlush(wrapOutboundOut(frame), promise: nil)
    }

    private func wait(_ patience: Duration, then end: @escaping () -> Void) {
        deadline?.cancel()
        deadline = context?.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(patience), end)
    }
}
