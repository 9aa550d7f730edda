/// Which of the agent's servers listen and which cannot, for the log, `agentctl status` and the metrics. Nothing waits
/// for a port: while kube-proxy runs beside the agent it has some of them, and they are taken over as it lets go.
import AdminAPI
import AdminServer
import Glibc
import Logging
import Telemetry

enum ServerKind: String, CaseIterable, Sendable {
    case metrics, health, probes
    case healthCheck = "health-check"
}

struct ServerMetrics: Sendable {
    let notListening: Gauge
    let shed: Counter

    init(_ registry: MetricRegistry) {
        notListening = registry.gauge(
            "heddle_servers_not_listening", "Servers of the agent that cannot listen, mostly as their port is taken.",
            labels: ["server"])
        shed = registry.counter(
            "heddle_server_connections_shed_total", "Connections closed before their client was done.",
            labels: ["server", "reason"])
        for server in ServerKind.allCases {
            notListening.set(0, server.rawValue)
            for reason in ShedReason.allCases { shed.add(0, server.rawValue, reason.rawValue) }
        }
    }
}

struct ServerReports: Sendable {
    let board: StatusBoard
    let metrics: AgentMetrics
    let log: Logger

    /// A listener whose troubles are told. `remedy`: what frees the address or takes another.
    func listener(
        _ kind: ServerKind, _ name: String, _ address: ListenAddress, remedy: String, on loop: ServerLoop,
        onFailure: @escaping @Sendable (String) -> Void = { _ in }, responder: @escaping HTTPResponder
    ) -> HTTPListener {
        HTTPListener(
            address, on: loop,
            report: { failure in
                let problem = failure.map { Self.problem($0, remedy: remedy) }
                tell(kind, AgentStatus.Server(name: name, address: address.description, problem: problem))
                if let problem { onFailure("cannot listen on \(address): \(problem)") }
            }, shed: { metrics.servers.shed.add(1, kind.rawValue, $0.rawValue) }, responder: responder)
    }

    func stopped(_ kind: ServerKind, _ name: String, _ address: ListenAddress) {
        update(kind) { $0.removeAll { $0.name == name && $0.address == address.description } }
    }

    static func problem(_ failure: ListenFailure, remedy: String) -> String {
        switch failure.code {
        case EADDRINUSE:
            "another program listens there; it is taken over once it is free: stop that program (kube-proxy has these "
                + "ports while it runs), or \(remedy)"
        case EADDRNOTAVAIL: "the address is not on this node; \(remedy)"
        case EACCES: "\(failure.reason); the agent needs CAP_NET_BIND_SERVICE for a port below 1024, or \(remedy)"
        default: "\(failure.reason); \(remedy)"
        }
    }

    private func tell(_ kind: ServerKind, _ server: AgentStatus.Server) {
        if let problem = server.problem {
            log.warning("\(server.name): cannot listen on \(server.address): \(problem)")
        } else {
            log.info("\(server.name): listening on \(server.address)")
        }
        update(kind) { servers in
            servers.removeAll { $0.name == server.name && $0.address == server.address }
            servers.append(server)
            servers.sort { ($0.name, $0.address) < ($1.name, $1.address) }
        }
    }

    private func update(_ kind: ServerKind, _ edit: (inout [AgentStatus.Server]) -> Void) {
        board.update { edit(&$0.servers[kind, default: []]) }
        let silent = board.now.servers[kind]?.count { $0.problem != nil } ?? 0
        metrics.servers.notListening.set(Double(silent), kind.rawValue)
    }
}
