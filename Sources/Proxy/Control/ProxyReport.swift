/// Answers to the agent's questions, as JSON: `agentctl proxy health | upstreams | config | tunnels |
/// stats`.
import Addressing
import Balancing
import RouteIR
import Telemetry

extension ProxyEngine {
    package func answer(_ question: String) -> [UInt8] {
        switch question {
        case "health":
            return json([("healthy", "true"), ("generation", "\(snapshot.generation)")])
        case "stats":
            let stats = stats
            let limits = ProxyLimit.allCases.filter { stats.limited[$0] != nil }
            return json([
                ("connections", "\(stats.connectionsOpened - stats.connectionsClosed)"),
                ("requests", "\(stats.requests)"), ("active", "\(stats.active)"), ("retries", "\(stats.retries)"),
                ("overflows", "\(stats.overflows)"), ("ejections", "\(stats.ejections)"),
                ("mirrored", "\(stats.mirrored)"), ("heldClients", "\(stats.heldClients)"),
                ("unknownClients", "\(stats.unknownClients)"),
                ("heldBytes", "\(stats.held)"),
                ("memoryLimit", "\(memoryLimit)"),
                ("limited", object(limits.map { ($0.rawValue, "\(stats.limited[$0] ?? 0)") })),
            ])
        case "config":
            let snapshot = snapshot
            let services = snapshot.services.values.sorted { $0.id < $1.id }.map { service in
                let rules =
                    (service.producerRoutes?.count ?? 0) + service.consumerRoutes.values.reduce(0) { $0 + $1.count }
                return object([
                    ("service", jsonString(service.id.description)),
                    ("frontends", list(service.frontends.map { jsonString($0.description) })), ("rules", "\(rules)"),
                ])
            }
            return json([
                ("generation", "\(snapshot.generation)"), ("node", jsonString(snapshot.node.name)),
                ("services", list(services)), ("clusters", "\(snapshot.upstreams.count)"),
                ("workloads", "\(snapshot.workloads.count)"),
            ])
        case "tunnels": return Array(list(openTunnels()).utf8)
        case "upstreams": return Array(list(upstreams()).utf8)
        default:
            let known = "health, stats, config, tunnels or upstreams"
            return json([("error", jsonString("unknown question \(question); ask \(known)"))])
        }
    }

    /// Of each address of this node's pods that has any.
    private func openTunnels() -> [String] {
        var (inbound, outbound) = ([IPAddress: TunnelCount](), [IPAddress: TunnelCount]())
        for (incoming, outgoing) in collect({ ($0.inboundTunnels, $0.tunnels.counts) }) {
            inbound.merge(incoming, uniquingKeysWith: +)
            outbound.merge(outgoing, uniquingKeysWith: +)
        }
        return Set(inbound.keys).union(outbound.keys).sorted().map { pod in
            let (incoming, outgoing) = (inbound[pod] ?? TunnelCount(), outbound[pod] ?? TunnelCount())
            return object([
                ("pod", jsonString(pod.description)),
                ("inbound", "\(incoming.tunnels)"), ("inboundStreams", "\(incoming.streams)"),
                ("outbound", "\(outgoing.tunnels)"), ("outboundStreams", "\(outgoing.streams)"),
            ])
        }
    }

    /// Each endpoint, its loops' counts added up; ejected if any loop has ejected it.
    private func upstreams() -> [String] {
        struct Row {
            var active: UInt64 = 0
            var total: UInt64 = 0
            var ejectedLoops = 0
            var ejections: UInt64 = 0
            var spared: UInt64 = 0
            var isDraining = false
        }
        let perLoop = collect { shard in
            shard.pools.map { ($0.key, $0.value.balancer.hosts, $0.value.balancer.upstream) }
        }
        var rows: [UpstreamID: [String: Row]] = [:]
        for (id, hosts, _) in perLoop.joined() {
            for host in hosts where !host.isRemoved {
                var row = rows[id, default: [:]][host.endpoint.address.description] ?? Row()
                row.active += UInt64(host.active)
                row.total += host.total
                row.ejectedLoops += host.record.ejectedUntil == nil ? 0 : 1
                row.ejections += host.record.ejections
                row.spared += host.record.spared
                row.isDraining = host.endpoint.isDraining
                rows[id, default: [:]][host.endpoint.address.description] = row
            }
        }
        return rows.sorted { $0.key < $1.key }.flatMap { id, endpoints in
            endpoints.sorted { $0.key < $1.key }.map { address, row in
                let state =
                    row.isDraining ? "draining" : row.ejectedLoops > 0 ? "ejected" : "in use"
                return object([
                    ("cluster", jsonString(id.description)), ("endpoint", jsonString(address)),
                    ("state", jsonString(state)),
                    ("active", "\(row.active)"), ("requests", "\(row.total)"), ("ejections", "\(row.ejections)"),
                    ("ejectedOnLoops", "\(row.ejectedLoops)"), ("sparedByLimit", "\(row.spared)"),
                ])
            }
        }
    }
}

/// Connections to port 15008, and those of applications in them.
struct TunnelCount: Sendable {
    var tunnels = 0
    var streams = 0

    static func + (a: TunnelCount, b: TunnelCount) -> TunnelCount {
        TunnelCount(tunnels: a.tunnels + b.tunnels, streams: a.streams + b.streams)
    }
}

private func json(_ fields: [(String, String)]) -> [UInt8] { Array(object(fields).utf8) }
private func object(_ fields: [(String, String)]) -> String {
    "{" + fields.map { "\(jsonString($0.0)):\($0.1)" }.joined(separator: ",") + "}"
}
private func list(_ items: [String]) -> String { "[" + items.joined(separator: ",") + "]" }
