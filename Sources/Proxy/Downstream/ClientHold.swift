/// A client's namespace decides which routes apply to it, and its identity whether anything of it may pass the network
/// in the clear; and a pod may connect before this node was told of it. The first connections of such a client wait for
/// a moment, unread; whoever stays unknown counts as one of no namespace (docs/l7.md), and does not wait again.
import Addressing
import Balancing
import NIOCore

/// Stands before the handler of a connection until its client is known, or waited for no longer.
final class ClientHold: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer

    private let shard: Shard
    let address: IPAddress
    private var context: ChannelHandlerContext?
    private var wantsRead = false
    /// Puts the connection's handlers behind this one, where they depend on who the client is; false: it has gone.
    var then: ((Bool) -> Void)?

    fileprivate init(_ shard: Shard, _ address: IPAddress) {
        self.shard = shard
        self.address = address
    }

    var isWaiting: Bool { context != nil }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }
    func read(context: ChannelHandlerContext) { wantsRead = true }
    func channelInactive(context: ChannelHandlerContext) {
        shard.unknownClients.forget(self)
        decide(false)
        context.fireChannelInactive()
    }

    func release() {
        guard let context else { return }
        self.context = nil
        let channel = context.channel
        decide(true)
        channel.pipeline.syncOperations.removeHandler(self, promise: nil)
        // By way of those handlers, which may not want it yet.
        if wantsRead { channel.read() }
    }
    private func decide(_ isThere: Bool) {
        let then = then
        self.then = nil
        then?(isThere)
    }
}

/// Of one event loop. Clients choose their addresses, so there is a limit to what is kept of them.
struct UnknownClients {
    private static let limit = 4096
    /// Of one client: the places of the others are not its to take.
    private static let limitOfOne = 64
    private var held: [IPAddress: [ClientHold]] = [:]
    private var heldCount = 0
    /// They were waited for in vain.
    private var strangers: Set<IPAddress> = []
    private var toldAt: Moment?

    func isStranger(_ address: IPAddress) -> Bool { strangers.contains(address) }
    func hasRoom(for address: IPAddress) -> Bool {
        heldCount < Self.limit && (held[address]?.count ?? 0) < Self.limitOfOne
    }

    mutating func hold(_ connection: ClientHold) {
        held[connection.address, default: []].append(connection)
        heldCount += 1
    }

    mutating func forget(_ connection: ClientHold) {
        let address = connection.address
        guard let index = held[address]?.firstIndex(where: { $0 === connection })
        else { return }
        held[address]?.remove(at: index)
        if held[address]?.isEmpty == true { held[address] = nil }
        heldCount -= 1
    }

    /// All connections of a client that is known now, or that is waited for no longer.
    mutating func take(_ address: IPAddress) -> [ClientHold] {
        let connections = held.removeValue(forKey: address) ?? []
        heldCount -= connections.count
        return connections
    }

    /// Those that have become known.
    mutating func takeKnown(_ isKnown: (IPAddress) -> Bool) -> [ClientHold] {
        strangers = strangers.filter { !isKnown($0) }
        return held.keys.filter(isKnown).flatMap { take($0) }
    }

    /// True: somebody should be told; not of each of many.
    mutating func giveUp(on address: IPAddress, now: Moment) -> Bool {
        if strangers.count >= Self.limit { strangers.removeAll(keepingCapacity: true) }
        guard strangers.insert(address).inserted, toldAt.map({ now.since($0) >= .seconds(1) }) ?? true
        else {
            return false
        }
        toldAt = now
        return true
    }
}

extension Shard {
    /// What a connection has to wait behind until its client is known; nil: nothing depends on who that is.
    func hold(for arrival: Arrival) -> ClientHold? {
        let client = arrival.peer.address.address
        guard table.hasConsumers || table.isInMesh,
            case (nil, let service) = arrival.entries(in: table),
            service?.hasConsumers == true || table.isInMesh && (service != nil || table.isRelayed(arrival))
        else { return nil }
        // An address of the node's own is not held, so it never becomes a stranger; to look at it takes system calls.
        let isStranger = unknownClients.isStranger(client)
        guard isStranger || !options.isOwnAddress(client) else { return nil }
        guard !isStranger, unknownClients.hasRoom(for: client) else {
            stats.unknownClients += 1
            return nil
        }
        stats.heldClients += 1
        let connection = ClientHold(self, client)
        unknownClients.hold(connection)
        let patience = TimeAmount.nanoseconds(Int64(clamping: options.clientPatience.wholeNanoseconds))
        loop.assumeIsolated().scheduleTask(in: patience) { [weak connection] in
            if connection?.isWaiting == true { self.giveUp(on: client) }
        }
        return connection
    }

    private func giveUp(on client: IPAddress) {
        if unknownClients.giveUp(on: client, now: now) {
            options.tell(
                "\(client) is the address of no pod that is known on this node: routes of single namespaces do not "
                    + "apply to it"
            )
        }
        for connection in unknownClients.take(client) {
            stats.unknownClients += 1
            connection.release()
        }
    }

    /// After a new table.
    func releaseKnownClients() {
        let table = table
        for connection in unknownClients.takeKnown({ table.workload(at: $0) != nil }) {
            connection.release()
        }
    }
}
