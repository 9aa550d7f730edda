/// A client's connection that speaks HTTP/2: each stream is a request with an exchange of its own, so that each is
/// balanced for itself.
import Balancing
import HTTPWire
import NIOCore
import NIOHPACK
import NIOHTTP2
import RouteIR

final class HTTP2Downstream: HTTP2Connection, ClientConnection {
    /// Every HTTP/2 connection of a client begins so (RFC 9113, 3.4).
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    private enum Draining {
        case no
        /// The client has been told, and may still have opened streams meanwhile.
        case announced
        case last
        /// Everything is sent; what still comes is not looked at until the client closes.
        case closing(since: Moment)
    }
    fileprivate let arrival: Arrival
    fileprivate var heads = HTTP2Heads(.client)
    private var lastStream = HTTP2StreamID.rootStream
    private var draining = Draining.no
    private var idleSince: Moment
    /// Of `arrival.held`: what the channel keeps, and the connection itself.
    private var pending = 0
    private var ownHeld = 0

    init(_ shard: Shard, _ arrival: Arrival) {
        self.arrival = arrival
        idleSince = shard.now
        super.init(shard)
    }

    override func began(_ context: ChannelHandlerContext) {
        super.began(context)
        try? context.channel.syncOptions?.setOption(.writeBufferWaterMark, value: ReadSizes.unreadFrames)
        shard.opened(self)
        hold(MemoryLimits.http2Connection)
    }
    override func closed() {
        hold(-ownHeld)
        shard.dismiss(arrival)
        shard.closed(self)
    }

    // MARK: On the client's account

    private func hold(_ bytes: Int) {
        ownHeld += bytes
        shard.hold(bytes, arrival)
    }
    override func queuedChanged(by bytes: Int) { shard.hold(bytes, arrival) }
    override func pendingChanged(to bytes: Int) {
        hold(bytes - pending)
        pending = bytes
    }
    var held: Int { arrival.held }
    var source: MemorySource { arrival.source }
    /// Heads are under no window: who takes no answers gets to send no requests.
    override var readsAlways: Bool { false }
    override var unread: Int { arrival.held - ownHeld - queued }

    override func opened(_ id: HTTP2StreamID) -> HTTP2Stream? {
        lastStream = max(lastStream, id)
        return HTTP2RequestStream(id, on: self)
    }
    override func streamEnded() {
        idleSince = shard.now
        // NIO's handler takes a connection without streams for closed once it has said goodbye.
        switch draining {
        case .announced, .last: if streams.isEmpty { closeGently() }
        case .no, .closing: break
        }
    }

    // MARK: The end

    /// First without a limit, so that no request on its way is lost, then for good (RFC 9113, 6.8).
    func drain() {
        guard case .no = draining else { return }
        if streams.isEmpty { return stopAccepting() }
        draining = .announced
        send(.rootStream, .goAway(lastStreamID: .maxID, errorCode: .noError, opaqueData: nil))
        scheduleFlush()
    }
    private func stopAccepting() {
        draining = .last
        send(.rootStream, .goAway(lastStreamID: lastStream, errorCode: .noError, opaqueData: nil))
        scheduleFlush()
        if streams.isEmpty { closeGently() }
    }
    /// Closing at once would reset the connection if the client has sent anything since, and so destroy answers.
    private func closeGently() {
        draining = .closing(since: shard.now)
        scheduleFlush()
        shard.loop.assumeIsolated().execute { self.context?.close(mode: .output, promise: nil) }
    }
    func abort() { close() }

    override func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if case .closing = draining { return }
        super.errorCaught(context: context, error: error)
    }

    func checkDeadline(_ now: Moment) {
        // What was waited for may have gone without a word to this connection, as copies of requests do.
        acknowledgeConnection()
        switch draining {
        case .announced: return stopAccepting()
        case .closing(let since): if now.since(since) > .seconds(2) { close() }
        case .no: if streams.isEmpty, now.since(idleSince) > shard.options.idleTimeout { stopAccepting() }
        case .last: break
        }
        for case let stream as HTTP2RequestStream in streams.values
        where now.since(stream.lastActivity) > shard.options.streamIdleTimeout {
            stream.wasIdle()
        }
    }
}

/// A request on its stream.
private final class HTTP2RequestStream: HTTP2Stream, ResponseSink {
    private var exchange: Exchange?
    private var downstream: HTTP2Downstream? { connection as? HTTP2Downstream }
    /// Headers of the answer itself went out.
    private var hasAnswered = false
    /// Of a body whose length was said.
    private var rest: UInt64?

    // MARK: From the client

    override func receivedHeaders(_ headers: HPACKHeaders, isLast: Bool) {
        guard let downstream else { return }
        do throws(WireViolation) {
            if let exchange {
                guard isLast else { throw WireViolation(400, .badTrailer) }
                exchange.requestEnded(trailers: try downstream.heads.trailers(headers))
                return exchange.flushRequest()
            }
            guard !hasAnswered else { return }
            let (head, bytes) = try downstream.heads.request(headers, hasBody: !isLast)
            let exchange = Exchange(downstream.shard, sink: self, head: head, bytes: bytes, arrival: downstream.arrival)
            self.exchange = exchange
            rest = head.contentLength
            if isLast, let rest, rest > 0 { throw WireViolation(400, .badContentLength) }
            exchange.start()
        } catch { refuse(error) }
    }

    override func receivedData(_ bytes: ByteBuffer, isLast: Bool) {
        guard let exchange else { return }
        if let length = rest {
            let count = UInt64(bytes.readableBytes)
            guard count <= length, !isLast || count == length else {
                return refuse(WireViolation(400, .badContentLength))
            }
            rest = length - count
        }
        if bytes.readableBytes > 0 || isLast { exchange.requestBody(bytes, isLast: isLast) }
        exchange.flushRequest()
    }

    override func wasReset(_ cause: HTTP2Reset) {
        let exchange = exchange
        self.exchange = nil
        exchange?.clientClosed()
    }
    override func becameWritable() { exchange?.clientIsWritable() }

    private func refuse(_ violation: WireViolation) {
        guard let downstream else { return }
        let shard = downstream.shard
        shard.stats.violations[violation.detail.rawValue, default: 0] += 1
        if let exchange {
            exchange.record.failure = violation.detail.rawValue
            return exchange.refuse(violation.status, .downstreamProtocolError, "http2.violation")
        }
        shard.report(violation, downstream.arrival, details: "http2.violation")
        hasAnswered = true
        sendHeaders([":status": "\(violation.status)", "content-length": "0"], isLast: true)
        // What is malformed is not read to its end.
        resetAfterSending(.noError)
    }

    /// Neither side has sent anything for too long. A call may well be silent (gRPC has deadlines and pings for that).
    func wasIdle() {
        guard let exchange, !exchange.isGRPC else { return }
        exchange.refuse(504, .idleTimeout, "stream_idle_timeout")
    }

    // MARK: To the client

    var speaksHTTP2: Bool { true }

    func writeHead(_ bytes: ByteBuffer, isLast: Bool) throws(WireViolation) {
        // Without a connection the exchange has been told that the client is gone.
        guard let downstream else { return }
        let (headers, status) = try downstream.heads.response(bytes, limit: downstream.maxFrameSize)
        if status >= 200 { hasAnswered = true }
        sendHeaders(headers, isLast: isLast)
    }
    func writeBody(_ bytes: ByteBuffer, isLast: Bool) { if !isEnded { sendData(bytes, isLast: isLast) } }

    func finished(_ exchange: Exchange, keepsAlive: Bool, trailers: ByteBuffer?) {
        self.exchange = nil
        if !isEnded, let downstream {
            do throws(WireViolation) {
                endBody(try downstream.heads.trailers(trailers, limit: downstream.maxFrameSize))
            } catch { return reset(.internalError) }
        }
        // The rest of a request that was answered before its end is of no use to anyone.
        if !exchange.machine.isRequestComplete { resetAfterSending(.noError) }
        flush()
    }
    func aborted(_ exchange: Exchange) {
        self.exchange = nil
        reset(.internalError)
    }
    func pauseRequest() { pause() }
    func resumeRequest() { resume() }
    // Upgrades are HTTP/1's.
    func becameTunnel() {}
    func tunnelEnded() {}
}
