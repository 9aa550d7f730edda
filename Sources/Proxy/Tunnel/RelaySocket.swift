/// A TCP connection as one end of a relay.
import Glibc
import NIOCore

final class RelaySocket: ChannelDuplexHandler, RelayEnd {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let shard: Shard
    var relay: Relay?
    private var context: ChannelHandlerContext?
    private var socket = DirectSocket()
    /// Nothing is read before the other end is there, but for what comes with an end: NIO reads up to that at once.
    private var isPaused = true
    private var wantsRead = false
    private var hasRead = false
    private var inputEnded = false
    private var outputEnded = false
    private var failure: String?

    init(_ shard: Shard) { self.shard = shard }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        socket = DirectSocket(context.channel)
    }
    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        socket = DirectSocket()
    }

    // MARK: From its peer

    func read(context: ChannelHandlerContext) { if isPaused { wantsRead = true } else { context.read() } }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        shard.beginTurn()
        defer { shard.endTurn() }
        var bytes = unwrapInboundIn(data)
        if !hasRead {
            hasRead = true
            readOn(&bytes)
        }
        relay?.received(bytes, by: self)
        shard.buffers.giveBack(bytes)
    }
    /// The first read takes a few bytes only (`ReadAllocator`): those behind them are not to go their way alone.
    private func readOn(_ bytes: inout ByteBuffer) {
        guard bytes.readableBytes == ReadAllocator.firstSize else { return }
        var all = shard.buffers.take(BufferPool.size)
        all.writeBuffer(&bytes)
        all.writeWithUnsafeMutableBytes(minimumWritableBytes: 1) { socket.receive(into: $0) }
        bytes = all
    }
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { relay?.becameWritable(self) }
    }
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event as? ChannelEvent {
        case .outputClosed: outputEnded = true
        case .inputClosed:
            inputEnded = true
            relay?.inputEnded(of: self)
        case nil: break
        }
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        failure = failure ?? "reset the connection"
        context.close(promise: nil)
    }
    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
        socket = DirectSocket()
        // NIO does not tell the end of the input where the output has ended before.
        if failure == nil, outputEnded || inputEnded && isLeaving {
            relay?.left(self)
        } else {
            relay?.failed(self, failure ?? "closed the connection")
        }
    }

    // MARK: For the relay

    /// `endOutput` closes the whole connection where the input has ended before.
    private var isLeaving = false

    var isWritable: Bool { context?.channel.isWritable ?? true }
    var pendingBytes: Int { context?.channel.pendingBytes ?? 0 }

    func send(_ bytes: ByteBuffer) {
        guard let context else { return }
        var bytes = bytes
        let count = bytes.withUnsafeReadableBytes { socket.send($0) }
        bytes.moveReaderIndex(forwardBy: count)
        guard bytes.readableBytes > 0 else { return }
        socket.queued()
        context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
        // The kernel may have had news of the connection's end.
        if let channel = self.context?.channel { socket.flushed(channel) }
    }
    func endOutput() {
        isLeaving = true
        context?.endOutput(inputEnded: inputEnded)
    }
    func pause() { isPaused = true }
    func resume() {
        isPaused = false
        guard wantsRead else { return }
        wantsRead = false
        context?.read()
    }
    func reset() {
        guard let context else { return }
        context.channel.resetsAtClose()
        context.close(promise: nil)
    }
}
