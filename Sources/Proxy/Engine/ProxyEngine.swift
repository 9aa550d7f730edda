/// All event loops together: listeners, the configuration in force, the end.
import Addressing
import NIOCore
import NIOPosix
import Posix
package import RouteIR
import Synchronization

package final class ProxyEngine: Sendable {
    let group: MultiThreadedEventLoopGroup
    let shards: [Shard]
    let memoryLimit: Int
    struct State {
        var table: RoutingTable
        var listeners: [any Channel] = []
        var credentials = TunnelCredentials()
        /// Of each pod; those that others have taken the place of.
        var tunnels: [IPAddress: any Channel] = [:]
        var retiring: [IPAddress: [any Channel]] = [:]
        var isDraining = false
    }
    let state: Mutex<State>

    package init(
        options: EngineOptions, snapshot: ProxySnapshot, logs: (any AccessLogSink)? = nil, spans: (any SpanSink)? = nil
    ) {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: options.threads)
        self.group = group
        memoryLimit = options.memoryLimit
        let table = RoutingTable(snapshot)
        state = Mutex(State(table: table))
        shards = (0..<options.threads).map { _ in
            Shard(loop: group.next(), options: options, table: table, logs: logs, spans: spans)
        }
        for shard in shards {
            shard.loop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in shard.tick() }
        }
    }

    /// The configuration in force.
    package var snapshot: ProxySnapshot { state.withLock(\.table.snapshot) }

    /// Opens a listener on each loop. Returns the address, with the port the system chose if 0 was asked for.
    package func listen(_ address: SocketAddress) async throws -> SocketAddress {
        var address = address
        for shard in shards {
            let channel = try await Listener.open(address, for: shard)
            state.withLock { $0.listeners.append(channel) }
            address = SocketAddress(channel.localAddress) ?? address
        }
        return address
    }

    package var isListening: Bool { state.withLock { !$0.listeners.isEmpty } }

    /// Puts a configuration into force on every loop; returns when all have it.
    package func adopt(_ snapshot: ProxySnapshot) {
        let table = RoutingTable(snapshot, replacing: state.withLock(\.table))
        state.withLock { $0.table = table }
        let done = LoopGate(shards.count)
        for shard in shards {
            shard.loop.execute {
                shard.adopt(table)
                done.signal()
            }
        }
        done.wait()
    }

    /// Takes no new connections and ends those there are after the request they are at.
    package func drain() {
        let listeners = state.withLock { state in
            let all = state.listeners + state.tunnels.values + state.retiring.values.joined()
            (state.listeners, state.tunnels, state.retiring, state.isDraining) = ([], [:], [:], true)
            return all
        }
        for listener in listeners { listener.close(promise: nil) }
        for shard in shards { shard.loop.execute { shard.drain() } }
    }

    package func shutdown() async {
        drain()
        for shard in shards { try? await shard.loop.submit { shard.closeAll() }.get() }
        try? await group.shutdownGracefully()
    }

    // MARK: What it says of itself; from any thread but an event loop's

    func collect<Value: Sendable>(_ body: @escaping @Sendable (Shard) -> Value) -> [Value] {
        let results = Mutex<[Value]>([])
        let done = LoopGate(shards.count)
        for shard in shards {
            shard.loop.execute {
                let value = body(shard)
                results.withLock { $0.append(value) }
                done.signal()
            }
        }
        done.wait()
        return results.withLock { $0 }
    }
    package var stats: ShardStats { collect { $0.statsNow }.reduce(ShardStats(), +) }

    /// All series. A loop hands over so many at a time and goes on with its requests in between; nothing that it writes
    /// to is shared with the reader, which would make it copy the whole of it.
    package var series: [(key: SeriesKey, value: Series)] {
        var all: [(key: SeriesKey, value: Series)] = []
        for shard in shards {
            var position = 0
            while true {
                let start = position
                let piece = ask(shard) { $0.series.piece(from: start) } ?? []
                all += piece
                position += piece.count
                if piece.count < SeriesTable.piece { break }
            }
        }
        return all
    }
    private func ask<Value: Sendable>(_ shard: Shard, _ body: @escaping @Sendable (Shard) -> Value) -> Value? {
        let result = Mutex<Value?>(nil)
        let done = LoopGate(1)
        shard.loop.execute {
            let value = body(shard)
            result.withLock { $0 = value }
            done.signal()
        }
        done.wait()
        return result.withLock { $0 }
    }
    package var flows: [(key: FlowKey, value: FlowSeries)] {
        collect { shard in shard.flows.entries.map { (key: $0.key, value: $0.value) } }.flatMap { $0 }
    }
    package var connectionCount: Int { collect { $0.connectionCount }.reduce(0, +) }
}

/// Waits on a thread of its own until all loops have done something.
final class LoopGate: Sendable {
    private let semaphore = Semaphore()
    private let count: Int

    init(_ count: Int) { self.count = count }
    func signal() { semaphore.signal() }
    func wait() { for _ in 0..<count { semaphore.wait() } }
}
