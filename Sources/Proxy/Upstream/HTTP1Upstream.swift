/// A connection to an endpoint: sends the bytes of one request at a time, reads the head of the answer and passes its
/// body on as it comes.
import Addressing
import Balancing
import Glibc
import HTTPWire
import NIOCore
import RouteIR

final class HTTP1Upstream: ChannelDuplexHandler, UpstreamStream, PendingUpstream {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        case idle, head, body, tunnel, closed
    }

    let address: SocketAddress
    let host: EndpointBalancer.HostID
    /// nil: plaintext.
    let route: TunnelRoute?
    private let pool: UpstreamPool
    private unowned let shard: Shard
    private var context: ChannelHandlerContext?
    /// Waits for the connection to be made.
    private var waiting: Exchange?
    /// Until its answer is complete, or either side gives up.
    private var exchange: Exchange?
    private var phase = Phase.idle
    private var parser = HeadParser(.response)
    private var body = BodyReader(.none)
    private var buffer = ByteBuffer()
    private var isPaused = false
    private var wantsRead = false
    private var answerKeepsAlive = false
    /// Written, but not flushed yet, and so short that it can wait for that.
    private var outgoing = ByteBuffer()
    private var socket = DirectSocket()
    /// The endpoint has ended its side in order, which alone ends a body of unknown length.
    private var inputEnded = false
    /// Of a tunnel: the endpoint was told that nothing more comes.
    private var outputEnded = false
    private var hasFailed = false
    /// Its tunnel ends as soon as this connection does.
    private var isLeaving = false
    /// Requests that were sent on this connection.
    private(set) var served: UInt32 = 0
    private(set) var idleSince: Moment
    /// Whether any byte of the current answer has come.
    private(set) var hasAnswered = false
    private(set) var link: Connector.Link?

    private init(
        _ address: SocketAddress, _ route: TunnelRoute?, _ host: Int, _ pool: UpstreamPool, _ shard: Shard
    ) {
        self.address = address
        self.route = route
        self.host = host
        self.pool = pool
        self.shard = shard
        idleSince = shard.now
    }

    static func connect(
        to address: SocketAddress, by way: Way, _ host: Int, _ pool: UpstreamPool, _ shard: Shard,
        for exchange: Exchange
    ) {
        let upstream = HTTP1Upstream(address, way.route, host, pool, shard)
        upstream.waiting = exchange
        // First, because it may fail within the call, and the exchange may then wait for another one.
        exchange.pending = upstream
        Connector.connect(
            to: address, speaking: .http1, by: way, within: pool.policy.connectTimeout, on: shard
        ) { channel in
            try channel.pipeline.syncOperations.addHandler(upstream)
        } then: { result in
            let exchange = upstream.waiting
            upstream.waiting = nil
            switch result {
            case .success(let link):
                upstream.link = link
                if let exchange { exchange.connected(upstream) } else { upstream.release() }
            case .failure(let failure):
                pool.connectionClosed(nil)
                exchange?.connectFailed(failure, host)
            }
        }
    }
    func abandon(_ exchange: Exchange) {
        waiting = nil
        close()
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        socket = DirectSocket(context.channel)
    }
    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        socket = DirectSocket()
    }

    // MARK: For the exchange

    var isWritable: Bool { context?.channel.isWritable ?? false }
    var pendingBytes: Int { context?.channel.pendingBytes ?? 0 }
    var isClosed: Bool { phase == .closed || context == nil }

    func begin(_ exchange: Exchange) {
        self.exchange = exchange
        phase = .head
        hasAnswered = false
        served += 1
        outgoing = ByteBuffer()
        parser.reset()
    }
    private func write(_ bytes: ByteBuffer) {
        if outgoing.readableBytes == 0, !socket.isQueueing, bytes.readableBytes <= 4096 {
            outgoing = bytes
        } else {
            queueOutgoing()
            queue(bytes)
        }
    }
    private func queue(_ bytes: ByteBuffer) {
        socket.queued()
        context?.write(wrapOutboundOut(bytes), promise: nil)
    }
    private func queueOutgoing() {
        if outgoing.readableBytes > 0 { queue(outgoing) }
        outgoing = ByteBuffer()
    }
    func send(head: RequestHead, isLast: Bool) { if case .http1(let text) = head { write(text) } }
    func send(body: ByteBuffer, isLast: Bool) {
        guard let exchange, exchange.hasPlainBody, exchange.head.isChunked else { return write(body) }
        if body.readableBytes > 0 {
            write(ByteBuffer(string: String(body.readableBytes, radix: 16) + "\r\n"))
            write(body)
            write(ByteBuffer(staticString: "\r\n"))
        }
        if isLast { endBody(trailers: nil) }
    }
    func endBody(trailers: ByteBuffer?) {
        guard let exchange, exchange.head.isChunked else { return }
        write(ByteBuffer(staticString: "0\r\n"))
        write(trailers ?? ByteBuffer(staticString: "\r\n"))
    }
    func release() { if isLeaving { close() } else { pool.release(self) } }
    func flush() {
        if outgoing.readableBytes > 0 {
            let count = outgoing.withUnsafeReadableBytes { socket.send($0) }
            outgoing.moveReaderIndex(forwardBy: count)
            queueOutgoing()
        }
        guard socket.isQueueing, let context else { return }
        context.flush()
        socket.flushed(context.channel)
    }
    func closeOutput() {
        flush()
        context?.endOutput(inputEnded: inputEnded)
    }

    /// The exchange no longer wants the answer.
    func cancel() {
        // An orderly end would make a part look like the whole.
        if exchange?.machine.wasTunnelCut == true { context?.channel.resetsAtClose() }
        exchange = nil
        phase = .closed
        close()
    }
    func close() { context?.close(promise: nil) }

    func pause() { isPaused = true }
    func resume() {
        isPaused = false
        if wantsRead {
            wantsRead = false
            context?.read()
        }
    }
    func read(context: ChannelHandlerContext) { if isPaused { wantsRead = true } else { context.read() } }

    /// Looks for a FIN that has arrived but was not processed: no server closes sooner than this pause.
    func isReusable(now: Moment) -> Bool {
        guard !isClosed, phase == .idle else { return false }
        guard now.since(idleSince) > .milliseconds(500), let provider = context?.channel as? any SocketOptionProvider
        else { return true }
        var isEstablished = true
        // The future is complete: this is its loop.
        provider.getTCPInfo().assumeIsolated().whenSuccess { isEstablished = $0.tcpi_state == UInt8(TCP_ESTABLISHED) }
        return isEstablished
    }

    // MARK: Answers

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        shard.beginTurn()
        defer { shard.endTurn() }
        var bytes = unwrapInboundIn(data)
        guard let exchange, phase != .idle else {
            // An answer that nobody asked for: the connection cannot be trusted.
            shard.stats.strayAnswers += 1
            close()
            return
        }
        hasAnswered = true
        if phase == .tunnel {
            exchange.responseBytes(bytes, payload: bytes.readableBytes)
            return
        }
        if buffer.readableBytes == 0 { swap(&buffer, &bytes) } else { buffer.writeBuffer(&bytes) }
        defer { if buffer.readableBytes == 0 { releaseBuffer() } }
        do throws(WireViolation) { try consume(exchange) } catch {
            phase = .closed
            self.exchange = nil
            close()
            exchange.failed(.violation(error))
        }
    }

    private func releaseBuffer() {
        var empty = ByteBuffer()
        swap(&empty, &buffer)
        shard.buffers.giveBack(empty)
    }

    private func consume(_ exchange: Exchange) throws(WireViolation) {
        while buffer.readableBytes > 0 {
            switch phase {
            case .head:
                guard try parser.parse(buffer) else { return }
                try takeHead(exchange)
            case .body: try takeBody(exchange)
            case .tunnel:
                let rest = buffer
                buffer.clear()
                exchange.responseBytes(rest, payload: rest.readableBytes)
            case .idle, .closed:
                // More than the answer: nothing that follows can be believed.
                close()
                buffer.clear()
            }
        }
    }

    private func takeHead(_ exchange: Exchange) throws(WireViolation) {
        let head = parser.head
        guard let bytes = buffer.readSlice(length: head.end) else { return }
        if head.status < 200, head.status != 101 {
            parser.reset()
            try exchange.interimHead(head, bytes)
            return
        }
        body = BodyReader(head.responseBody(to: exchange.method))
        answerKeepsAlive = head.keepsAlive && !body.endsWithConnection
        if head.status == 101 {
            // What the client still sends of its request would be taken for the new protocol's.
            guard exchange.form == .upgrade, exchange.machine.isRequestComplete else {
                throw WireViolation(502, .badStatusLine)
            }
            phase = .tunnel
        } else {
            phase = .body
        }
        exchange.responseHead(head, bytes, body)
        if phase == .body, body.isComplete { finish() }
    }

    private func takeBody(_ exchange: Exchange) throws(WireViolation) {
        var payload = 0
        let dechunked = exchange.machine.answer?.chunks == .removed
        var pieces: [Range<Int>] = []
        let trailerBytes = body.trailers.count
        let result: Result<Int, WireViolation> = buffer.withUnsafeReadableBytes { raw in
            Result { () throws(WireViolation) in
                try body.read(raw) { range in
                    payload += range.count
                    if dechunked { pieces.append(range) }
                }
            }
        }
        let count = try result.get()
        guard let raw = buffer.readSlice(length: count) else { return }
        if dechunked {
            for piece in pieces {
                if let slice = raw.getSlice(at: raw.readerIndex + piece.lowerBound, length: piece.count) {
                    exchange.responseBytes(slice, payload: slice.readableBytes)
                }
            }
        } else if count > 0 {
            let bytes = exchange.forwarded(raw, of: body, trailerBytes: trailerBytes, isRequest: false)
            exchange.responseBytes(bytes, payload: payload, isLast: body.isComplete)
        }
        if body.isComplete { finish() }
    }

    /// The answer is complete.
    private func finish() {
        guard let exchange else { return }
        self.exchange = nil
        phase = .idle
        idleSince = shard.now
        isPaused = false
        let isClean = answerKeepsAlive && !isLeaving && buffer.readableBytes == 0 && exchange.machine.isRequestComplete
        if wantsRead { resume() }
        // First, so that the client's next request finds it.
        if isClean, !isClosed { pool.release(self) } else { close() }
        let isPlain = exchange.machine.answer?.chunks == .removed
        let trailers = isPlain && body.trailers.count > 2 ? ByteBuffer(bytes: body.trailers) : nil
        exchange.responseComplete(trailers: trailers)
    }

    func channelReadComplete(context: ChannelHandlerContext) { exchange?.flushResponse() }
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { exchange?.upstreamIsWritable() }
    }

    // MARK: The end

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is TunnelLeaves {
            isLeaving = true
            if phase == .idle, waiting == nil { close() }
            return
        }
        switch event as? ChannelEvent {
        // Not before it is out: an end while it waits is none in order.
        case .outputClosed: outputEnded = true
        case .inputClosed:
            inputEnded = true
            if phase == .tunnel { exchange?.upstreamEnded() } else { context.close(promise: nil) }
        case nil: break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        // NIO does not tell the end of the input where the output has ended before.
        if phase == .tunnel, outputEnded, !hasFailed { exchange?.upstreamEnded() }
        let exchange = exchange
        let wasInBody = phase == .body
        phase = .closed
        self.exchange = nil
        pool.connectionClosed(self)
        guard let exchange else { return }
        if wasInBody, inputEnded, body.connectionEnded() {
            exchange.responseComplete()
        } else {
            exchange.failed(.closed)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        hasFailed = true
        context.close(promise: nil)
    }
}
