/// One HTTP/1.1 connection: collects a request, asks the responder, writes the answer, keeps alive; all within limits.
import NIOCore
import NIOHTTP1

final class HTTPConnection: ChannelDuplexHandler, OpenConnection {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private enum Phase {
        /// Nothing of the next request is here.
        case idle
        case receiving
        /// The responder has it, for as long as it takes.
        case responding
        case sending
    }

    private let responder: HTTPResponder
    private let connections: ServerConnections
    private var context: ChannelHandlerContext?
    private var phase = Phase.idle
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    /// Requests sent ahead of the answers.
    private var ahead: [(head: HTTPRequestHead, body: [UInt8])] = []
    private var requestBytes = 0
    private(set) var heldBytes = 0
    /// A read that waits until the client has taken its answer.
    private var isReadHeldBack = false
    private let openedAt = NIODeadline.now()
    private(set) var waitingSince = NIODeadline.now()
    private(set) var peer = ""
    private var deadline: Scheduled<Void>?

    private var limits: ConnectionLimits { connections.limits }
    var isWaitingForClient: Bool { phase != .responding }

    init(_ connections: ServerConnections, responder: @escaping HTTPResponder) {
        self.connections = connections
        self.responder = responder
    }

    /// After a handshake the connection is there already.
    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { channelActive(context: context) }
    }
    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        peer = context.channel.remoteAddress?.peer ?? ""
        waitForClient(.receiving, limits.request, else: .slowRequest)
        connections.add(self)
    }
    func channelInactive(context: ChannelHandlerContext) { close(nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { close(nil) }

    func close(_ reason: ShedReason?) {
        connections.remove(self, reason)
        deadline?.cancel()
        // An answer that was under way ends within `close`: what was asked behind it is not begun any more.
        context.take()?.close(promise: nil)
    }

    // MARK: The request

    /// Told before the bytes are looked at.
    func received(_ count: Int) {
        // TLS goes on reading until its farewell is out.
        guard context != nil else { return }
        requestBytes += count
        guard requestBytes <= limits.requestBytes else { return close(.largeRequest) }
        heldBytes += count
        connections.held(count)
        if phase == .idle, context != nil { waitForClient(.receiving, limits.request, else: .slowRequest) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard self.context != nil else { return }
        switch unwrapInboundIn(data) {
        case .head(let head): self.head = head
        case .body(let bytes): body += bytes.readableBytesView
        case .end:
            guard let head = head.take() else { return }
            let body = self.body
            self.body = []
            requestBytes = 0
            if phase == .receiving || phase == .idle {
                respond(to: head, body)
            } else if ahead.count < limits.requestsAhead {
                ahead.append((head, body))
            } else {
                close(.largeRequest)
            }
        }
    }

    /// A client that does not take its answers may not ask for more of them.
    func read(context: ChannelHandlerContext) {
        if phase == .responding || phase == .sending { isReadHeldBack = true } else { context.read() }
    }

    // MARK: The answer

    private func respond(to head: HTTPRequestHead, _ body: [UInt8]) {
        guard let context else { return }
        phase = .responding
        deadline?.cancel()
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        let loop = context.eventLoop
        let request = HTTPRequest(
            method: head.method.rawValue, target: head.uri,
            headers: head.headers.map { ($0.name.lowercased(), $0.value) }, body: body,
            peer: peer)
        responder(request) { response in
            loop.execute { bound.value.send(response, to: head) }
        }
    }

    private func send(_ response: HTTPResponse, to request: HTTPRequestHead) {
        guard let context, context.channel.isActive else { return }
        let keepAlive = request.isKeepAlive && NIODeadline.now() - openedAt < TimeAmount(limits.age)
        waitForClient(.sending, limits.answer, else: .slowReader)
        var headers = HTTPHeaders(response.headers.map { ($0.name, $0.value) })
        let trailers =
            response.trailers.isEmpty || request.version == .http1_0
            ? nil : HTTPHeaders(response.trailers.map { ($0.name, $0.value) })
        if trailers == nil {
            headers.replaceOrAdd(name: "Content-Length", value: String(response.body.count))
        } else {
            headers.replaceOrAdd(name: "Transfer-Encoding", value: "chunked")
        }
        if !keepAlive { headers.replaceOrAdd(name: "Connection", value: "close") }
        let head = HTTPResponseHead(
            version: request.version, status: HTTPResponseStatus(statusCode: response.status), headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if request.method != .HEAD, !response.body.isEmpty {
            let body = context.channel.allocator.buffer(bytes: response.body)
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        }
        context.writeAndFlush(wrapOutboundOut(.end(trailers))).assumeIsolated().whenComplete { _ in
            if keepAlive { self.readOn() } else { self.close(nil) }
        }
    }

    private func readOn() {
        guard context != nil else { return }
        if !ahead.isEmpty {
            let next = ahead.removeFirst()
            return respond(to: next.head, next.body)
        }
        connections.released(heldBytes)
        heldBytes = 0
        waitForClient(.idle, limits.idle, else: nil)
        if isReadHeldBack {
            isReadHeldBack = false
            context?.read()
        }
    }

    // MARK: Patience

    private func waitForClient(_ phase: Phase, _ patience: Duration, else reason: ShedReason?) {
        self.phase = phase
        waitingSince = .now()
        deadline?.cancel()
        deadline = context?.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(patience)) { self.close(reason) }
    }
}

/// In front of the parser, which keeps what it has not understood yet.
final class RequestMeter: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    private let connection: HTTPConnection

    init(_ connection: HTTPConnection) { self.connection = connection }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        connection.received(unwrapInboundIn(data).readableBytes)
        if context.channel.isActive { context.fireChannelRead(data) }
    }
}
