/// The chains that verdicts of services go to. They are shared: one for each size of endpoint set, made when the first
/// service needs it. Only services with session affinity have chains of their own. A name says what the chain is, so
/// that an agent that starts finds them again, and `dump-maps` can tell without an agent.
import DataplaneIR

enum Keyspace: Hashable, Sendable { case address, nodePort }

/// Where the choice among endpoints is made.
enum Target: Hashable, Sendable {
    /// Any of `count` slots of the endpoint map, from `offset` on.
    case spread(Keyspace, offset: Int, count: Int)
    /// The endpoints of one service with affinity, known by the hash of its ID.
    case sticky(UInt64, TrafficPolicy)

    var name: String {
        switch self {
        case .spread(let space, let offset, let count):
            (space == .nodePort ? "nodeport-" : "") + "lb-\(count)" + (offset == 0 ? "" : "-from-\(offset)")
        case .sticky(let hash, let policy): "svc-\(hex(hash))-\(policy == .cluster ? "cluster" : "local")"
        }
    }
}

indirect enum ChainID: Hashable, Sendable {
    case target(Target)
    /// Cluster-IP traffic: marks what does not come from a pod of this node.
    case clusterIP(Target)
    /// External traffic under policy Cluster: marks everything.
    case external(Target)
    /// External traffic under policy Local: short cuts for the node and its pods. nil: no such endpoints.
    case externalLocal(cluster: Target?, local: Target?)
    /// A service with endpoints in the mesh: the proxy answers pods of the mesh, others go on to that chain. nil: they
    /// find no endpoints.
    case tunnel(ChainID?)
    /// One endpoint of a service with affinity.
    case stickyEndpoint(UInt64)

    var name: String {
        switch self {
        case .target(let target): target.name
        case .clusterIP(let target): "cluster-ip-\(target.name)"
        case .external(let target): "external-\(target.name)"
        case .externalLocal(let cluster, let local):
            "external-local-\(cluster?.name ?? "none")-or-\(local?.name ?? "none")"
        case .tunnel(let others): "tunnel-or-\(others?.name ?? "none")"
        case .stickyEndpoint(let hash): "ep-\(hex(hash))"
        }
    }
    /// The set of clients that stick to the endpoint.
    var affinitySet: String? {
        if case .stickyEndpoint(let hash) = self { "affinity-\(hex(hash))" } else { nil }
    }
}

private func hex(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}

/// FNV-1a: stable between runs and versions, unlike Swift's Hasher.
func stableHash(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
}
