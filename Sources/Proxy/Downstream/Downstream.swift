/// A client's connection: reads requests one after the other, hands them to exchanges, writes what comes back. A
/// second request is not looked at before the first is answered, and nothing more is read than there is room for.
import Balancing
import Glibc
import HTTPWire
import NIOCore
import RouteIR

final class Downstream: ChannelDuplexHandler, RemovableChannelHandler, ClientConnection {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        case head, body, answering, tunnel
        /// The last answer is written; what still comes is thrown away until the client closes.
        case closing
        /// The handler of HTTP/2 has the connection now.
        case replaced
    }

    private let shard: Shard
    private let arrival: Arrival
    private var context: ChannelHandlerContext?
    private var phase = Phase.head
    private var parser = HeadParser(.request)
    private var body = BodyReader(.none)
    private var buffer = ByteBuffer()
    /// Written, but not flushed yet.
    private var outgoing = ByteBuffer()
    private var socket = DirectSocket()
    private var exchange: Exchange?
    private var isPaused = false
    private var wantsRead = false
    /// Nothing has come yet that tells HTTP/1 from HTTP/2.
    private var isFirst = true
    private var isDraining = false
    private var inputEnded = false
    /// The client was told that nothing more comes, and everything before that is out.
    private var outputEnded = false
    private var hasFailed = false
    /// Of a tunnel that the client has left in order: the endpoint still has to take what came last.
    private var isLeaving = false
    private var isConsuming = false
    private var deadline: Moment?
    private var ending = SlowEnding()
    /// On the client's account: the connection itself, bytes that wait for their turn, bytes that the client does not
    /// take.
    private var charged = Charges()
    private struct Charges {
        var connection = 0
        var incoming = 0
        var outgoing = 0
    }
    /// The next request waits until the client has taken more of the last answers.
    private var isAwaitingRoom = false

    init(_ shard: Shard, _ arrival: Arrival) {
        self.shard = shard
        self.arrival = arrival
    }

    /// The channel is active already (`Listener`).
    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        socket = DirectSocket(context.channel)
        shard.opened(self)
        charge(\.connection, MemoryLimits.http1Connection)
        deadline = shard.now + shard.options.idleTimeout
    }
    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        socket = DirectSocket()
    }

    // MARK: Reading

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        shard.beginTurn()
        defer { shard.endTurn() }
        var bytes = unwrapInboundIn(data)
        switch phase {
        case .tunnel: exchange?.tunnelBytes(bytes)
        case .closing, .replaced: break
        case .head, .body, .answering:
            if phase == .head, buffer.readableBytes == 0 { deadline = shard.now + shard.options.headTimeout }
            if isFirst, becomesHTTP2(&bytes) { return }
            if buffer.readableBytes == 0 { swap(&buffer, &bytes) } else { buffer.writeBuffer(&bytes) }
            consume()
        }
    }

    /// HTTP/2 begins with a line that is no request of HTTP/1 (RFC 9113, 3.4); a port may say what it speaks, but
    /// clients know. True: these bytes are for HTTP/2, or too few to tell.
    private func becomesHTTP2(_ bytes: inout ByteBuffer) -> Bool {
        buffer.writeBuffer(&bytes)
        let count = min(buffer.readableBytes, HTTP2Downstream.preface.count)
        let isPreface = buffer.readableBytesView.prefix(count).elementsEqual(HTTP2Downstream.preface.prefix(count))
        // One letter could still be a POST or PUT.
        guard isPreface else {
            isFirst = false
            swap(&buffer, &bytes)
            buffer.clear()
            return false
        }
        guard count == HTTP2Downstream.preface.count else { return true }
        switchToHTTP2()
        return true
    }

    private func switchToHTTP2() {
        guard let channel = context?.channel else { return }
        let bytes = buffer
        buffer.clear()
        uncharge()
        phase = .replaced
        deadline = nil
        shard.replaced(self)
        do {
            try channel.pipeline.syncOperations.addHandler(HTTP2Downstream(shard, arrival))
            channel.pipeline.syncOperations.removeHandler(self, promise: nil)
            channel.pipeline.syncOperations.fireChannelRead(NIOAny(bytes))
            channel.pipeline.syncOperations.fireChannelReadComplete()
        } catch {
            shard.dismiss(arrival)
            channel.close(promise: nil)
        }
    }

    /// Goes on until bytes are missing or an answer must be waited for.
    private func consume() {
        // An answer that is complete at once calls back in here.
        guard !isConsuming else { return }
        isConsuming = true
        defer {
            isConsuming = false
            if buffer.readableBytes == 0 { releaseBuffer() }
            let waiting = buffer.storageCapacity
            if waiting != charged.incoming { charge(\.incoming, waiting) }
        }
        while buffer.readableBytes > 0 {
            do throws(WireViolation) {
                switch phase {
                case .head:
                    // Who sends requests and takes no answers gets no more of them.
                    guard isWritable else { return awaitRoom() }
                    guard try takeHead() else { return }
                case .body: try takeBody()
                case .answering:
                    // The next request waits its turn.
                    isPaused = true
                    return
                case .tunnel:
                    exchange?.tunnelBytes(buffer)
                    buffer.clear()
                case .closing, .replaced:
                    buffer.clear()
                    return
                }
            } catch {
                return refuse(error)
            }
        }
    }

    private func releaseBuffer() {
        var empty = ByteBuffer()
        swap(&empty, &buffer)
        shard.buffers.giveBack(empty)
    }

    private func takeHead() throws(WireViolation) -> Bool {
        guard try parser.parse(buffer) else { return false }
        let head = parser.takeHead()
        guard let bytes = buffer.readSlice(length: head.end) else { return false }
        body = BodyReader(head.requestBody)
        phase = body.isComplete ? .answering : .body
        deadline = shard.now + shard.options.streamIdleTimeout
        let exchange = Exchange(shard, sink: self, head: head, bytes: bytes, arrival: arrival)
        if isDraining || inputEnded { exchange.machine.closesConnection() }
        self.exchange = exchange
        exchange.start()
        return true
    }

    private func takeBody() throws(WireViolation) {
        let isPlain = exchange.map { $0.hasPlainBody && $0.head.isChunked } ?? false
        var pieces: [Range<Int>] = []
        let trailerBytes = body.trailers.count
        let result: Result<Int, WireViolation> = buffer.withUnsafeReadableBytes { raw in
            Result { () throws(WireViolation) in try body.read(raw) { if isPlain { pieces.append($0) } } }
        }
        guard let raw = buffer.readSlice(length: try result.get()) else { return }
        if body.isComplete { phase = .answering }
        guard isPlain else {
            guard let exchange else { return }
            let bytes = exchange.forwarded(raw, of: body, trailerBytes: trailerBytes, isRequest: true)
            return exchange.requestBody(bytes, isLast: body.isComplete)
        }
        for piece in pieces {
            if let slice = raw.getSlice(at: raw.readerIndex + piece.lowerBound, length: piece.count) {
                exchange?.requestBody(slice, isLast: false)
            }
        }
        if body.isComplete {
            exchange?.requestEnded(trailers: body.trailers.count > 2 ? ByteBuffer(bytes: body.trailers) : nil)
        }
    }

    /// Answers a violation and ends the connection.
    private func refuse(_ violation: WireViolation) {
        shard.stats.violations[violation.detail.rawValue, default: 0] += 1
        if let exchange {
            exchange.record.failure = violation.detail.rawValue
            exchange.machine.closesConnection()
            exchange.refuse(violation.status, .downstreamProtocolError, "http1.codec_error")
        } else {
            shard.report(
                violation.detail.rawValue, arrival, status: violation.status, details: "http1.codec_error")
            let status = violation.status
            write(
                ByteBuffer(
                    string:
                        "HTTP/1.1 \(status) \(reasonPhrase(status))\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
            closeGently()
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if phase == .body || phase == .answering { deadline = shard.now + shard.options.streamIdleTimeout }
        exchange?.flushRequest()
    }

    func read(context: ChannelHandlerContext) { if isPaused { wantsRead = true } else { context.read() } }

    private func resumeReading() {
        isPaused = false
        if wantsRead {
            wantsRead = false
            context?.read()
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        guard context.channel.isWritable else { return }
        if charged.outgoing > 0 { charge(\.outgoing, 0) }
        exchange?.clientIsWritable()
        guard isAwaitingRoom else { return }
        // Not from inside a flush.
        shard.loop.assumeIsolated().execute { self.goOn() }
    }

    // MARK: Clients that do not read

    private func awaitRoom() {
        isAwaitingRoom = true
        isPaused = true
        deadline = shard.now + shard.options.streamIdleTimeout
    }
    private func goOn() {
        guard isAwaitingRoom, isWritable, context != nil else { return }
        isAwaitingRoom = false
        consume()
        if !isAwaitingRoom, phase == .head || phase == .body { resumeReading() }
        exchange?.flushRequest()
    }

    private func charge(_ part: WritableKeyPath<Charges, Int>, _ bytes: Int) {
        shard.hold(bytes - charged[keyPath: part], arrival)
        charged[keyPath: part] = bytes
    }
    private func uncharge() {
        for part in [\Charges.connection, \.incoming, \.outgoing] { charge(part, 0) }
    }

    // MARK: The end

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let event = event as? ChannelEvent else { return }
        guard event == .inputClosed else { return outputEnded = true }
        inputEnded = true
        switch phase {
        case .tunnel: exchange?.clientEndedTunnel()
        case .answering: exchange?.machine.closesConnection()
        // There may be answers that it has not taken yet.
        case .head: closeGently()
        case .closing: if ending.isSent { context.close(promise: nil) }
        case .body, .replaced: context.close(promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        let exchange = exchange
        self.exchange = nil
        self.context = nil
        socket = DirectSocket()
        guard phase != .replaced else { return }
        if phase == .tunnel, let exchange, inputEnded || outputEnded, !hasFailed {
            leaveTunnel(exchange)
        } else {
            exchange?.clientClosed()
        }
        phase = .closing
        if !isLeaving { leave() }
    }
    private func leave() {
        uncharge()
        shard.dismiss(arrival)
        shard.closed(self)
    }
    private func leaveTunnel(_ exchange: Exchange) {
        // NIO does not tell the end of the input where the output has ended before.
        if outputEnded { exchange.clientEndedTunnel() }
        exchange.clientLeftTunnel()
        guard !exchange.machine.isOver else { return }
        self.exchange = exchange
        isLeaving = true
        deadline = shard.now + shard.options.streamIdleTimeout
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        hasFailed = true
        context.close(promise: nil)
    }

    /// Ends after the request under way or the next one: a request may be on its way here, and a connection closed
    /// under it would cost the client an answer. Without one it ends after a while.
    func drain() {
        isDraining = true
        if phase == .head, buffer.readableBytes == 0 { deadline = shard.now + shard.options.drainGrace }
        exchange?.machine.closesConnection()
    }
    func abort() {
        hasFailed = true
        if isLeaving { exchange?.refuse(504, .idleTimeout, "stream_idle_timeout") } else { cut(exchange) }
    }
    var held: Int { arrival.held }
    var source: MemorySource { arrival.source }

    /// Nothing is to come any more but what the client has yet to take.
    private var onlySends: Bool {
        phase == .closing ? !isLeaving : exchange?.machine.tunnelEnds.contains(.endpointLeft) == true
    }

    func checkDeadline(_ now: Moment) {
        if onlySends {
            let unsent = context?.channel.pendingBytes ?? 0
            guard ending.isOver(now, unsent: unsent, patience: shard.options.streamIdleTimeout) else { return }
            return exchange?.refuse(504, .idleTimeout, "stream_idle_timeout") ?? abort()
        }
        guard let deadline, now > deadline else { return }
        self.deadline = nil
        switch phase {
        case .head where buffer.readableBytes > 0: refuse(WireViolation(408, .incompleteHead))
        case .body, .answering:
            guard let exchange else { return abort() }
            exchange.refuse(504, .idleTimeout, "stream_idle_timeout")
        // Of those that close here are only those that leave (`isLeaving`).
        case .head, .closing: abort()
        // Between the two ends of a tunnel silence is no fault.
        case .tunnel, .replaced: break
        }
    }

    /// Our side is finished. Closing at once would reset the connection and could destroy the answer on its way, so
    /// the client's rest is read and thrown away first.
    private func closeGently() {
        phase = .closing
        isPaused = false
        buffer.clear()
        ending = SlowEnding(since: shard.now, unsent: .max)
        sendOutgoing()
        context?.whenSent { self.allIsSent() }
        if wantsRead { resumeReading() }
    }
    private func allIsSent() {
        ending = SlowEnding(since: shard.now)
        context?.endOutput(inputEnded: inputEnded)
    }
}

extension Downstream: ResponseSink {
    var isWritable: Bool { context?.channel.isWritable ?? true }
    var speaksHTTP2: Bool { false }
    func forwardHead(_ head: MessageHead, _ bytes: ByteBuffer, isLast: Bool) {
        // With room for a short body, which leaves together with its head.
        write(shard.edited(head, bytes, room: head.contentLength.map { $0 <= 4096 ? Int($0) : 0 } ?? 0))
    }
    func writeHead(_ text: ByteBuffer, isLast: Bool) { write(text) }
    func writeBody(_ bytes: ByteBuffer, isLast: Bool) { write(bytes) }
    private func write(_ bytes: ByteBuffer) {
        var bytes = bytes
        // A head and a short body leave in one piece, which costs less than two.
        let isShort = outgoing.readableBytes + bytes.readableBytes <= 4096
        if isShort, outgoing.readableBytes > 0 {
            outgoing.writeBuffer(&bytes)
        } else if isShort {
            outgoing = bytes
        } else {
            queueOutgoing()
            // Long ones at once: what the channel has not seen does not count in `isWritable`.
            queue(bytes)
        }
    }
    private func queue(_ bytes: ByteBuffer) {
        socket.queued()
        context?.write(wrapOutboundOut(bytes), promise: nil)
    }
    private func queueOutgoing() {
        guard outgoing.readableBytes > 0 else { return }
        queue(outgoing)
        outgoing = ByteBuffer()
    }
    private func sendOutgoing() {
        if outgoing.readableBytes > 0 {
            let count = outgoing.withUnsafeReadableBytes { socket.send($0) }
            outgoing.moveReaderIndex(forwardBy: count)
            queueOutgoing()
            var sent = ByteBuffer()
            swap(&sent, &outgoing)
            shard.buffers.giveBack(sent)
        }
        guard let context, socket.isQueueing else { return }
        context.flush()
        socket.flushed(context.channel)
    }
    func flush() {
        if deadline != nil, phase != .closing { deadline = shard.now + shard.options.streamIdleTimeout }
        sendOutgoing()
        guard socket.isQueueing, let context, !context.channel.isWritable else { return }
        charge(\.outgoing, context.channel.pendingBytes)
    }
    func pauseRequest() { isPaused = true }
    func resumeRequest() { resumeReading() }

    func finished(_ exchange: Exchange, keepsAlive: Bool, trailers: ByteBuffer?) {
        guard self.exchange === exchange || self.exchange == nil else { return }
        self.exchange = nil
        guard !isLeaving else { return leave() }
        flush()
        // The kernel may have had news of the connection's end.
        guard context != nil else { return }
        guard keepsAlive, !inputEnded else { return closeGently() }
        phase = .head
        deadline = shard.now + shard.options.idleTimeout
        consume()
        // What is still here is part of a request: go on reading.
        if !isAwaitingRoom, phase == .head || phase == .body { resumeReading() }
        exchange.flushRequest()
    }
    func aborted(_ exchange: Exchange) {
        self.exchange = nil
        guard !isLeaving else { return leave() }
        guard context != nil else { return }
        // A client that gets nothing at all takes it for an idle connection's end and asks again.
        sendOutgoing()
        cut(exchange)
    }
    /// An orderly end would make a part look like the whole where only the end tells; a reset does not.
    private func cut(_ exchange: Exchange?) {
        if let channel = context?.channel, exchange?.machine.isCut == true || channel.pendingBytes > 0 {
            channel.resetsAtClose()
        }
        context?.close(promise: nil)
    }
    func becameTunnel() {
        phase = .tunnel
        deadline = nil
        // Before anything is sent that could pause it again.
        resumeReading()
        consume()
        // It may have said so while there was no tunnel yet.
        if inputEnded { exchange?.clientEndedTunnel() }
        exchange?.flushRequest()
    }
    func tunnelEnded() {
        ending = SlowEnding(since: shard.now, unsent: .max)
        sendOutgoing()
        context?.endOutput(inputEnded: inputEnded)
    }
}
