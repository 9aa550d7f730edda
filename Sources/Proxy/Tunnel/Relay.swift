/// Bytes in both directions between two connections, of which nothing is looked at: ends pass on as ends, resets as
/// resets, and who does not read makes the other side wait.
import Addressing
import Balancing
import NIOCore

/// What a relay wants of each of its two sides, and what it hears of them it hears with themselves.
protocol RelayEnd: AnyObject {
    func send(_ bytes: ByteBuffer)
    /// Nothing more is sent, once all is out.
    func endOutput()
    func pause()
    func resume()
    /// The peer is to notice that this is no end in order.
    func reset()
    var relay: Relay? { get set }
    var isWritable: Bool { get }
    /// Not taken by the peer yet.
    var pendingBytes: Int { get }
}

final class Relay: ClientConnection {
    private struct Sides: OptionSet {
        let rawValue: UInt8
        static let client = Sides(rawValue: 1)
        static let server = Sides(rawValue: 2)
        static let both: Sides = [.client, .server]
    }

    private let shard: Shard
    private let arrival: Arrival
    /// Who was there first, and where it wanted to go.
    private let client: any RelayEnd
    private var server: (any RelayEnd)?
    /// Came before the server was there: what a tunnel's window lets through, or what a client sent before its end.
    private var early: [ByteBuffer] = []
    /// Those that have sent all; those whose connection is gone, in order.
    private var ended: Sides = []
    private var gone: Sides = []
    private var ending = SlowEnding()
    private(set) var isOver = false
    var flow: FlowRecord
    private var charged = 0
    private var whenOver: [(Relay) -> Void] = []

    /// Registers with the shard: from now on it is on the client's account.
    init(_ shard: Shard, _ arrival: Arrival, client: any RelayEnd, _ flow: FlowRecord) {
        (self.shard, self.arrival, self.client, self.flow) = (shard, arrival, client, flow)
        client.relay = self
        shard.opened(self)
        charge(MemoryLimits.relay)
    }
    func whenOver(_ body: @escaping (Relay) -> Void) { whenOver.append(body) }

    /// The other side is there.
    func start(_ server: any RelayEnd) {
        self.server = server
        server.relay = self
        shard.flows.opened(&flow, now: shard.now)
        let pieces = early
        early = []
        account()
        for piece in pieces { received(piece, by: client) }
        if !isOver, ended.contains(.client) { server.endOutput() }
        server.resume()
        client.resume()
    }
    /// It never will be.
    func fail(_ refusal: TunnelRefusal) {
        guard !isOver else { return }
        flow.refusal = refusal
        end(resets: true)
    }

    private func side(_ end: any RelayEnd) -> Sides { end === client ? .client : .server }
    private func other(_ end: any RelayEnd) -> (any RelayEnd)? { end === client ? server : client }

    // MARK: From the ends

    func received(_ bytes: ByteBuffer, by end: any RelayEnd) {
        guard !isOver else { return }
        guard let other = other(end) else {
            early.keep(bytes, from: 0)
            return account()
        }
        let count = UInt64(bytes.readableBytes)
        if end === client { flow.received += count } else { flow.sent += count }
        other.send(bytes)
        guard !isOver, !other.isWritable else { return }
        end.pause()
        account()
    }
    func inputEnded(of end: any RelayEnd) {
        guard !isOver, ended.insert(side(end)).inserted else { return }
        if ended == .both { ending = SlowEnding(since: shard.now, unsent: .max) }
        other(end)?.endOutput()
    }
    func becameWritable(_ end: any RelayEnd) {
        guard !isOver else { return }
        account()
        other(end)?.resume()
    }
    /// It has sent and taken everything.
    func left(_ end: any RelayEnd) {
        inputEnded(of: end)
        gone.insert(side(end))
        if gone == .both { self.end(resets: false) }
    }
    func failed(_ end: any RelayEnd, _ reason: String) {
        guard !isOver else { return }
        flow.refusal = TunnelRefusal(.reset, "the \(end === client ? "client" : "server") \(reason)")
        self.end(resets: true)
    }

    // MARK: The end

    private func end(resets: Bool) {
        guard !isOver else { return }
        isOver = true
        if resets {
            client.reset()
            server?.reset()
        }
        client.relay = nil
        server?.relay = nil
        charge(0)
        flow.ended = shard.now
        shard.finish(flow)
        shard.closed(self)
        let bodies = whenOver
        whenOver = []
        for body in bodies { body(self) }
    }

    // MARK: For the shard

    private func charge(_ bytes: Int) {
        shard.hold(bytes - charged, arrival)
        charged = bytes
    }
    private func account() {
        let waiting = [client, server].reduce(early.reduce(0) { $0 + $1.readableBytes }) { sum, end in
            sum + (end.map { $0.isWritable ? 0 : $0.pendingBytes } ?? 0)
        }
        charge(MemoryLimits.relay + waiting)
    }
    var held: Int { charged }
    var source: MemorySource { arrival.source }
    /// It ends when its ends do: nobody knows what its bytes are.
    func drain() {}
    func abort() { end(resets: true) }
    func checkDeadline(_ now: Moment) {
        shard.flows.progress(&flow, now: now)
        guard ended == .both else { return }
        let unsent = client.pendingBytes + (server?.pendingBytes ?? 0)
        if ending.isOver(now, unsent: unsent, patience: shard.options.streamIdleTimeout) { abort() }
    }
}
