/// What one event loop owns: connections, pools, balancing state, counters. Nothing of it is shared, so nothing is
/// locked and no request crosses from one thread to another.
package import Addressing
import Balancing
import HTTP2Wire
import HTTPWire
import NIOCore
import RouteIR

// Touched on its own loop only; other threads reach it through `loop.execute`.
final class Shard: @unchecked Sendable {
    let loop: any EventLoop
    let options: EngineOptions
    let logs: (any AccessLogSink)?
    let spans: (any SpanSink)?
    /// Somebody reads what requests leave behind, beyond their numbers.
    var isObserved: Bool { logs != nil || spans != nil }
    private(set) var table: RoutingTable
    private(set) var pools: [UpstreamID: UpstreamPool] = [:]
    var random: FastGenerator
    var stats = ShardStats()
    var series = SeriesTable()
    private var sweptAt = Moment.start
    private(set) var connections: [ObjectIdentifier: any ClientConnection] = [:]
    var ledger = MemoryLedger()
    let limits: MemoryLimits
    private var isDraining = false
    var unknownClients = UnknownClients()
    let buffers = BufferPool()
    /// Reused for every head that is written.
    var scratch: [UInt8] = []
    var edit = HeadEdit()
    /// Of the message that an HTTP/2 connection is reading.
    var fields = FieldList()
    var heads = HTTP2Heads()
    let patterns = PatternCache()
    // The mesh.
    private(set) var credentials = TunnelCredentials()
    private(set) lazy var tunnels = TunnelPool(self)
    /// When they left the mesh.
    private(set) var formerPods: [IPAddress: Moment] = [:]
    var doors = TunnelDoors()
    var flows = FlowTable()
    var toldOfTunnelAt = Moment.start
    /// Connections of HTTP/2 with something to send, once this turn of the loop is over.
    private var unflushed: [HTTP2Connection] = []

    init(
        loop: any EventLoop, options: EngineOptions, table: RoutingTable, logs: (any AccessLogSink)?,
        spans: (any SpanSink)?
    ) {
        self.loop = loop
        self.options = options
        limits = MemoryLimits(options)
        self.table = table
        self.logs = logs
        self.spans = spans
        var system = SystemRandomNumberGenerator()
        random = FastGenerator(seed: system.next())
    }

    var now: Moment { turn ?? clock }
    private var clock: Moment { Moment(nanoseconds: NIODeadline.now().uptimeNanoseconds) }
    private var turn: Moment?

    /// Until `endTurn` it stays the same moment: what is done about some bytes asks for the time a dozen times.
    func beginTurn() { turn = clock }
    func endTurn() { turn = nil }

    /// One task for all connections: what came by many of them in one turn of the loop leaves together.
    func flushLater(_ connection: HTTP2Connection) {
        unflushed.append(connection)
        guard unflushed.count == 1 else { return }
        loop.assumeIsolated().execute {
            var due: [HTTP2Connection] = []
            swap(&due, &self.unflushed)
            for connection in due { connection.flushNow() }
        }
    }

    /// Takes a new table into use. Requests under way keep what they began with; connections to endpoints that are no
    /// longer wanted are closed as soon as they are idle.
    func adopt(_ table: RoutingTable) {
        let old = self.table
        self.table = table
        if table.snapshot.mesh != old.snapshot.mesh { trustChanged() }
        for case let tunnel as TunnelServer in connections.values
        where table.policies[tunnel.pod] !== old.policies[tunnel.pod] {
            tunnel.policiesChanged()
        }
        formerPods = formerPods.filter { now.since($0.value) < Tunnel.lingerTime }
        for pod in table.formerPods { formerPods[pod] = now }
        for (id, state) in pools {
            if let upstream = table.snapshot.upstreams[id] {
                state.update(upstream, now: now)
            } else {
                state.retire()
                if state.isUnused { pools[id] = nil }
            }
        }
        // Last: what they have sent may be looked at here and now.
        releaseKnownClients()
        for door in doors.all { door.goOn() }
    }

    /// Later connections show these.
    func adopt(_ credentials: TunnelCredentials) {
        let roots = self.credentials.roots
        self.credentials = credentials
        if credentials.roots != roots { trustChanged() }
        tunnels.credentialsChanged()
        for door in doors.all { door.goOn() }
    }

    /// Tunnels whose peers are believed no more end at once.
    private func trustChanged() {
        tunnels.trustChanged()
        for connection in connections.values { (connection as? TunnelServer)?.trustChanged() }
    }

    var inboundTunnels: [IPAddress: TunnelCount] {
        connections.values.reduce(into: [:]) { counts, connection in
            guard let tunnel = connection as? TunnelServer else { return }
            counts[tunnel.pod, default: TunnelCount()].tunnels += 1
            counts[tunnel.pod, default: TunnelCount()].streams += tunnel.streams.count
        }
    }

    /// Everything that comes from a pod, goes to it by a tunnel, or uses its network namespace.
    func close(pod: IPAddress) {
        tunnels.close(pod: pod)
        for connection in connections.values where connection.source.address == pod || connection.pod == pod {
            connection.abort()
        }
    }

    /// nil: no such upstream is configured.
    func pool(_ id: UpstreamID) -> UpstreamPool? {
        let known = pools[id]
        // `adopt` retires what is no longer configured.
        if let known, !known.isRetired { return known }
        guard let upstream = table.snapshot.upstreams[id] else { return nil }
        if let known {
            known.update(upstream, now: now)
            return known
        }
        let state = UpstreamPool(upstream, shard: self, shards: options.threads)
        pools[id] = state
        return state
    }

    // MARK: Connections of clients

    func opened(_ connection: any ClientConnection) {
        connections[ObjectIdentifier(connection)] = connection
        stats.connectionsOpened += 1
        if isDraining { connection.drain() }
    }
    func closed(_ connection: any ClientConnection) {
        guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
        stats.connectionsClosed += 1
    }
    /// Another handler takes over its connection.
    func replaced(_ connection: any ClientConnection) {
        connections[ObjectIdentifier(connection)] = nil
        stats.connectionsOpened -= 1
    }
    var connectionCount: Int { connections.count }

    /// A message that could not be read, so that no exchange came of it. `status`: what the client was answered, or 0.
    func report(_ fault: String, _ arrival: Arrival, status: UInt16, details: String) {
        var record = RequestRecord(began: now, arrival)
        record.status = status
        record.flags = .downstreamProtocolError
        record.details = details
        record.failure = fault
        let (source, service) = arrival.entries(in: table)
        record.source = source
        record.service = service?.name
        finish(record)
    }

    /// From now on connections end after the request they are at.
    func drain() {
        isDraining = true
        for connection in connections.values { connection.drain() }
    }
    func closeAll() {
        for connection in connections.values { connection.abort() }
        tunnels.closeAll()
    }

    /// Called every second: ends what has waited too long. One timer for all connections costs them nothing.
    func tick() {
        let now = now
        for connection in connections.values { connection.checkDeadline(now) }
        for state in pools.values { state.closeIdle(now: now) }
        tunnels.tick(now)
        giveMemoryBack()
        guard now.since(sweptAt) > .seconds(30) else { return }
        sweptAt = now
        series.sweep(table, now: now)
        flows.sweep(table, now: now)
    }
}

package struct EngineOptions: Sendable {
    /// Event loops, by which limits are divided.
    package var threads = 1
    /// For a client to send a whole head, counted from its first byte.
    package var headTimeout: Duration = .seconds(30)
    /// Of a client's connection between two requests.
    package var idleTimeout: Duration = .seconds(3600)
    /// For the next request of an idle connection, once no more are wanted.
    package var drainGrace: Duration = .seconds(5)
    /// For which a connection is tried again where an endpoint's node takes no tunnel.
    package var newsPatience: Duration = .milliseconds(500)
    /// While neither side of a request sends anything.
    package var streamIdleTimeout: Duration = .seconds(300)
    /// A request is kept for another try up to this size.
    package var replayLimit = 64 << 10
    package var targets = TargetGuard()
    /// Where pods take tunnels; tests have theirs elsewhere.
    package var tunnelPort = ProxyMesh.tunnelPort
    /// A fresh TCP socket of this pod's network namespace for a tunnel that begins at it, so that it leaves with the
    /// pod's own address; nil: one of the proxy's own does.
    package var makeSocket: @Sendable (IPAddress) -> Int32? = { _ in nil }
    /// One for a connection to an application of this pod, which such a pod lets in; and for whom it is.
    package var makeInnerSocket: @Sendable (IPAddress, SocketAddress) -> Int32? = { _, _ in nil }
    /// Only such sockets are let in by a pod that refuses plaintext: where none is there yet, one is waited for.
    package var connectsInside: @Sendable () -> Bool = { false }
    package typealias LeadsToRoot =
        @Sendable (_ certificate: [UInt8], _ between: [[UInt8]], _ roots: [[UInt8]]) -> Bool
    /// Whether a chain leads from a peer's certificate to one of the roots, all in DER: asked of those that have
    /// tunnels open when a root is taken away. TLS has asked it of others.
    package var leadsToRoot: LeadsToRoot = { _, _, _ in false }
    /// How long the first connection of a client waits that may be a pod which this node was not told of yet.
    package var clientPatience: Duration = .seconds(2)
    /// Such a client is no pod with a namespace: a process of the node, or a pod on its network.
    package var isOwnAddress: @Sendable (IPAddress) -> Bool = { isOfThisNode($0) }
    /// Takes sentences for the log.
    package var tell: @Sendable (String) -> Void = { _ in }
    /// Of everything that clients make the proxy keep; divided among the loops.
    package var memoryLimit = 512 << 20
    /// Share of requests without a caller's decision that are traced, in 1/1,000,000.
    package var sampling: UInt64 = 10_000

    package init() {}
}

/// The client's side, whatever it speaks: what the shard does with all of them.
protocol ClientConnection: AnyObject {
    /// Ends after the requests under way, at once if there are none.
    func drain()
    func abort()
    func checkDeadline(_ now: Moment)
    /// What it makes the proxy keep, and on whose account.
    var held: Int { get }
    var source: MemorySource { get }
    /// Of a tunnel: the pod it leads to.
    var pod: IPAddress { get }
}

extension ClientConnection {
    /// Of all others: where they come from.
    var pod: IPAddress { source.address }
}
