/// A tunnel's stream as a channel of NIO, so that the handlers of endpoints' connections stand on it as they stand on
/// TCP: ends and resets mean the same.
import Addressing
import HTTP2Wire
import NIOCore

// Touched on its own loop only, but for what is fixed at the beginning.
final class StreamChannel: Channel, ChannelCore, TunnelUser, @unchecked Sendable {
    let eventLoop: any EventLoop
    let allocator = ByteBufferAllocator()
    private let closePromise: EventLoopPromise<Void>
    private var ownPipeline: ChannelPipeline?
    private var stream: ClientTunnelStream?
    private var request: TunnelRequest?
    private var isReset = false
    private var isClosed = false
    private var hasInputEnded = false
    private var outputEnded = false
    private var wasWritable = true

    init(_ loop: any EventLoop) {
        eventLoop = loop
        closePromise = loop.makePromise()
        ownPipeline = ChannelPipeline(channel: self)
    }

    // MARK: From the tunnel

    /// What has to be given up if it is closed before it is open.
    func waits(for request: TunnelRequest) { self.request = request }
    func opened(_ stream: ClientTunnelStream) {
        request = nil
        guard !isClosed else { return stream.abandon(.cancel) }
        self.stream = stream
        stream.user = self
        pipeline.fireChannelActive()
        if stream.isLeaving { tunnelLeaves() }
        pipeline.read()
    }
    /// As of a socket that does not connect: it was never active, and whoever asked for it hears why.
    func failed() {
        guard !isClosed else { return }
        isClosed = true
        request = nil
        letGo()
    }

    func received(_ bytes: ByteBuffer) {
        guard !isClosed else { return abandon(.cancel) }
        // Whoever reads asks again; until then the peer gets no window.
        stream?.pause()
        pipeline.fireChannelRead(bytes)
        pipeline.fireChannelReadComplete()
        if !isClosed { pipeline.read() }
    }
    func inputEnded() {
        guard !isClosed, !hasInputEnded else { return }
        hasInputEnded = true
        pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    }
    func becameWritable() {
        guard !isClosed, !wasWritable else { return }
        wasWritable = true
        pipeline.fireChannelWritabilityChanged()
    }
    func left() {
        stream = nil
        closeNow()
    }
    func tunnelLeaves() { pipeline.fireUserInboundEventTriggered(TunnelLeaves()) }
    func wasReset(_ reason: String) {
        stream = nil
        guard !isClosed else { return }
        pipeline.fireErrorCaught(TunnelRefusal(.reset, "the server \(reason)"))
        closeNow()
    }
    private func abandon(_ code: HTTP2Code) {
        let stream = stream
        self.stream = nil
        stream?.abandon(code)
    }

    private func closeNow() {
        guard !isClosed else { return }
        isClosed = true
        request?.cancel()
        request = nil
        pipeline.fireChannelInactive()
        letGo()
    }
    /// Of the handlers, not from inside one of them; this ends the circle of references.
    private func letGo() {
        eventLoop.assumeIsolated().execute {
            self.removeHandlers(pipeline: self.pipeline)
            self.closePromise.succeed()
        }
    }

    // MARK: Channel

    var closeFuture: EventLoopFuture<Void> { closePromise.futureResult }
    var pipeline: ChannelPipeline {
        guard let ownPipeline else { preconditionFailure("made in init") }
        return ownPipeline
    }
    var localAddress: NIOCore.SocketAddress? { try? stream?.link?.local?.nio() }
    var remoteAddress: NIOCore.SocketAddress? { nil }
    var parent: (any Channel)? { nil }
    var isWritable: Bool { stream?.isWritable ?? true }
    var isActive: Bool { stream != nil && !isClosed }
    var _channelCore: any ChannelCore { self }
    var syncOptions: (any NIOSynchronousChannelOptions)? { Options(channel: self) }

    func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
        eventLoop.makeCompletedFuture { try Options(channel: self).setOption(option, value: value) }
    }
    func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
        eventLoop.makeCompletedFuture { try Options(channel: self).getOption(option) }
    }
    private struct Options: NIOSynchronousChannelOptions {
        let channel: StreamChannel

        func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) throws {}
        func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
            let value: Any? =
                switch option {
                case is ChannelOptions.Types.BufferedWritableBytesOption: channel.stream?.queued ?? 0
                case is ChannelOptions.Types.AutoReadOption, is ChannelOptions.Types.AllowRemoteHalfClosureOption: true
                default: nil
                }
            guard let value = value as? Option.Value else { throw ChannelError.operationUnsupported }
            return value
        }
    }

    // MARK: ChannelCore

    func localAddress0() throws -> NIOCore.SocketAddress { throw ChannelError.operationUnsupported }
    func remoteAddress0() throws -> NIOCore.SocketAddress { throw ChannelError.operationUnsupported }
    func register0(promise: EventLoopPromise<Void>?) { promise?.fail(ChannelError.operationUnsupported) }
    func registerAlreadyConfigured0(promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }
    func bind0(to: NIOCore.SocketAddress, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }
    func connect0(to: NIOCore.SocketAddress, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }
    func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard let stream, !isClosed, !outputEnded else { return fail(promise) }
        stream.sendData(unwrapData(data, as: ByteBuffer.self), isLast: false)
        promise?.succeed()
        guard wasWritable, !stream.isWritable else { return }
        wasWritable = false
        pipeline.fireChannelWritabilityChanged()
    }
    func flush0() { stream?.flush() }
    func read0() { stream?.resume() }
    private func fail(_ promise: EventLoopPromise<Void>?) { promise?.fail(ChannelError.ioOnClosedChannel) }

    func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard !isClosed else { return fail(promise) }
        switch mode {
        case .input: return fail(promise)
        case .output:
            endOutput()
            pipeline.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
        case .all: closeAll()
        }
        promise?.succeed()
    }
    private func endOutput() {
        guard !outputEnded else { return }
        outputEnded = true
        stream?.sendData(ByteBuffer(), isLast: true)
    }
    /// As a socket is closed: what was written goes out with its end, and what still comes is answered with a reset.
    private func closeAll() {
        if isReset {
            abandon(.cancel)
        } else if let stream {
            endOutput()
            stream.user = StreamRest(stream)
            self.stream = nil
        }
        closeNow()
    }
    func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) {
        if event is ResetAtClose { isReset = true }
        promise?.succeed()
    }
    func channelRead0(_ data: NIOAny) {}
    func errorCaught0(error: any Error) {}
}

/// For channels that are no sockets: what SO_LINGER says to those.
struct ResetAtClose {}

/// The connection is to be used for nothing more: its server's node waits for its end.
struct TunnelLeaves {}

/// What is left of a stream that its channel has closed. The circle of references ends with the stream.
private final class StreamRest: TunnelUser {
    private var stream: TunnelStream?
    private var timer: Scheduled<Void>?

    init(_ stream: TunnelStream) {
        self.stream = stream
        timer = stream.connection?.shard.loop.assumeIsolated().scheduleTask(in: .seconds(10)) { self.give(up: .cancel) }
    }
    private func give(up code: HTTP2Code) {
        timer?.cancel()
        let stream = stream
        self.stream = nil
        stream?.abandon(code)
    }
    func received(_ bytes: ByteBuffer) { give(up: .cancel) }
    func inputEnded() {}
    func becameWritable() {}
    func left() { timer?.cancel() }
    func wasReset(_ reason: String) { timer?.cancel() }
}
