/// The healthCheckNodePort servers: load balancers ask them whether this node has endpoints of a service (spec rows
/// 135-141). One set of listeners for each service; a listener that stays the same is never touched.
import AdminServer
import Addressing
import Cluster
import Compile
import DataplaneIR
import Synchronization

final class HealthCheckServers: Sendable {
    private struct Key: Hashable {
        let service: ObjectName
        let address: ListenAddress
    }
    private struct State {
        var listeners: [Key: HTTPListener] = [:]
        var localEndpoints: [ObjectName: Int] = [:]
    }

    private let loop: ServerLoop
    private let isHealthy: @Sendable () -> Bool
    private let servesAllAddresses: Bool
    private let reports: ServerReports
    private let record: @Sendable (ObjectEvent) -> Void
    private let state = Mutex(State())

    /// `servesAllAddresses`: node ports are served on every address of the node, so one wildcard listener will do.
    init(
        on loop: ServerLoop, servesAllAddresses: Bool, reports: ServerReports,
        record: @escaping @Sendable (ObjectEvent) -> Void = { _ in }, isHealthy: @escaping @Sendable () -> Bool
    ) {
        self.loop = loop
        self.servesAllAddresses = servesAllAddresses
        self.reports = reports
        self.record = record
        self.isHealthy = isHealthy
    }

    func update(_ checks: [ObjectName: HealthCheck], node: NodeProgram) {
        var wanted = Set<Key>()
        for check in checks.values {
            for address in addresses(node) {
                wanted.insert(Key(service: check.service, address: .tcp(host: address, port: check.port)))
            }
        }
        let (stopped, started) = state.withLock { state in
            state.localEndpoints = checks.mapValues(\.localEndpoints)
            // Closed before others open: a port may move from one service to another.
            let stopped = state.listeners.filter { !wanted.contains($0.key) }
            for key in stopped.keys { state.listeners[key] = nil }
            var started: [HTTPListener] = []
            for key in wanted where state.listeners[key] == nil {
                let listener = listener(for: key)
                state.listeners[key] = listener
                started.append(listener)
            }
            return (stopped, started)
        }
        for (key, listener) in stopped {
            listener.stop()
            reports.stopped(.healthCheck, name(key.service), key.address)
        }
        for listener in started { listener.start() }
    }

    private func addresses(_ node: NodeProgram) -> [String] {
        guard servesAllAddresses else { return node.nodePortAddresses.map(\.description) }
        // The IPv6 wildcard takes IPv4 too; a kernel without IPv6 has no IPv6 address, not even loopback.
        return [node.localAddresses.contains { $0.family == .ipv6 } ? "::" : "0.0.0.0"]
    }

    private func name(_ service: ObjectName) -> String { "health check of Service \(service)" }

    private func listener(for key: Key) -> HTTPListener {
        reports.listener(
            .healthCheck, name(key.service), key.address, remedy: "give the Service another healthCheckNodePort",
            on: loop,
            onFailure: { [record] problem in
                record(
                    ObjectEvent(
                        ObjectID(.service, key.service), reason: "FailedToStartServiceHealthcheck", message: problem,
                        isOfThisNode: true))
            },
            responder: { [weak self] _, reply in reply(self?.response(for: key.service) ?? .notFound) })
    }

    private func response(for service: ObjectName) -> HTTPResponse {
        let count = state.withLock { $0.localEndpoints[service] ?? 0 }
        let isHealthy = isHealthy()
        // Names of Kubernetes objects need no escaping. Tabs and field order are kube-proxy's.
        let body =
            "{\n\t\"service\": {\n\t\t\"namespace\": \"\(service.namespace)\",\n\t\t\"name\": \"\(service.name)\"\n\t},"
            + "\n\t\"localEndpoints\": \(count),\n\t\"serviceProxyHealthy\": \(isHealthy)\n}"
        return HTTPResponse(
            status: count != 0 && isHealthy ? 200 : 503, contentType: "application/json",
            headers: [
                ("X-Content-Type-Options", "nosniff"), ("X-Load-Balancing-Endpoint-Weight", String(count)),
            ], body: Array(body.utf8))
    }
}
