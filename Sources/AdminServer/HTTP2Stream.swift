/// One request over HTTP/2 and its answer, within the limits of one over HTTP/1.1.
import NIOCore
import NIOHPACK
import NIOHTTP2

final class HTTP2Stream: ChannelInboundHandler {
    typealias InboundIn = HTTP2Frame.FramePayload
    typealias OutboundOut = HTTP2Frame.FramePayload

    private let connection: HTTP2Connection
    private var context: ChannelHandlerContext?
    private var head: HPACKHeaders?
    private var body: [UInt8] = []
    private var heldBytes = 0
    /// Nothing more of the request is looked at.
    private var isAsked = false
    private var deadline: Scheduled<Void>?

    init(_ connection: HTTP2Connection) { self.connection = connection }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        let id = try? context.channel.syncOptions?.getOption(HTTP2StreamChannelOptions.streamID)
        connection.opened(id ?? .rootStream)
        wait(connection.limits.request, else: .slowRequest)
    }
    func handlerRemoved(context: ChannelHandlerContext) {
        deadline?.cancel()
        self.context = nil
        if !isAsked { release() }
        connection.closed()
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    // MARK: The request

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isAsked else { return }
        switch unwrapInboundIn(data) {
        case .headers(let block):
            guard connection.hasRoom else { return refuse(.refusedStream) }
            // Those at the end are of no use to anybody.
            if head == nil { head = block.headers }
            take(block.headers.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }, isEnd: block.endStream)
        case .data(let data):
            guard case .byteBuffer(let bytes) = data.data else { return }
            body += bytes.readableBytesView
            take(bytes.readableBytes, isEnd: data.endStream)
        default: break
        }
    }

    private func take(_ count: Int, isEnd: Bool) {
        heldBytes += count
        guard connection.held(count), heldBytes <= connection.limits.requestBytes else {
            guard connection.isOpen else { return }
            connection.connections.shed(.largeRequest)
            return send(.text("the request is too large\n", status: 413), isComplete: isEnd)
        }
        if isEnd, let context, context.channel.isActive { ask(context) }
    }

    private func ask(_ context: ChannelHandlerContext) {
        guard let head else { return }
        isAsked = true
        deadline?.cancel()
        let request = HTTPRequest(
            method: head.first(name: ":method") ?? "", target: head.first(name: ":path") ?? "",
            headers: head.compactMap { field in
                if field.name == ":authority" { return ("host", field.value) }
                return field.name.hasPrefix(":") ? nil : (field.name, field.value)
            }, body: body, peer: connection.peer)
        body = []
        connection.began()
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        let loop = context.eventLoop
        connection.responder(request) { response in
            loop.execute {
                bound.value.connection.answered()
                bound.value.send(response, isComplete: true)
            }
        }
    }

    // MARK: The answer

    /// `isComplete`: the whole request is here.
    private func send(_ response: HTTPResponse, isComplete: Bool) {
        isAsked = true
        release()
        guard let context, context.channel.isActive else { return }
        wait(connection.limits.answer, else: .slowReader)
        var headers = HPACKHeaders([(":status", String(response.status))])
        for field in response.headers { headers.add(name: field.name.lowercased(), value: field.value) }
        let hasBody = !response.body.isEmpty && head?.first(name: ":method") != "HEAD"
        let hasTrailers = !response.trailers.isEmpty
        var frames = [HTTP2Frame.FramePayload.headers(.init(headers: headers, endStream: !hasBody && !hasTrailers))]
        if hasBody {
            let body = context.channel.allocator.buffer(bytes: response.body)
            frames.append(.data(.init(data: .byteBuffer(body), endStream: !hasTrailers)))
        }
        if hasTrailers {
            let trailers = HPACKHeaders(response.trailers.map { ($0.name.lowercased(), $0.value) })
            frames.append(.headers(.init(headers: trailers, endStream: true)))
        }
        // The rest of a request that was answered before its end is not wanted.
        if !isComplete { frames.append(.rstStream(.noError)) }
        for frame in frames { context.write(wrapOutboundOut(frame), promise: nil) }
        context.flush()
    }

    private func refuse(_ code: HTTP2ErrorCode) {
        isAsked = true
        release()
        context?.writeAndFlush(wrapOutboundOut(.rstStream(code)), promise: nil)
    }

    private func release() {
        connection.released(heldBytes)
        heldBytes = 0
    }

    private func wait(_ patience: Duration, else reason: ShedReason) {
        deadline?.cancel()
        deadline = context?.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(patience)) {
            self.connection.connections.shed(reason)
            self.context?.close(promise: nil)
        }
    }
}
