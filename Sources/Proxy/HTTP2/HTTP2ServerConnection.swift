/// A connection that a client has made, for requests or for tunnels: all that it makes the proxy keep is on the account
/// of where it came from.
import Addressing
import Balancing
import HTTP2Wire
import NIOCore

class HTTP2ServerConnection: HTTP2Connection, ClientConnection {
    let arrival: Arrival
    /// Of `arrival.held`: what the channel keeps, and the connection itself.
    private var pending = 0
    private var ownHeld = 0
    private var size = MemoryLimits.http2Connection

    init(_ shard: Shard, _ arrival: Arrival, _ change: (inout HTTP2Limits) -> Void) {
        self.arrival = arrival
        super.init(shard, .server, change)
    }

    override func began(_ context: ChannelHandlerContext) {
        super.began(context)
        try? context.channel.syncOptions?.setOption(.writeBufferWaterMark, value: ReadSizes.unreadFrames)
        shard.opened(self)
        hold(size)
    }
    override func closed() {
        hold(-ownHeld)
        shard.dismiss(arrival)
        shard.closed(self)
    }

    // MARK: On the client's account

    private func hold(_ bytes: Int) {
        ownHeld += bytes
        shard.hold(bytes, arrival)
    }
    override func queuedChanged(by bytes: Int) { shard.hold(bytes, arrival) }
    override func pendingChanged(to bytes: Int) {
        hold(bytes - pending)
        pending = bytes
    }
    var held: Int { arrival.held }
    var source: MemorySource { arrival.source }
    /// Where it comes from, or of a tunnel where it leads.
    var pod: IPAddress { source.address }
    /// Heads are under no window: who takes no answers gets to send no requests.
    override var readsAlways: Bool { false }
    override var unread: Int { arrival.held - ownHeld - queued }

    // MARK: For the shard; what a side overrides

    func drain() {}
    func abort() {}
    func checkDeadline(_ now: Moment) {
        // What was waited for may have gone without a word to this connection, as copies of requests do.
        returnHeldWindows()
        // Half a header block, or answers that were not taken, may make it larger.
        let size = max(MemoryLimits.http2Connection, machine.memory)
        hold(size - self.size)
        self.size = size
    }
}
