/// What the two sides of HTTP/2 share: NIO's channel around `HTTP2Machine`, which knows the protocol. Streams are plain
/// objects here, because a channel for each costs more than the rest.
import Balancing
import HTTP2Wire
import NIOCore

class HTTP2Connection: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private static let highWatermark = 64 << 10
    /// Of a stream while all streams together have more queued than `connectionWatermark`: a few that the peer does not
    /// read must not fill the memory, and must not hold up the others either.
    private static let crowdedWatermark = 4 << 10
    private static let connectionWatermark = 1 << 20
    /// Of whole bodies that wait here.
    static let maximumUnread = 4 << 20
    /// Shorter pieces are copied behind the heads of their frames, which costs less than writing them apart.
    private static let longPiece = 4 << 10
    /// More of what was copied goes to the channel at once, which says when it is enough.
    private static let longOutput = 32 << 10

    let shard: Shard
    private(set) var context: ChannelHandlerContext?
    private var socket = DirectSocket()
    var machine: HTTP2Machine
    private(set) var streams: [UInt32: HTTP2Stream] = [:]
    /// Data of all streams that windows or the channel have not let out.
    var queued = 0 { didSet { queuedChanged(by: queued - oldValue) } }
    var watermark: Int { queued > Self.connectionWatermark ? Self.crowdedWatermark : Self.highWatermark }
    /// Those that wait for the channel, each behind the ones that waited before.
    private var stalled: [HTTP2Stream] = []
    /// Streams got no window back, because too much lay here.
    var holdsWindows = false
    private var wantsRead = false
    private var flushIsDue = false

    init(_ shard: Shard, _ role: HTTP2Machine.Role, _ change: (inout HTTP2Limits) -> Void = { _ in }) {
        self.shard = shard
        var limits = HTTP2Limits()
        limits.continuations = 5
        // What a slow reader can cost at first; windows grow for those that keep up. A client that uses what it was
        // offered must not lose its connection for it.
        let most = shard.limits.connection
        limits.streamWindow = min(256 << 10, UInt32(clamping: max(65_535, most / 128)))
        limits.connectionWindow = min(limits.connectionWindow, UInt32(clamping: max(65_535, most / 32)))
        limits.largestWindow = min(limits.largestWindow, UInt32(clamping: most / 8))
        limits.streamGrowth = min(limits.streamGrowth, UInt32(clamping: most / 4))
        limits.unread = min(limits.unread, most / 2)
        change(&limits)
        machine = HTTP2Machine(role, limits: limits)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if sendsDirectly { socket = DirectSocket(context.channel) }
        if context.channel.isActive { began(context) }
    }
    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        socket = DirectSocket()
    }
    func channelActive(context: ChannelHandlerContext) { began(context) }

    /// The machine has something to send from its beginning.
    func began(_ context: ChannelHandlerContext) { flushLater() }

    // MARK: What a side overrides

    /// No handler below changes what is sent and received, as TLS does.
    var sendsDirectly: Bool { true }
    /// The peer opens a stream; nil: it may not.
    func opened(_ id: UInt32) -> HTTP2Stream? { nil }
    func malformed(_ id: UInt32, _ fault: HTTP2Fault) {}
    func receivedSettings() {}
    func receivedGoAway() {}
    func streamEnded() {}
    /// The peer broke a rule that ends one of its streams, or the connection (`fault.stream` 0): its streams hear of it
    /// after this, and then the connection ends.
    func violated(_ fault: HTTP2Fault) {}
    func endAfterViolation() { closeAfterSending() }
    func closed() {}
    /// `queued` has changed; so much waits that the kernel does not take.
    func queuedChanged(by bytes: Int) {}
    func pendingChanged(to bytes: Int) {}
    /// What waits here of what the peer sent.
    var unread: Int { 0 }
    /// Also from a peer that does not read.
    var readsAlways: Bool { true }
    /// Heads and the like that wait for a peer that does not read; data waits with its streams.
    var unsentLimit: Int { .max }

    // MARK: Receiving

    func read(context: ChannelHandlerContext) {
        if readsAlways || context.channel.isWritable { context.read() } else { wantsRead = true }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        shard.beginTurn()
        defer { shard.endTurn() }
        let bytes = unwrapInboundIn(data)
        machine.now = UInt32(truncatingIfNeeded: shard.now.nanoseconds / 1_000_000_000)
        bytes.withUnsafeReadableBytes { raw in
            var at = 0
            // Whatever an event leads to may close the connection.
            while self.context != nil, let event = machine.next(raw, at: &at, into: &shard.fields) {
                received(event, bytes)
            }
        }
        // TLS has a buffer of its own, and would make a copy of it for each record while somebody else has it too.
        if sendsDirectly { shard.buffers.giveBack(bytes) }
        flushIfNeeded()
    }

    private func received(_ event: HTTP2Event, _ input: ByteBuffer) {
        switch event {
        case .head(let id, let facts, let isLast):
            guard let stream = streams[id] ?? start(id) else { return }
            stream.took(isLast: isLast) { stream.receivedHead(facts, isLast: isLast) }
        case .interim(let id, let facts):
            guard let stream = streams[id] else { return }
            stream.took(isLast: false) { stream.receivedInterim(facts) }
        case .data(let id, let range, let isLast):
            guard let stream = streams[id] else { return machine.consumed(id, range.count) }
            guard let bytes = input.getSlice(at: input.readerIndex + range.lowerBound, length: range.count) else {
                return
            }
            stream.took(bytes, isLast: isLast)
        case .trailers(let id):
            guard let stream = streams[id] else { return }
            stream.took(isLast: true) { stream.receivedTrailers() }
        case .malformed(let id, let fault): malformed(id, fault)
        case .reset(let id, let code):
            ended(id, machine.isLeftOut(id) ? .leaving : code == .refusedStream ? .refused : .byPeer)
        case .failed(let id, let fault):
            violated(fault)
            ended(id, .violation(fault))
        case .writable(let id): streams[id]?.pump()
        case .settings: receivedSettings()
        case .goAway: receivedGoAway()
        case .pong: break
        case .violated(let fault):
            violated(fault)
            for id in streams.keys.sorted() { ended(id, .violation(fault)) }
            endAfterViolation()
        }
    }

    private func start(_ id: UInt32) -> HTTP2Stream? {
        let stream = opened(id)
        streams[id] = stream
        return stream
    }
    func add(_ stream: HTTP2Stream) { streams[stream.id] = stream }

    private func ended(_ id: UInt32, _ cause: HTTP2Reset) {
        guard let stream = streams[id] else { return }
        remove(stream)
        stream.wasReset(cause)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed? = event as? ChannelEvent { context.close(promise: nil) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
        socket = DirectSocket()
        // First, so that nobody who waits is given a place here.
        closed()
        for id in streams.keys.sorted() { ended(id, .connectionClosed) }
        stalled = []
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    // MARK: Sending

    /// What the kernel has not taken.
    var pendingBytes: Int { machine.output.count + (context?.channel.pendingBytes ?? 0) }
    /// The channel takes more than it holds already.
    var isWritable: Bool { context?.channel.isWritable ?? false }

    /// As much as windows and channel take; the rest stays in `bytes`. `isLast` counts when all is out.
    func write(_ bytes: inout ByteBuffer, of stream: HTTP2Stream, isLast: Bool) {
        do throws(SendRefusal) {
            if bytes.readableBytes < Self.longPiece {
                guard isWritable || bytes.readableBytes == 0 else { return }
                let sent: Result<Int, SendRefusal> = bytes.withUnsafeReadableBytes { raw in
                    Result { () throws(SendRefusal) in try machine.sendData(stream.id, raw, isLast: isLast) }
                }
                bytes.moveReaderIndex(forwardBy: try sent.get())
                if machine.output.count > Self.longOutput { takeOutput() }
            } else {
                while bytes.readableBytes > 0, isWritable {
                    let count = try machine.beginData(stream.id, bytes.readableBytes, isLast: isLast)
                    guard count > 0, let piece = bytes.readSlice(length: count) else { break }
                    takeOutput()
                    queue(piece)
                }
            }
        } catch {
            // The stream has ended: nobody is there to be told.
            bytes.clear()
        }
        flushLater()
    }

    func unstall(_ stream: HTTP2Stream) { stalled.removeAll { $0 === stream } }
    func stall(_ stream: HTTP2Stream) {
        guard !stream.isStalled else { return }
        stream.isStalled = true
        stalled.append(stream)
    }

    /// Once for all streams that have something to send in this turn of the loop.
    func flushLater() {
        guard !flushIsDue else { return }
        flushIsDue = true
        shard.flushLater(self)
    }
    func flushIfNeeded() { if machine.output.count > 0 { flushLater() } }

    func flushNow() {
        flushIsDue = false
        guard let context else { return }
        // What the channel has no room for stays with the machine.
        let sent = machine.output.withBytes { $0.isEmpty ? 0 : socket.send($0) }
        if sent > 0 || context.channel.isWritable { takeOutput(from: sent) }
        guard socket.isQueueing else { return }
        context.flush()
        // The kernel may have had news of the connection's end.
        guard self.context != nil else { return }
        socket.flushed(context.channel)
        guard !context.channel.isWritable else { return }
        guard machine.output.count <= unsentLimit else { return close() }
        pendingChanged(to: pendingBytes)
    }

    /// `start`: what comes before is with the kernel already.
    private func takeOutput(from start: Int = 0) {
        guard let context, !machine.output.isEmpty else { return }
        let rest = machine.output.withBytes { bytes in
            guard start < bytes.count else { return ByteBuffer() }
            var buffer = context.channel.allocator.buffer(capacity: bytes.count - start)
            buffer.writeBytes(bytes[start...])
            return buffer
        }
        machine.outputWasTaken()
        if rest.readableBytes > 0 { queue(rest) }
    }
    private func queue(_ bytes: ByteBuffer) {
        socket.queued()
        context?.write(wrapOutboundOut(bytes), promise: nil)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        context.fireChannelWritabilityChanged()
        guard context.channel.isWritable else { return }
        pendingChanged(to: 0)
        flushIfNeeded()
        while isWritable, !stalled.isEmpty {
            let stream = stalled.removeFirst()
            stream.isStalled = false
            stream.pump()
        }
        if wantsRead {
            wantsRead = false
            context.read()
        }
    }

    // MARK: The end

    func remove(_ stream: HTTP2Stream) {
        guard streams.removeValue(forKey: stream.id) != nil else { return }
        stream.left(self)
        returnHeldWindows()
        streamEnded()
    }
    /// There may be less of what streams had to wait for.
    func returnHeldWindows() {
        guard holdsWindows else { return }
        holdsWindows = false
        for stream in streams.values { stream.returnWindow() }
    }

    func closeAfterSending() {
        takeOutput()
        context?.flush()
        guard let context, context.channel.pendingBytes > 0 else { return close() }
        context.whenSent { self.close() }
        // On nobody's account any more: a peer that takes nothing is not waited for.
        shard.loop.assumeIsolated().scheduleTask(in: .seconds(2)) { self.close() }
    }
    /// What the peer has sent meanwhile would make an end at once a reset, and destroy what is on its way to it.
    func closeOutput() {
        takeOutput()
        context?.flush()
        context?.close(mode: .output, promise: nil)
    }
    func close() { context?.close(promise: nil) }
}
