/// A client's connection that speaks HTTP/2: each stream is a request with an exchange of its own, so that each is
/// balanced for itself.
import Balancing
import HTTP2Wire
import HTTPWire
import NIOCore
import RouteIR

final class HTTP2Downstream: HTTP2ServerConnection {
    /// Every HTTP/2 connection of a client begins so (RFC 9113, 3.4).
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    private enum Draining {
        case no
        /// The client has been told, and may still have opened streams meanwhile.
        case announced
        case last
        /// Nothing more is sent than what lies here; what still comes is not looked at until the client closes.
        case closing(SlowEnding)
    }
    private var draining = Draining.no
    private var idleSince: Moment

    init(_ shard: Shard, _ arrival: Arrival) {
        idleSince = shard.now
        super.init(shard, arrival) { $0.offersExtendedConnect = true }
    }

    // MARK: From the client

    override func opened(_ id: UInt32) -> HTTP2Stream? { HTTP2RequestStream(id, on: self) }
    override func malformed(_ id: UInt32, _ fault: HTTP2Fault) {
        let stream = HTTP2RequestStream(id, on: self)
        add(stream)
        stream.refuse(fault.kind == .headTooLong ? 431 : 400, fault.kind.rawValue)
    }
    override func streamEnded() {
        idleSince = shard.now
        if case .last = draining, streams.isEmpty { closeGently() }
    }
    /// Requests under way that it ends say so in their own records.
    override func violated(_ fault: HTTP2Fault) {
        shard.stats.violations[fault.kind.rawValue, default: 0] += 1
        let isRecorded = streams.values.contains {
            (fault.stream == 0 || fault.stream == $0.id) && ($0 as? HTTP2RequestStream)?.isUnderWay == true
        }
        guard !isRecorded else { return }
        shard.report(fault.kind.rawValue, arrival, status: 0, details: "http2.violation")
    }
    override func endAfterViolation() { closeGently() }

    // MARK: The end

    /// First without a limit, so that no request on its way is lost, then for good (RFC 9113, 6.8).
    override func drain() {
        guard case .no = draining else { return }
        if streams.isEmpty { return stopAccepting() }
        draining = .announced
        machine.beginShutdown()
        flushLater()
    }
    private func stopAccepting() {
        draining = .last
        machine.finishShutdown()
        flushLater()
        if streams.isEmpty { closeGently() }
    }
    /// Closing at once would reset the connection if the client has sent anything since, and so destroy answers.
    private func closeGently() {
        draining = .closing(SlowEnding(since: shard.now, unsent: .max))
        flushLater()
        shard.loop.assumeIsolated().execute { self.closeOutput() }
    }
    override func abort() { close() }

    override func checkDeadline(_ now: Moment) {
        super.checkDeadline(now)
        switch draining {
        case .announced: return stopAccepting()
        case .closing(var ending):
            if ending.isOver(now, unsent: pendingBytes, patience: shard.options.streamIdleTimeout) { return close() }
            draining = .closing(ending)
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
    fileprivate var isUnderWay: Bool { exchange != nil }
    private var downstream: HTTP2Downstream? { connection as? HTTP2Downstream }

    // MARK: From the client

    override func receivedHead(_ facts: HeadFacts, isLast: Bool) {
        guard let downstream else { return }
        let shard = downstream.shard
        do throws(WireViolation) {
            let (head, bytes) = try shard.heads.request(shard.fields, facts, hasBody: !isLast)
            let exchange = Exchange(shard, sink: self, head: head, bytes: bytes, arrival: downstream.arrival)
            self.exchange = exchange
            exchange.start()
        } catch { refuse(error.status, error.detail.rawValue) }
    }

    override func receivedData(_ bytes: ByteBuffer, isLast: Bool) {
        guard let exchange else { return }
        if exchange.form == .upgrade {
            if bytes.readableBytes > 0 { exchange.tunnelBytes(bytes) }
            if isLast { exchange.clientEndedTunnel() }
        } else if bytes.readableBytes > 0 || isLast {
            exchange.requestBody(bytes, isLast: isLast)
        }
        exchange.flushRequest()
    }

    override func receivedTrailers() {
        guard let exchange, let shard = downstream?.shard else { return }
        exchange.requestEnded(trailers: HTTP2Heads.trailers(shard.fields))
        exchange.flushRequest()
    }

    override func wasReset(_ cause: HTTP2Reset) {
        guard let exchange else { return }
        self.exchange = nil
        guard case .violation(let fault) = cause else { return exchange.clientClosed() }
        exchange.record.failure = fault.kind.rawValue
        guard !exchange.machine.isTunnel else {
            return exchange.clientLeftTunnel(isInOrder: false, .downstreamProtocolError, "http2.violation")
        }
        exchange.giveUp(.downstreamProtocolError, "http2.violation")
    }
    override func becameWritable() { exchange?.clientIsWritable() }
    /// Of a tunnel: the endpoint may still have to take what came last, on this connection's account.
    override func ended() {
        guard let exchange, exchange.machine.isTunnel else { return super.ended() }
        exchange.clientLeftTunnel()
    }

    /// A request that cannot be read. Nothing has come of it yet, and its rest is not read.
    func refuse(_ status: UInt16, _ fault: String) {
        guard let downstream else { return }
        let shard = downstream.shard
        shard.stats.violations[fault, default: 0] += 1
        shard.report(fault, downstream.arrival, status: status, details: "http2.violation")
        shard.heads.setAnswer(status)
        let answer = shard.heads.list
        // A client that takes no head as short as this gets the reset alone.
        try? sendHead(answer, isLast: true)
        resetAfterSending(.noError)
    }

    /// Neither side has sent anything for too long. A call may well be silent (gRPC has deadlines and pings for that).
    func wasIdle() {
        // What is left of an answer that is complete, and that the client does not take.
        guard let exchange else { return reset(.cancel) }
        // Between the two ends of a tunnel silence is no fault; once one has left, the other has only to take the rest.
        let machine = exchange.machine
        let isTunnel = machine.isTunnel && machine.tunnelEnds.isDisjoint(with: [.clientLeft, .endpointLeft])
        guard !exchange.isGRPC, !isTunnel else { return }
        exchange.refuse(504, .idleTimeout, "stream_idle_timeout")
    }

    // MARK: To the client

    var speaksHTTP2: Bool { true }

    func forwardHead(_ head: MessageHead, _ bytes: ByteBuffer, isLast: Bool) throws(WireViolation) {
        // Without a connection the exchange has been told that the client is gone.
        guard let shard = downstream?.shard else { return }
        shard.heads.setResponse(head, bytes, shard.edit)
        try send(shard.heads.list, isLast: isLast)
    }
    func writeHead(_ text: ByteBuffer, isLast: Bool) throws(WireViolation) {
        guard let shard = downstream?.shard else { return }
        try shard.heads.setResponse(text)
        try send(shard.heads.list, isLast: isLast)
    }
    private func send(_ answer: FieldList, isLast: Bool) throws(WireViolation) {
        do throws(SendRefusal) { try sendHead(answer, isLast: isLast) } catch {
            throw WireViolation(502, error == .headTooLong ? .headTooLong : .badHeaderValue)
        }
    }
    func writeBody(_ bytes: ByteBuffer, isLast: Bool) { sendData(bytes, isLast: isLast) }

    func finished(_ exchange: Exchange, keepsAlive: Bool, trailers: ByteBuffer?) {
        self.exchange = nil
        do throws(SendRefusal) { try endBody(trailers) } catch { return reset(.internalError) }
        // The rest of a request that was answered before its end is of no use to anyone.
        if !peerHasEnded { resetAfterSending(.noError) }
        flush()
        if hasSentAll { super.ended() }
    }
    func aborted(_ exchange: Exchange) {
        self.exchange = nil
        // RFC 8441, 5: what TCP says with a reset.
        reset(exchange.machine.wasTunnelCut ? .cancel : .internalError)
    }
    func pauseRequest() { pause() }
    func resumeRequest() { resume() }
    func becameTunnel() { if peerHasEnded { exchange?.clientEndedTunnel() } }
    func tunnelEnded() { sendData(ByteBuffer(), isLast: true) }
}
