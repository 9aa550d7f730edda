/// A client's connection whose bytes are relayed: to a service it chooses the endpoint, to a pod there is no choice.
/// Until an endpoint is there nothing of the client is read, so that another one can be tried (spec 3.3).
import Addressing
import Balancing
import NIOCore
import RouteIR

final class RelayDialer {
    private static let tries = 3

    private let shard: Shard
    private let arrival: Arrival
    private let service: RoutedServiceEntry?
    private let relay: Relay
    private var tried: [Int] = []
    private var host: EndpointBalancer.HostID?
    private var cancel: (() -> Void)?

    static func start(_ channel: any Channel, _ arrival: Arrival, on shard: Shard) throws {
        let table = shard.table
        let socket = RelaySocket(shard)
        try channel.pipeline.syncOperations.addHandler(socket)
        RelayDialer(socket, arrival, table, arrival.entries(in: table).service, on: shard).dial()
    }

    private init(
        _ socket: RelaySocket, _ arrival: Arrival, _ table: RoutingTable, _ service: RoutedServiceEntry?,
        on shard: Shard
    ) {
        (self.shard, self.arrival, self.service) = (shard, arrival, service)
        var flow = FlowRecord(
            .outbound, began: shard.now, client: arrival.peer.address, dialled: arrival.dialled)
        flow.source = arrival.entries(in: table).source
        flow.service = service?.service.ownUpstream
        relay = Relay(shard, arrival, client: socket, flow)
        relay.whenOver { [self] relay in
            cancel?()
            cancel = nil
            leaveHost(relay.flow.isOpen ? .success : nil)
            shard.dismiss(arrival)
        }
    }

    private var pool: UpstreamPool? { service.flatMap { shard.pool($0.service.ownUpstream) } }

    private func dial() {
        guard !relay.isOver else { return }
        guard let service else {
            guard !waits(for: nil) || !waitsForPod() else { return }
            return connect(to: arrival.dialled)
        }
        guard let pool else {
            return relay.fail(TunnelRefusal(.connect, "\(service.name) is not configured"))
        }
        guard let host = pick(from: pool) else {
            return relay.fail(TunnelRefusal(.connect, "\(pool.id) has no ready endpoint"))
        }
        guard !waits(for: host) || !waitsForPod() else { return }
        guard pool.load.mayConnect(pool.policy) else {
            shard.stats.overflows += 1
            return relay.fail(TunnelRefusal(.overload, "\(pool.id) may have no connection more"))
        }
        self.host = host
        pool.load.connectionOpened()
        pool.began(host)
        chosen = pool
        connect(to: pool.address(host))
    }

    /// One whose pod is known, if there is any.
    private func pick(from pool: UpstreamPool) -> EndpointBalancer.HostID? {
        pool.pick(hash: hash(pool), tried: tried) { waits(for: $0) }
    }
    /// As the configuration in force says: a pod may have become known meanwhile.
    private func waits(for host: EndpointBalancer.HostID?) -> Bool {
        shard.table.waits(arrival.peer.address, for: isUnknown(host))
    }
    /// nil: the pod was dialled itself.
    private func isUnknown(_ host: EndpointBalancer.HostID?) -> Bool {
        if let host {
            (chosen ?? pool)?.isUnknown(host) ?? true
        } else {
            shard.table.isUnknownPod(arrival.dialled.address)
        }
    }
    private func waitsForPod() -> Bool {
        podAwaitedSince = podAwaitedSince ?? shard.now
        return dialsAgain(in: Tunnel.podPause, since: podAwaitedSince, for: Tunnel.podPatience)
    }
    private var podAwaitedSince: Moment?
    /// A pod that joins or leaves the mesh does so on its own node and on this one in no order.
    private func waitsForNews() -> Bool {
        guard relay.flow.tunnel != nil else { return false }
        newsAwaitedSince = newsAwaitedSince ?? shard.now
        tried = []
        return dialsAgain(in: Tunnel.newsPause, since: newsAwaitedSince, for: shard.options.newsPatience)
    }
    private var newsAwaitedSince: Moment?
    /// False: that was long enough.
    private func dialsAgain(in pause: TimeAmount, since start: Moment?, for patience: Duration) -> Bool {
        guard let start, shard.now.since(start) < patience else { return false }
        let timer = shard.loop.assumeIsolated().scheduleTask(in: pause) { [weak self] in self?.dial() }
        cancel = { timer.cancel() }
        return true
    }
    /// The pool that counts this connection, whatever is configured by now.
    private var chosen: UpstreamPool?

    private func hash(_ pool: UpstreamPool) -> UInt64? {
        guard case .consistentHash = pool.policy.loadBalancing else { return nil }
        return stableHash(arrival.peer.host.utf8)
    }

    private func connect(to endpoint: SocketAddress) {
        let table = shard.table
        let workload = table.workload(at: endpoint.address)
        let isUnknown = isUnknown(host)
        let way = table.way(
            from: arrival.peer.address, to: endpoint, workload, isUnknown: isUnknown,
            service: service?.service.id.hostname)
        relay.flow.destination = workload
        relay.flow.server = endpoint
        // The kernel brings only pods of the mesh here for an enrolled one: one that is not known is a pod still to be
        // told of, and not somebody who may speak in the clear.
        let mayBeEnrolled = workload?.workload.isEnrolled == true || isUnknown
        if case .plain = way, table.snapshot.mesh != nil, mayBeEnrolled {
            return relay.fail(
                TunnelRefusal(.identity, "\(arrival.peer.host) is not known as a pod of this node in the mesh"))
        }
        (relay.flow.sourceIdentity, relay.flow.destinationIdentity, relay.flow.tunnel) = (nil, nil, nil)
        if let route = way.route {
            relay.flow.sourceIdentity = route.source.identity
            relay.flow.destinationIdentity = route.destination
            relay.flow.tunnel = SocketAddress(route.address, shard.options.tunnelPort)
        }
        cancel = Connector.relay(
            to: endpoint, by: way, within: chosen?.policy.connectTimeout ?? Tunnel.connectTimeout, on: shard
        ) { [self] result in
            cancel = nil
            switch result {
            case .success(let end): if relay.isOver { end.reset() } else { relay.start(end) }
            case .failure(let refusal): failed(refusal)
            }
        }
    }

    private func failed(_ refusal: TunnelRefusal) {
        guard !relay.isOver else { return }
        if let host { tried.append(host) }
        leaveHost(refusal.kind == .policy ? nil : .connectionFailure)
        let others = pool?.balancer.hosts.count { !$0.isRemoved } ?? 0
        guard tried.count < min(Self.tries, others) else {
            if !refusal.mayBeNews || !waitsForNews() { relay.fail(refusal) }
            return
        }
        shard.stats.retries += 1
        dial()
    }

    private func leaveHost(_ outcome: RequestOutcome?) {
        guard let host, let chosen else { return }
        self.host = nil
        self.chosen = nil
        chosen.ended(host, outcome)
        chosen.connectionClosed(nil)
    }
}
