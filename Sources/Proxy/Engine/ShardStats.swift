/// Counters of one event loop. Whoever wants to show them asks the loop for a copy and adds the copies up.
import RouteIR

package struct ShardStats: Sendable {
    package var connectionsOpened: UInt64 = 0
    package var connectionsClosed: UInt64 = 0
    package var requests: UInt64 = 0
    package var active: Int = 0
    package var retries: UInt64 = 0
    package var overflows: UInt64 = 0
    package var ejections: UInt64 = 0
    package var mirrored: UInt64 = 0
    /// Connections that waited for their client to become known.
    package var heldClients: UInt64 = 0
    /// Connections of clients that stayed unknown, to services with routes for single namespaces.
    package var unknownClients: UInt64 = 0
    /// Bytes from backends that nobody had asked for.
    package var strayAnswers: UInt64 = 0
    /// Tunnels, and streams in them, that did not come to be.
    var tunnelRefusals: [TunnelRefusal.Kind: UInt64] = [:]
    /// What ran into a bound.
    package var limited: [ProxyLimit: UInt64] = [:]
    /// Bytes kept on behalf of clients.
    package var held = 0
    /// What clients did wrong, by `WireFault` and `HTTP2FaultKind`.
    package var violations: [String: UInt64] = [:]

    package static func + (a: ShardStats, b: ShardStats) -> ShardStats {
        var sum = a
        sum.connectionsOpened += b.connectionsOpened
        sum.connectionsClosed += b.connectionsClosed
        sum.requests += b.requests
        sum.active += b.active
        sum.retries += b.retries
        sum.overflows += b.overflows
        sum.ejections += b.ejections
        sum.mirrored += b.mirrored
        sum.heldClients += b.heldClients
        sum.unknownClients += b.unknownClients
        sum.strayAnswers += b.strayAnswers
        sum.tunnelRefusals.merge(b.tunnelRefusals, uniquingKeysWith: +)
        sum.limited.merge(b.limited, uniquingKeysWith: +)
        sum.held += b.held
        sum.violations.merge(b.violations, uniquingKeysWith: +)
        return sum
    }
}

extension Shard {
    var statsNow: ShardStats {
        var stats = stats
        stats.held = ledger.held
        return stats
    }

    /// A request is over: counts it and tells those who write it down.
    func finish(_ record: RequestRecord) {
        if !series.add(record) { limited(.series) }
        if let logs { logs.log(record, node: table.snapshot.node) }
        if let spans, record.trace?.isSampled == true { spans.export(record, node: table.snapshot.node) }
    }
}
