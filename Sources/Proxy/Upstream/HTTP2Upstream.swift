/// A connection to an endpoint that speaks HTTP/2: many exchanges at once, each on a stream of its own.
import Addressing
import Balancing
import HTTPWire
import NIOCore
import NIOHPACK
import NIOHTTP2
import RouteIR

final class HTTP2Upstream: HTTP2Connection {
    let address: SocketAddress
    let host: EndpointBalancer.HostID
    fileprivate let pool: UpstreamPool
    fileprivate var heads = HTTP2Heads(.backend)
    private var waiting: [Exchange] = []
    private var nextStream = HTTP2StreamID(1)
    /// What the endpoint allows; until it has said so, what RFC 9113 recommends as the least.
    private var maxStreams = 100
    /// nil: it is being made.
    private var link: Connector.Link?
    private var isDraining = false
    private var isClosed = false
    private(set) var idleSince: Moment
    private(set) var served: UInt32 = 0

    init(to address: SocketAddress, _ host: EndpointBalancer.HostID, _ pool: UpstreamPool, _ shard: Shard) {
        self.address = address
        self.host = host
        self.pool = pool
        idleSince = shard.now
        super.init(shard)
    }

    /// Streams under way and those that wait for the connection to be made.
    var streamCount: Int { streams.count + waiting.count }
    var hasRoom: Bool {
        !isDraining && !isClosed && streamCount < maxStreams
            && pool.policy.maxRequestsPerConnection.map { served < $0 } ?? true
    }

    // MARK: Connecting

    func connect() {
        Connector.connect(to: address, speaking: .h2c, within: pool.policy.connectTimeout, on: shard) { channel in
            try self.install(in: channel, as: .client)
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
        for exchange in waiting { exchange.connected(stream(link)) }
        if isDraining, streams.isEmpty { close() }
        // Some of them may have given up meanwhile, and their places are free.
        pool.serveWaiting()
    }
    private func failed(_ failure: Connector.Failure) {
        isClosed = true
        pool.http2Closed(self)
        let waiting = waiting
        self.waiting = []
        for exchange in waiting { exchange.connectFailed(failure, host) }
    }

    // MARK: For exchanges

    /// Hands the exchange a stream, now or as soon as there is a connection.
    func serve(_ exchange: Exchange) {
        if let link { exchange.connected(stream(link)) } else { waiting.append(exchange) }
    }
    /// A stream's number is given here and its first frame must go out at once: numbers only rise.
    private func stream(_ link: Connector.Link) -> HTTP2UpstreamStream {
        defer { nextStream = nextStream.advanced(by: 2) }
        return HTTP2UpstreamStream(nextStream, on: self, link)
    }
    fileprivate func begin(_ stream: HTTP2UpstreamStream) {
        served += 1
        add(stream)
    }

    /// Nothing new; ends when what is under way has ended.
    func drain() {
        isDraining = true
        if streamCount == 0 { close() }
    }

    // MARK: From the endpoint

    override func receivedSettings(_ settings: HTTP2Settings) {
        for setting in settings where setting.parameter == .maxConcurrentStreams { maxStreams = max(1, setting.value) }
        pool.serveWaiting()
    }
    override func receivedGoAway(lastStream: HTTP2StreamID) {
        isDraining = true
        for id in streams.keys.sorted() where id > lastStream { remove(id)?.wasReset(.refused) }
        if streamCount == 0 { close() }
    }
    override func streamEnded() {
        idleSince = shard.now
        if isDraining || !hasRoom, streamCount == 0 {
            // What was sent last goes out first.
            scheduleFlush()
            shard.loop.assumeIsolated().execute { self.close() }
        } else {
            pool.serveWaiting()
        }
    }
    override func closed() {
        isClosed = true
        pool.http2Closed(self)
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

    fileprivate init(_ id: HTTP2StreamID, on connection: HTTP2Upstream, _ link: Connector.Link) {
        host = connection.host
        address = connection.address
        self.link = link
        super.init(id, on: connection)
    }

    // MARK: For the exchange

    func begin(_ exchange: Exchange) {
        self.exchange = exchange
        upstream?.begin(self)
    }
    var isClosed: Bool { isOver }
    var pendingBytes: Int { queued }

    func send(head: ByteBuffer, isLast: Bool) {
        // Without a connection the exchange has been told.
        guard let upstream, let link else { return }
        do throws(WireViolation) {
            sendHeaders(
                try upstream.heads.request(head, scheme: link.scheme, limit: upstream.maxFrameSize), isLast: isLast)
        } catch {
            // The endpoint has not heard of this stream.
            let exchange = exchange
            self.exchange = nil
            upstream.remove(id)
            exchange?.failed(.unsendable(error))
        }
    }
    func send(body: ByteBuffer, isLast: Bool) { if !isEnded { sendData(body, isLast: isLast) } }
    func endBody(trailers: ByteBuffer?) {
        guard !isEnded, let upstream else { return }
        do throws(WireViolation) {
            endBody(try upstream.heads.trailers(trailers, limit: upstream.maxFrameSize))
        } catch { fail(.unsendable(error), code: .cancel) }
    }
    private func fail(_ failure: UpstreamFailure, code: HTTP2ErrorCode) {
        let exchange = exchange
        self.exchange = nil
        reset(code)
        exchange?.failed(failure)
    }
    func cancel() {
        exchange = nil
        reset(.cancel)
    }
    // No upgrades on HTTP/2, and a stream that was not begun costs nothing.
    func closeOutput() {}
    func release() {}

    // MARK: From the endpoint

    override func receivedHeaders(_ headers: HPACKHeaders, isLast: Bool) {
        guard let exchange, let upstream else { return }
        do throws(WireViolation) {
            if exchange.machine.hasAnswer {
                guard isLast else { throw WireViolation(502, .badTrailer) }
                return finish(trailers: try upstream.heads.trailers(headers))
            }
            hasAnswered = true
            let (head, bytes) = try upstream.heads.response(
                headers, hasBody: !isLast, addsLength: !exchange.speaksHTTP2 && exchange.method != .head)
            if head.status < 200 {
                guard !isLast else { throw WireViolation(502, .badStatusLine) }
                return try exchange.interimHead(head, bytes)
            }
            exchange.responseHead(head, bytes, BodyReader(isLast ? .none : head.responseBody(to: exchange.method)))
            if isLast { finish(trailers: nil) } else { exchange.flushResponse() }
        } catch { fail(.violation(error), code: .protocolError) }
    }

    override func receivedData(_ bytes: ByteBuffer, isLast: Bool) {
        guard let exchange else { return }
        guard exchange.machine.hasAnswer else {
            return fail(.violation(WireViolation(502, .badMessage)), code: .protocolError)
        }
        if bytes.readableBytes > 0 {
            exchange.responseBytes(bytes, payload: bytes.readableBytes, isLast: isLast)
        }
        if isLast { finish(trailers: nil) } else { exchange.flushResponse() }
    }

    private func finish(trailers: ByteBuffer?) {
        // Without one the request was given up for another try.
        guard let exchange else { return }
        self.exchange = nil
        exchange.responseComplete(trailers: trailers)
        // The endpoint wants no more of the request.
        if !isEnded { reset(.cancel) }
    }

    override func wasReset(_ cause: HTTP2Reset) {
        let exchange = exchange
        self.exchange = nil
        switch cause {
        case .refused: exchange?.failed(.refused)
        case .violation: exchange?.failed(.violation(WireViolation(502, .badMessage)))
        case .byPeer: exchange?.failed(.reset)
        case .connectionClosed: exchange?.failed(.closed)
        }
    }
    override func becameWritable() { exchange?.upstreamIsWritable() }
}
