/// A stream of a tunnel, once CONNECT was answered: bytes in both directions for whoever uses it, a relay or a channel.
import HTTP2Wire
import NIOCore

protocol TunnelUser: AnyObject {
    func received(_ bytes: ByteBuffer)
    func inputEnded()
    func becameWritable()
    /// Both sides have sent all.
    func left()
    /// The tunnel takes no new streams, and ends with its last one.
    func tunnelLeaves()
    /// `reason` for a log: what the peer did.
    func wasReset(_ reason: String)
}

extension TunnelUser {
    /// A connection that knows nothing of what it carries goes on.
    func tunnelLeaves() {}
}

class TunnelStream: HTTP2Stream {
    var user: (any TunnelUser)?

    override func receivedData(_ bytes: ByteBuffer, isLast: Bool) {
        guard let user else { return }
        if bytes.readableBytes > 0 { user.received(bytes) }
        if isLast { user.inputEnded() }
    }
    override func becameWritable() { user?.becameWritable() }
    override func ended() {
        super.ended()
        let user = user
        self.user = nil
        user?.left()
    }
    override func wasReset(_ cause: HTTP2Reset) {
        let user = user
        self.user = nil
        user?.wasReset(cause.sentence)
    }

    /// Gives it up without a word to the user.
    func abandon(_ code: HTTP2Code) {
        user = nil
        reset(code)
    }
}

extension HTTP2Reset {
    var sentence: String {
        switch self {
        case .byPeer: "reset the stream"
        case .refused: "refused the stream"
        case .leaving: "is leaving"
        case .violation(let fault): "broke the rules of HTTP/2: \(fault.kind.rawValue)"
        case .connectionClosed: "closed the tunnel"
        }
    }
}

/// As one end of a relay.
final class RelayStream: RelayEnd, TunnelUser {
    var relay: Relay?
    private var stream: TunnelStream?

    init(_ stream: TunnelStream) {
        self.stream = stream
        stream.user = self
        stream.pause()
    }

    // MARK: From the stream

    func received(_ bytes: ByteBuffer) { relay?.received(bytes, by: self) }
    func inputEnded() { relay?.inputEnded(of: self) }
    func becameWritable() { relay?.becameWritable(self) }
    func left() {
        stream = nil
        relay?.left(self)
    }
    func wasReset(_ reason: String) {
        stream = nil
        relay?.failed(self, reason)
    }

    // MARK: For the relay

    var isWritable: Bool { stream?.isWritable ?? true }
    var pendingBytes: Int { stream?.queued ?? 0 }
    func send(_ bytes: ByteBuffer) { stream?.sendData(bytes, isLast: false) }
    func endOutput() { stream?.sendData(ByteBuffer(), isLast: true) }
    func pause() { stream?.pause() }
    func resume() { stream?.resume() }
    func reset() {
        let stream = stream
        self.stream = nil
        // RFC 9113, 8.5: what TCP says with a reset.
        stream?.abandon(.connectError)
    }
}
