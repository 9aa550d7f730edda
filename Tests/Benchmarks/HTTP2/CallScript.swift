/// A server's whole connection: calls of gRPC one after another, each with a message of 100 bytes, answered with a
/// head, the message and trailers. What the client sends is made once and the same for both.
import HTTP2Wire
import NIOCore
import NIOEmbedded
import NIOHPACK
import NIOHTTP2

private let answerHead: Head = [(":status", "200"), ("content-type", "application/grpc"), ("server", "shop")]
private let answerTrailers: Head = [("grpc-status", "0")]
private let endlessWindow: UInt32 = 1 << 30

struct CallScript {
    let count: Int
    /// Some thirty calls each: swift-nio-http2 ends a stream when what was written is flushed, behind the piece.
    private let pieces: [[UInt8]]

    init(_ count: Int) throws {
        self.count = count
        var limits = HTTP2Limits()
        limits.connectionWindow = endlessWindow
        var client = HTTP2Machine(.client, limits: limits)
        let message = [UInt8](repeating: 0x78, count: 100)
        var bytes: [UInt8] = []
        // The server's windows are what it would have said: the client does not wait to hear it.
        let start = serverStart()
        var list = FieldList()
        start.withUnsafeBytes { input in
            var at = 0
            while client.next(input, at: &at, into: &list) != nil {}
        }
        for number in 0..<count {
            let head = fields([
                (":method", "POST"), (":scheme", "http"), (":path", "/shop.Web/Get"), (":authority", "web.shop"),
                ("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "bench"),
                ("x-request-id", "6f1d7c2a-94b3-4e58-8a01-\(100_000_000_000 + number * 7919)"),
            ])
            let stream = try client.open(head, isLast: false)
            let sent = message.withUnsafeBytes { raw in
                Result { () throws(SendRefusal) in try client.sendData(stream, raw, isLast: true) }
            }
            guard try sent.get() == message.count else { throw BenchFailure(description: "no window") }
            bytes += client.output.bytes
            client.outputWasTaken()
            // The answer is not looked at.
            client.reset(stream, .noError)
            client.outputWasTaken()
        }
        pieces = stride(from: 0, to: bytes.count, by: 4 << 10).map {
            Array(bytes[$0..<min($0 + 4 << 10, bytes.count)])
        }
    }

    // MARK: HTTP2Wire

    func runOurs() throws {
        let server = OurServer()
        for piece in pieces { server.take(piece) }
        guard server.ended == count else { throw BenchFailure(description: "ours: \(server.ended) calls of \(count)") }
    }

    // MARK: swift-nio-http2

    func runTheirs() throws {
        let channel = EmbeddedChannel()
        let server = TheirServer()
        try channel.pipeline.syncOperations.addHandler(NIOHTTP2Handler(mode: .server))
        try channel.pipeline.syncOperations.addHandler(server)
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        for piece in pieces {
            try channel.writeInbound(ByteBuffer(bytes: piece))
            while try channel.readOutbound(as: ByteBuffer.self) != nil {}
        }
        guard server.ended == count else {
            throw BenchFailure(description: "theirs: \(server.ended) calls of \(count)")
        }
        _ = try? channel.finish(acceptAlreadyClosed: true)
    }
}

private func fields(_ head: Head) -> FieldList {
    var list = FieldList()
    for (name, value) in head { list.append(name, value) }
    return list
}
private func serverStart() -> [UInt8] {
    var limits = HTTP2Limits()
    limits.connectionWindow = endlessWindow
    return HTTP2Machine(.server, limits: limits).output.bytes
}

private final class OurServer {
    private var machine: HTTP2Machine
    private var list = FieldList()
    private let (head, trailers) = (fields(answerHead), fields(answerTrailers))
    private(set) var ended = 0

    init() {
        var limits = HTTP2Limits()
        limits.connectionWindow = endlessWindow
        machine = HTTP2Machine(.server, limits: limits)
    }

    func take(_ piece: [UInt8]) {
        piece.withUnsafeBytes { input in
            var at = 0
            while let event = machine.next(input, at: &at, into: &list) {
                guard case .data(let stream, let range, let isLast) = event else { continue }
                machine.consumed(stream, range.count)
                if isLast { answer(stream, UnsafeRawBufferPointer(rebasing: input[range])) }
            }
        }
        machine.outputWasTaken()
    }
    private func answer(_ stream: UInt32, _ message: UnsafeRawBufferPointer) {
        do throws(SendRefusal) {
            try machine.sendHead(stream, head, isLast: false)
            _ = try machine.sendData(stream, message, isLast: false)
            try machine.sendTrailers(stream, trailers)
            ended += 1
        } catch {}
    }
}

/// On frames, without a channel for each stream: the least that swift-nio-http2 costs.
private final class TheirServer: ChannelInboundHandler {
    typealias InboundIn = HTTP2Frame
    typealias OutboundOut = HTTP2Frame
    private let (head, trailers) = (HPACKHeaders(answerHead), HPACKHeaders(answerTrailers))
    private(set) var ended = 0

    func channelActive(context: ChannelHandlerContext) {
        let window = HTTP2Frame.FramePayload.windowUpdate(windowSizeIncrement: Int(endlessWindow))
        context.writeAndFlush(wrapOutboundOut(HTTP2Frame(streamID: .rootStream, payload: window)), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        guard case .data(let message) = frame.payload, message.endStream else { return }
        write(.headers(.init(headers: head)), frame.streamID, context)
        write(.data(.init(data: message.data)), frame.streamID, context)
        write(.headers(.init(headers: trailers, endStream: true)), frame.streamID, context)
        ended += 1
    }
    func channelReadComplete(context: ChannelHandlerContext) { context.flush() }

    private func write(_ payload: HTTP2Frame.FramePayload, _ stream: HTTP2StreamID, _ context: ChannelHandlerContext) {
        context.write(wrapOutboundOut(HTTP2Frame(streamID: stream, payload: payload)), promise: nil)
    }
}
