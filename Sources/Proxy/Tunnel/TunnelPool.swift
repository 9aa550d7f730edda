/// The tunnels of one event loop that lead out, by route, and who waits for a certificate to open one.
import Addressing
import Balancing
import HTTP2Wire
import NIOCore
import RouteIR

final class TunnelPool {
    private unowned let shard: Shard
    private var tunnels: [TunnelRoute: [TunnelClient]] = [:]
    /// For their identity's certificate.
    private(set) var waiting: [TunnelRequest] = []

    init(_ shard: Shard) { self.shard = shard }

    func request(
        to target: SocketAddress, by route: TunnelRoute, _ caller: TunnelCaller,
        then: @escaping (Result<ClientTunnelStream, TunnelRefusal>) -> Void
    ) -> TunnelRequest {
        let trace = caller.trace ?? TraceContext(sampled: false, using: &shard.random)
        let fields = ConnectHead.fields(
            to: target, client: caller.client, service: caller.service,
            baggage: caller.baggage(shard.table.snapshot.node), trace: trace)
        return TunnelRequest(route, fields, then: then)
    }

    /// Never answers from within this call.
    func open(_ request: TunnelRequest, within limit: Duration) {
        request.limit(to: limit, on: shard)
        place(request)
    }
    /// On another connection, within the time that it has.
    func again(_ request: TunnelRequest) { shard.loop.assumeIsolated().execute { self.place(request) } }

    private func place(_ request: TunnelRequest) {
        guard !request.isOver else { return }
        do throws(TunnelRefusal) {
            guard !(try serve(request)) else { return }
            waiting.removeAll { $0.isOver }
            guard waiting.count < Tunnel.waiting else {
                throw TunnelRefusal(.overload, "too many connections wait for a certificate")
            }
            waiting.append(request)
        } catch { shard.loop.assumeIsolated().execute { request.finish(.failure(error)) } }
    }

    /// False: there is no certificate yet.
    private func serve(_ request: TunnelRequest) throws(TunnelRefusal) -> Bool {
        let route = request.route
        guard let credential = try shard.credentials.context(for: route.source.identity) else {
            request.awaitsCertificate = true
            return false
        }
        request.awaitsCertificate = false
        let known = tunnels[route] ?? []
        if let tunnel = known.first(where: { $0.hasRoom && $0.credential === credential }) {
            tunnel.serve(request)
        } else {
            let tunnel = TunnelClient(route, credential, self, shard)
            tunnels[route, default: []].append(tunnel)
            tunnel.serve(request)
            tunnel.connect()
        }
        return true
    }

    func closed(_ tunnel: TunnelClient) {
        tunnels[tunnel.route]?.removeAll { $0 === tunnel }
        if tunnels[tunnel.route]?.isEmpty == true { tunnels[tunnel.route] = nil }
    }

    /// There are new certificates: older connections take no more streams.
    func credentialsChanged() {
        let requests = waiting
        waiting = []
        for request in requests where !request.isOver {
            do throws(TunnelRefusal) {
                if !(try serve(request)) { waiting.append(request) }
            } catch { request.finish(.failure(error)) }
        }
        for tunnel in all {
            guard let current = try? shard.credentials.context(for: tunnel.route.source.identity) else { continue }
            if current !== tunnel.credential { tunnel.drain() }
        }
    }

    func trustChanged() { for tunnel in all { tunnel.trustChanged() } }

    private var all: [TunnelClient] { tunnels.values.flatMap { $0 } }
    var counts: [IPAddress: TunnelCount] {
        tunnels.reduce(into: [:]) { counts, entry in
            let streams = entry.value.reduce(0) { $0 + $1.streamCount }
            let count = TunnelCount(tunnels: entry.value.count, streams: streams)
            counts[entry.key.source.pod] = (counts[entry.key.source.pod] ?? TunnelCount()) + count
        }
    }
    var hasRoom: Bool { tunnels.values.joined().contains { $0.hasRoom } }
    var count: Int { tunnels.values.reduce(0) { $0 + $1.count } }
    var streamCount: Int { tunnels.values.joined().reduce(0) { $0 + $1.streamCount } }

    func tick(_ now: Moment) {
        guard !tunnels.isEmpty else { return }
        for tunnel in all { tunnel.tick(now) }
    }
    /// All that use the pod's network namespace.
    func close(pod: IPAddress) {
        for tunnel in all where tunnel.route.source.pod == pod { tunnel.abort() }
    }
    func closeAll() {
        for tunnel in all { tunnel.abort() }
        for request in waiting { request.finish(.failure(TunnelRefusal(.connect, "the proxy ends"))) }
        waiting = []
    }
}
