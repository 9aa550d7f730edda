/// What a new connection of a listener is made of: HTTP/1.1 in the clear, or TLS with what the client chooses by ALPN.
import NIOCore
import NIOHTTP1
import NIOHTTP2
import NIOSSL
import NIOTLS

struct ConnectionSetup: Sendable {
    let connections: NIOLoopBoundBox<ServerConnections>
    /// nil: no TLS.
    let certificate: ServedCertificate?
    let responder: HTTPResponder

    func setUp(_ channel: any Channel) throws {
        guard let certificate else { return try addHTTP1(channel.pipeline.syncOperations) }
        guard let context = certificate.context else { return channel.close(promise: nil) }
        try channel.pipeline.syncOperations.addHandlers(
            NIOSSLServerHandler(context: context), Handshake(connections.value, then: addNegotiated))
    }

    private func addNegotiated(_ name: String?, _ pipeline: ChannelPipeline.SynchronousOperations) throws {
        if name == "h2" { try addHTTP2(pipeline) } else { try addHTTP1(pipeline) }
    }

    private func addHTTP1(_ pipeline: ChannelPipeline.SynchronousOperations) throws {
        let connection = HTTPConnection(connections.value, responder: responder)
        try pipeline.addHandler(RequestMeter(connection))
        try pipeline.configureHTTPServerPipeline(withPipeliningAssistance: false, withErrorHandling: true)
        try pipeline.addHandler(connection)
    }

    private func addHTTP2(_ pipeline: ChannelPipeline.SynchronousOperations) throws {
        let connection = HTTP2Connection(connections.value, responder: responder)
        let bound = NIOLoopBound(connection, eventLoop: pipeline.eventLoop)
        var configuration = NIOHTTP2Handler.ConnectionConfiguration()
        configuration.initialSettings = [
            HTTP2Setting(parameter: .maxConcurrentStreams, value: connections.value.limits.streams),
            HTTP2Setting(parameter: .maxHeaderListSize, value: 16 << 10),
        ]
        configuration.maximumBufferedControlFrames = 1000
        let handler = NIOHTTP2Handler(
            mode: .server, eventLoop: pipeline.eventLoop, connectionConfiguration: configuration
        ) { stream in
            stream.eventLoop.makeCompletedFuture {
                try stream.pipeline.syncOperations.addHandler(HTTP2Stream(bound.value))
            }
        }
        try pipeline.addHandlers(handler, connection)
    }
}

/// TLS before there is HTTP: a connection counts, and is waited for, as any other.
final class Handshake: ChannelInboundHandler, RemovableChannelHandler, OpenConnection {
    typealias InboundIn = ByteBuffer

    private let connections: ServerConnections
    private let next: (String?, ChannelPipeline.SynchronousOperations) throws -> Void
    private var context: ChannelHandlerContext?
    private var deadline: Scheduled<Void>?
    let waitingSince = NIODeadline.now()
    private(set) var peer = ""
    let isWaitingForClient = true
    let heldBytes = 0

    /// `next`: adds what speaks the protocol that was agreed on.
    init(
        _ connections: ServerConnections,
        then next: @escaping (String?, ChannelPipeline.SynchronousOperations) throws -> Void
    ) {
        self.connections = connections
        self.next = next
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        peer = context.channel.remoteAddress?.peer ?? ""
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(connections.limits.request)) {
            self.close(.slowRequest)
        }
        connections.add(self)
    }
    func channelInactive(context: ChannelHandlerContext) { close(nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { close(nil) }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .handshakeCompleted(let name) = event as? TLSUserEvent, self.context != nil else { return }
        connections.remove(self, nil)
        deadline?.cancel()
        do {
            let pipeline = context.pipeline.syncOperations
            try next(name, pipeline)
            pipeline.removeHandler(context: context, promise: nil)
        } catch {
            context.close(promise: nil)
        }
        self.context = nil
    }

    func close(_ reason: ShedReason?) {
        connections.remove(self, reason)
        deadline?.cancel()
        context.take()?.close(promise: nil)
    }
}
