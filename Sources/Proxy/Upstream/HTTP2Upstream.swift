/// A connection to an endpoint that speaks HTTP/2: many exchanges at once, each on a stream of its own.
import Addressing
import Balancing
import HTTP2Wire
import HTTPWire
import NIOCore
import RouteIR

final class HTTP2Upstream: HTTP2Connection, PendingUpstream {
    let address: SocketAddress
    let host: EndpointBalancer.HostID
    /// nil: plaintext.
    var route: TunnelRoute? { way.route }
    private let way: Way
    fileprivate let pool: UpstreamPool
    private var waiting: [Exchange] = []
    /// What the endpoint allows; until it has said so, what RFC 9113 recommends as the least.
    private var maxStreams = 100
    /// nil: it is being made.
    private var link: Connector.Link?
    private var isDraining = false
    private var isClosed = false
    /// Its first SETTINGS are there: extended CONNECT may be sent, if they offer it.
    private var hasSettings = false
    private var settingsTimer: Scheduled<Void>?
    private(set) var idleSince: Moment
    private(set) var served: UInt32 = 0

    init(
        to address: SocketAddress, by way: Way, _ host: EndpointBalancer.HostID, _ pool: UpstreamPool, _ shard: Shard
    ) {
        self.address = address
        self.way = way
        self.host = host
        self.pool = pool
        idleSince = shard.now
        // What it sent waits on the accounts of the clients it is for, and a slow one must not hold up the others.
        super.init(shard, .client) { $0.unread = .max }
    }

    /// Streams under way and those that wait for the connection to be made, or for its SETTINGS.
    var streamCount: Int { streams.count + waiting.count }
    var hasRoom: Bool {
        !isDraining && !isClosed && machine.acceptsStreams && streamCount < maxStreams
            && pool.policy.maxRequestsPerConnection.map { served < $0 } ?? true
    }

    // MARK: Connecting

    func connect() {
        Connector.connect(
            to: address, speaking: .h2c, by: way, within: pool.policy.connectTimeout, on: shard
        ) { channel in
            try channel.pipeline.syncOperations.addHandler(self)
        } then: { result in
            if case .failure(let failure) = result { self.failed(failure) }
        }
    }

    /// Only now: before the preface nothing can be sent.
    override func began(_ context: ChannelHandlerContext) {
        super.began(context)
        let link = Connector.Link(context.channel)
        self.link = link
        let waiting = waiting
        self.waiting = []
        for exchange in waiting where exchange.pending === self { serve(exchange) }
        closeIfUseless()
        // Some of them may have given up meanwhile, and their places are free.
        pool.serveWaiting()
    }
    private func failed(_ failure: Connector.Failure) {
        isClosed = true
        pool.http2Closed(self)
        turnAway(failure)
    }
    private func turnAway(_ failure: Connector.Failure) {
        let waiting = waiting
        self.waiting = []
        for exchange in waiting where exchange.pending === self { exchange.connectFailed(failure, host) }
    }
    func abandon(_ exchange: Exchange) {
        waiting.removeAll { $0 === exchange }
        guard !isClosed else { return }
        if link == nil, waiting.isEmpty { close() } else { pool.serveWaiting() }
    }

    // MARK: For exchanges

    /// Hands the exchange a stream, now or as soon as there is a connection.
    func serve(_ exchange: Exchange) {
        guard let link else { return wait(exchange) }
        guard exchange.form == .upgrade else { return exchange.connected(stream(link)) }
        guard hasSettings else { return awaitSettings(exchange) }
        if machine.peer.enablesConnectProtocol { return exchange.connected(stream(link)) }
        // Not from inside the exchange.
        shard.loop.assumeIsolated().execute { exchange.cannotServe(.notOffered, self.host) }
    }
    private func wait(_ exchange: Exchange) {
        waiting.append(exchange)
        exchange.pending = self
    }

    /// RFC 8441, 3. A server begins with its SETTINGS (RFC 9113, 3.4), so this is part of making the connection.
    private func awaitSettings(_ exchange: Exchange) {
        wait(exchange)
        guard settingsTimer == nil else { return }
        let limit = TimeAmount.nanoseconds(Int64(clamping: pool.policy.connectTimeout.wholeNanoseconds))
        settingsTimer = shard.loop.assumeIsolated().scheduleTask(in: limit) {
            self.settingsTimer = nil
            self.turnAway(Connector.Failure(reason: "no SETTINGS", isTimeout: true))
            if !self.closeIfUseless() { self.pool.serveWaiting() }
        }
    }
    private func stream(_ link: Connector.Link) -> HTTP2UpstreamStream { HTTP2UpstreamStream(on: self, link) }
    fileprivate func open(_ stream: HTTP2UpstreamStream, _ head: FieldList, isLast: Bool) throws(SendRefusal) {
        stream.id = try machine.open(head, isLast: isLast)
        served += 1
        add(stream)
        stream.wrote(isLast: isLast)
    }

    /// Nothing new; ends when what is under way has ended.
    func drain() {
        isDraining = true
        if streamCount == 0 { closeAfterSending() }
    }

    // MARK: From the endpoint

    override func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is TunnelLeaves { drain() } else { super.userInboundEventTriggered(context: context, event: event) }
    }

    override func receivedSettings() {
        if let limit = machine.peer.maxConcurrentStreams { maxStreams = Int(limit) }
        if !hasSettings {
            hasSettings = true
            settingsTimer?.cancel()
            let waiting = waiting
            self.waiting = []
            for exchange in waiting where exchange.pending === self { serve(exchange) }
        }
        if !closeIfUseless() { pool.serveWaiting() }
    }
    /// Streams that it has not looked at are reset after this.
    override func receivedGoAway() {
        isDraining = true
        if streamCount == 0 { closeAfterSending() }
    }
    /// Its requests go elsewhere and leave their heads and resets behind: there is an end to that.
    override var unsentLimit: Int { 1 << 20 }
    override func violated(_ fault: HTTP2Fault) {
        if fault.stream == 0 { isDraining = true }
    }
    override func streamEnded() {
        idleSince = shard.now
        if !closeIfUseless() { pool.serveWaiting() }
    }
    /// One that will get no stream: its last one has ended, or the endpoint allows none.
    @discardableResult
    private func closeIfUseless() -> Bool {
        guard !hasRoom, streamCount == 0 else { return false }
        // What was sent last goes out first.
        shard.loop.assumeIsolated().execute { if self.streamCount == 0 { self.closeAfterSending() } }
        return true
    }
    override func closed() {
        isClosed = true
        settingsTimer?.cancel()
        pool.http2Closed(self)
        turnAway(Connector.Failure(reason: "closed before its SETTINGS"))
    }
}

/// One request to the endpoint.
final class HTTP2UpstreamStream: HTTP2Stream, UpstreamStream {
    private var exchange: Exchange?
    private(set) var hasAnswered = false
    let host: EndpointBalancer.HostID
    let address: SocketAddress
    let link: Connector.Link?
    private var upstream: HTTP2Upstream? { connection as? HTTP2Upstream }

    fileprivate init(on connection: HTTP2Upstream, _ link: Connector.Link) {
        host = connection.host
        address = connection.address
        self.link = link
        super.init(0, on: connection)
    }

    // MARK: For the exchange

    func begin(_ exchange: Exchange) { self.exchange = exchange }
    var isClosed: Bool { isOver }
    var pendingBytes: Int { queued }

    func send(head: RequestHead, isLast: Bool) {
        // Without a connection the exchange has been told.
        guard let upstream, case .http2(let fields) = head else { return }
        do throws(SendRefusal) { try upstream.open(self, fields, isLast: isLast) } catch {
            switch error {
            case .headTooLong, .malformed: give(up: .unsendable(violation(error)))
            // Not from inside the exchange, which is not ready for another try yet. What is not offered was not let
            // through by `serve`.
            case .closed, .wrongState, .tooManyStreams, .goingAway, .extendedConnectNotOffered:
                upstream.shard.loop.assumeIsolated().execute { self.give(up: .refused) }
            }
        }
    }
    /// The endpoint has not heard of this stream.
    private func give(up failure: UpstreamFailure) {
        let exchange = exchange
        self.exchange = nil
        exchange?.failed(failure)
    }
    private func violation(_ refusal: SendRefusal) -> WireViolation {
        refusal == .headTooLong ? WireViolation(431, .headTooLong) : WireViolation(502, .badHeaderValue)
    }

    func send(body: ByteBuffer, isLast: Bool) { if id > 0 { sendData(body, isLast: isLast) } }
    func endBody(trailers: ByteBuffer?) {
        guard id > 0 else { return }
        do throws(SendRefusal) { try endBody(trailers) } catch { cannotSendTrailers(error) }
    }
    override func cannotSendTrailers(_ refusal: SendRefusal) { fail(.unsendable(violation(refusal)), code: .cancel) }
    private func fail(_ failure: UpstreamFailure, code: HTTP2Code) {
        let exchange = exchange
        self.exchange = nil
        reset(code)
        exchange?.failed(failure)
    }
    func cancel() {
        exchange = nil
        reset(.cancel)
    }
    func closeOutput() { send(body: ByteBuffer(), isLast: true) }
    // A stream that was not begun costs nothing.
    func release() {}

    // MARK: From the endpoint

    override func receivedInterim(_ facts: HeadFacts) {
        guard let exchange, let shard = upstream?.shard else { return }
        hasAnswered = true
        do throws(WireViolation) {
            let (head, bytes) = try shard.heads.response(shard.fields, facts, hasBody: false, addsLength: false)
            try exchange.interimHead(head, bytes)
        } catch { fail(.violation(error), code: .protocolError) }
    }

    override func receivedHead(_ facts: HeadFacts, isLast: Bool) {
        guard let exchange, let shard = upstream?.shard else { return }
        hasAnswered = true
        do throws(WireViolation) {
            if exchange.form == .upgrade, facts.status < 300 { return try openTunnel(exchange, facts, isLast) }
            let (head, bytes) = try shard.heads.response(
                shard.fields, facts, hasBody: !isLast, addsLength: !exchange.speaksHTTP2 && exchange.method != .head)
            exchange.responseHead(head, bytes, BodyReader(isLast ? .none : head.responseBody(to: exchange.method)))
            if isLast { finish(trailers: nil) } else { exchange.flushResponse() }
        } catch { fail(.violation(error), code: .protocolError) }
    }

    /// RFC 8441, 5: as on HTTP/1 the endpoint has switched protocols.
    private func openTunnel(_ exchange: Exchange, _ facts: HeadFacts, _ isLast: Bool) throws(WireViolation) {
        guard let shard = upstream?.shard else { return }
        let (head, bytes) = try shard.heads.switching(shard.fields, facts)
        exchange.responseHead(head, bytes, BodyReader(.none))
        exchange.flushResponse()
        if isLast { exchange.upstreamEnded() }
    }

    override func receivedData(_ bytes: ByteBuffer, isLast: Bool) {
        guard let exchange else { return }
        let isTunnel = exchange.machine.isTunnel
        if bytes.readableBytes > 0 {
            exchange.responseBytes(bytes, payload: bytes.readableBytes, isLast: isLast && !isTunnel)
        }
        guard isLast else { return exchange.flushResponse() }
        guard isTunnel else { return finish(trailers: nil) }
        exchange.flushResponse()
        exchange.upstreamEnded()
    }

    override func ended() {
        super.ended()
        guard let exchange, exchange.machine.isTunnel else { return }
        self.exchange = nil
        exchange.failed(.closed)
    }

    override func receivedTrailers() {
        guard let shard = upstream?.shard else { return }
        finish(trailers: HTTP2Heads.trailers(shard.fields))
    }

    private func finish(trailers: ByteBuffer?) {
        // Without one the request was given up for another try.
        guard let exchange else { return }
        self.exchange = nil
        exchange.responseComplete(trailers: trailers)
        // The endpoint wants no more of the request.
        if !hasSentAll { reset(.cancel) }
    }

    override func wasReset(_ cause: HTTP2Reset) {
        let exchange = exchange
        self.exchange = nil
        switch cause {
        case .refused: exchange?.failed(.refused)
        case .leaving: exchange?.failed(.leaving)
        case .byPeer: exchange?.failed(.reset)
        case .connectionClosed: exchange?.failed(.closed)
        case .violation(let fault) where fault.stream != 0: exchange?.failed(.malformed(fault))
        case .violation(let fault):
            exchange?.record.failure = fault.kind.rawValue
            exchange?.failed(.closed)
        }
    }
    override func becameWritable() { exchange?.upstreamIsWritable() }
}
