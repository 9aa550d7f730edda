/// An upstream as one event loop sees it: the balancer, the pool of idle connections, and who waits for one.
import Addressing
import Balancing
import RouteIR
import NIOCore

final class UpstreamPool {
    let id: UpstreamID
    private unowned let shard: Shard
    private(set) var balancer: EndpointBalancer
    var load: PoolLoad
    /// By host; the connection used last is taken first, so that surplus ones grow old and are closed.
    private var idle: [[HTTP1Upstream]] = []
    /// Some of them are tunnels, or were.
    private var hasRoutes = false
    /// To one endpoint: a rush of requests must not leave as many connections behind for an hour.
    private static let maximumIdle = 256
    private var http2: [EndpointBalancer.HostID: [HTTP2Upstream]] = [:]
    /// In the order of their coming: who comes later stands behind, whatever is free by then.
    private var waiting: [Exchange] = []
    private var isServing = false
    /// By host, as the configuration in force says.
    private var workloads: [WorkloadEntry?] = []
    private(set) var isRetired = false
    /// Copies of requests under way to it.
    var mirrors = 0

    init(_ upstream: Upstream, shard: Shard, shards: Int) {
        id = upstream.id
        self.shard = shard
        balancer = EndpointBalancer(
            upstream, zone: shard.table.snapshot.node.zone, now: shard.now,
            firstTurn: Int.random(in: 0..<1024, using: &shard.random))
        load = PoolLoad(shards: shards)
    }

    var upstream: Upstream { balancer.upstream }
    var policy: UpstreamPolicy { balancer.upstream.policy }

    func update(_ upstream: Upstream, now: Moment) {
        isRetired = false
        workloads = []
        guard upstream != balancer.upstream else { return }
        balancer.update(upstream, now: now)
        for (host, connections) in idle.enumerated() where !isWanted(host) {
            idle[host] = []
            for connection in connections { connection.close() }
        }
        for (host, connections) in http2 where !isWanted(host) { for connection in connections { connection.drain() } }
        serveWaiting()
    }
    /// The upstream is no longer configured.
    func retire() {
        isRetired = true
        workloads = []
        for connection in idle.joined() { connection.close() }
        idle = []
        for connection in http2.values.joined() { connection.drain() }
    }
    var isUnused: Bool { load == PoolLoad(shards: shard.options.threads) && waiting.isEmpty && mirrors == 0 }
    var idleCount: Int { idle.reduce(0) { $0 + $1.count } }

    private func isWanted(_ host: EndpointBalancer.HostID) -> Bool {
        !isRetired && !balancer.hosts[host].isRemoved && !balancer.hosts[host].endpoint.isDraining
    }

    /// Who has the address of an endpoint, as one configuration says.
    func workload(of host: EndpointBalancer.HostID, in table: RoutingTable) -> WorkloadEntry? {
        // A request that began under an older one has the longer way.
        guard table === shard.table else { return table.workload(at: balancer.hosts[host].endpoint.address.address) }
        while workloads.count <= host {
            workloads.append(table.workload(at: balancer.hosts[workloads.count].endpoint.address.address))
        }
        return workloads[host]
    }

    // MARK: Requests

    func pick(hash: UInt64?, tried: [Int]) -> EndpointBalancer.HostID? {
        balancer.pick(hash: hash, tried: tried, now: shard.now, using: &shard.random)
    }
    /// One that is not avoided, if a few looks find any.
    func pick(
        hash: UInt64?, tried: [Int], avoiding isAvoided: (EndpointBalancer.HostID) -> Bool
    ) -> EndpointBalancer.HostID? {
        var (host, seen) = (pick(hash: hash, tried: tried), tried)
        while let found = host, isAvoided(found), !seen.contains(found), seen.count < tried.count + 16 {
            seen.append(found)
            host = pick(hash: hash, tried: seen)
        }
        return host
    }
    func began(_ host: EndpointBalancer.HostID) {
        balancer.requestBegan(host)
        load.requestBegan()
    }
    /// `outcome` nil: it says nothing about the endpoint, because the client gave up.
    func ended(_ host: EndpointBalancer.HostID, _ outcome: RequestOutcome?) {
        load.requestEnded()
        if balancer.requestEnded(host, outcome, now: shard.now, using: &shard.random) { shard.stats.ejections += 1 }
    }

    // MARK: Connections

    /// An idle connection of this route that can still be used.
    func takeIdle(_ host: EndpointBalancer.HostID, by route: TunnelRoute?) -> HTTP1Upstream? {
        while host < idle.count, let connection = takeLast(host, by: route) {
            if connection.isReusable(now: shard.now) { return connection }
            connection.close()
        }
        return nil
    }
    private func takeLast(_ host: EndpointBalancer.HostID, by route: TunnelRoute?) -> HTTP1Upstream? {
        guard hasRoutes else { return idle[host].popLast() }
        return idle[host].lastIndex { $0.route == route }.map { idle[host].remove(at: $0) }
    }
    /// Makes room for a connection of one client's among those that others have left.
    func closeAnyIdle() -> Bool {
        guard let host = idle.firstIndex(where: { !$0.isEmpty }) else { return false }
        idle[host].removeFirst().close()
        return true
    }

    func connect(_ host: EndpointBalancer.HostID, by way: Way, for exchange: Exchange) {
        load.connectionOpened()
        HTTP1Upstream.connect(to: balancer.hosts[host].endpoint.address, by: way, host, self, shard, for: exchange)
    }

    /// The connection has done its work and can do more.
    func release(_ connection: HTTP1Upstream) {
        guard isWanted(connection.host), connection.address == balancer.hosts[connection.host].endpoint.address,
            policy.maxRequestsPerConnection.map({ connection.served < $0 }) ?? true
        else {
            connection.close()
            return
        }
        if connection.route != nil { hasRoutes = true }
        while idle.count <= connection.host { idle.append([]) }
        guard idle[connection.host].count < Self.maximumIdle else { return connection.close() }
        idle[connection.host].append(connection)
        serveWaiting()
    }
    /// A connection of this pool is gone, or never came to be.
    func connectionClosed(_ connection: HTTP1Upstream?) {
        load.connectionClosed()
        if let connection, connection.host < idle.count { idle[connection.host].removeAll { $0 === connection } }
        serveWaiting()
    }
    func closeIdle(now: Moment) {
        for connection in idle.joined() where now.since(connection.idleSince) > policy.idleTimeout {
            connection.close()
        }
        for connection in http2.values.joined()
        where connection.streamCount == 0 && now.since(connection.idleSince) > policy.idleTimeout {
            connection.drain()
        }
    }

    // MARK: Connections of HTTP/2

    /// The one with the fewest streams of those that take another.
    func http2(_ host: EndpointBalancer.HostID, by route: TunnelRoute? = nil) -> HTTP2Upstream? {
        http2[host]?.filter {
            $0.hasRoom && $0.address == balancer.hosts[host].endpoint.address && $0.route == route
        }
        .min { $0.streamCount < $1.streamCount }
    }
    /// When no connection more is allowed: any of this pool with room that a client may share.
    func anyHTTP2(_ mayShare: (HTTP2Upstream) -> Bool = { _ in true }) -> HTTP2Upstream? {
        for host in http2.keys.sorted() {
            let fits = { (connection: HTTP2Upstream) in
                connection.hasRoom && connection.address == self.address(host) && mayShare(connection)
            }
            if let connection = http2[host]?.first(where: fits) { return connection }
        }
        return nil
    }
    func address(_ host: EndpointBalancer.HostID) -> SocketAddress { balancer.hosts[host].endpoint.address }
    /// Whether it may be in the mesh.
    func isUnknown(_ host: EndpointBalancer.HostID) -> Bool { balancer.hosts[host].endpoint.isUnknown }

    /// nil: no connection more is allowed.
    func connectHTTP2(_ host: EndpointBalancer.HostID, by way: Way = .plain) -> HTTP2Upstream? {
        guard load.mayConnect(policy) else { return nil }
        load.connectionOpened()
        let connection = HTTP2Upstream(to: address(host), by: way, host, self, shard)
        http2[host, default: []].append(connection)
        connection.connect()
        return connection
    }
    func http2Closed(_ connection: HTTP2Upstream) {
        http2[connection.host]?.removeAll { $0 === connection }
        if http2[connection.host]?.isEmpty == true { http2[connection.host] = nil }
        load.connectionClosed()
        serveWaiting()
    }

    // MARK: Waiting for a connection

    var hasWaiting: Bool { !waiting.isEmpty }
    /// False if no more may wait. `isFirst`: its turn had come, but what was free has gone.
    func wait(_ exchange: Exchange, isFirst: Bool = false) -> Bool {
        guard load.mayWait(policy) else { return false }
        load.waitBegan()
        waiting.insert(exchange, at: isFirst ? 0 : waiting.count)
        return true
    }
    func stopWaiting(_ exchange: Exchange) {
        guard let index = waiting.firstIndex(where: { $0 === exchange }) else { return }
        waiting.remove(at: index)
        load.waitEnded()
    }
    /// Something may be free now: as many are served as there are places, which on HTTP/2 can be a hundred.
    func serveWaiting() {
        guard !waiting.isEmpty, !isServing else { return }
        isServing = true
        defer { isServing = false }
        while let first = waiting.first, idleCount > 0 || load.mayConnect(policy) || anyHTTP2() != nil {
            waiting.removeFirst()
            load.waitEnded()
            first.turnCame()
            if first.machine.isQueued { return }
        }
    }
    /// For a request when no connection more is allowed: any idle one of this pool.
    func anyIdleHost(_ mayShare: (HTTP1Upstream) -> Bool) -> EndpointBalancer.HostID? {
        idle.firstIndex { $0.contains(where: mayShare) }
    }
}
