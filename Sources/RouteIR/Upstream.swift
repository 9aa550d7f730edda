/// Where requests are sent: an upstream's name, its endpoints and the policy for choosing among them. One policy type
/// for all: annotations on the Service fill it today (docs/l7.md), a DestinationRule may later.
package import Addressing

/// Names an upstream: a port of a Service, and what of it. Its parts are shared and their hash is made once, because
/// every request looks it up and counts under it.
package struct UpstreamID: Hashable, Sendable, Comparable, CustomStringConvertible {
    private final class Parts: Sendable {
        let service: RoutedServiceID
        let subset: String?
        let host: String?
        let cluster: String?
        let hash: Int

        init(_ service: RoutedServiceID, _ subset: String?, _ host: String?, _ cluster: String?) {
            (self.service, self.subset, self.host, self.cluster) = (service, subset, host, cluster)
            var hasher = Hasher()
            hasher.combine(service)
            for part in [subset, host, cluster] { hasher.combine(part) }
            hash = hasher.finalize()
        }
    }
    private let parts: Parts

    package init(_ service: RoutedServiceID, subset: String? = nil, host: String? = nil, cluster: String? = nil) {
        parts = Parts(service, subset, host, cluster)
    }

    package var service: RoutedServiceID { parts.service }
    /// A part of its endpoints; nil: all.
    package var subset: String? { parts.subset }
    /// One of several hosts that the object stands for; nil: it has no other than the service's name.
    package var host: String? { parts.host }
    /// Only endpoints of this cluster of several; nil: of all.
    package var cluster: String? { parts.cluster }

    package static func == (a: UpstreamID, b: UpstreamID) -> Bool {
        // Those of two configurations have parts of their own, and every request compares them.
        a.parts === b.parts
            || a.parts.hash == b.parts.hash && a.service == b.service && a.subset == b.subset && a.host == b.host
                && a.cluster == b.cluster
    }
    package func hash(into hasher: inout Hasher) { hasher.combine(parts.hash) }
    package static func < (a: UpstreamID, b: UpstreamID) -> Bool {
        if a.service != b.service { return a.service < b.service }
        return a.texts.lexicographicallyPrecedes(b.texts) { ($0 ?? "") < ($1 ?? "") }
    }
    private var texts: [String?] { [service.namespace, service.name, subset, host, cluster] }

    /// `namespace/name:port`, and what else it is more narrow by.
    package var description: String {
        let narrower = [("subset", subset), ("host", host), ("cluster", cluster)]
        return service.description + narrower.compactMap { name, value in value.map { ", \(name) \($0)" } }.joined()
    }
}

extension UpstreamID: Codable {
    private enum CodingKeys: String, CodingKey {
        case subset, host, cluster
    }
    package init(from decoder: any Decoder) throws {
        let parts = try decoder.container(keyedBy: CodingKeys.self)
        let optional = { (key: CodingKeys) in try parts.decodeIfPresent(String.self, forKey: key) }
        self.init(
            try RoutedServiceID(from: decoder), subset: try optional(.subset), host: try optional(.host),
            cluster: try optional(.cluster))
    }
    package func encode(to encoder: any Encoder) throws {
        try service.encode(to: encoder)
        var parts = encoder.container(keyedBy: CodingKeys.self)
        try parts.encodeIfPresent(subset, forKey: .subset)
        try parts.encodeIfPresent(host, forKey: .host)
        try parts.encodeIfPresent(cluster, forKey: .cluster)
    }
}

package struct Upstream: Hashable, Sendable {
    package enum Wire: UInt8, Hashable, Sendable, CaseIterable {
        case http1
        case h2c
    }
    package var id: UpstreamID
    package var wire: Wire
    /// Sorted by address; those for this node, after hints and traffic policy.
    package var endpoints: [Endpoint] = []
    package var policy = UpstreamPolicy()

    package init(id: UpstreamID, wire: Wire = .http1, endpoints: [Endpoint] = []) {
        self.id = id
        self.wire = wire
        self.endpoints = endpoints
    }
}

package struct Endpoint: Hashable, Sendable {
    package var address: SocketAddress
    package var weight: UInt32
    package var zone: String?
    package var node: String?
    /// Finishes what it has, gets nothing new.
    package var isDraining: Bool
    /// A pod has it of which no more is known: it may be enrolled.
    package var isUnknown = false

    package init(
        _ address: SocketAddress, weight: UInt32 = 1, zone: String? = nil, node: String? = nil, isDraining: Bool = false
    ) {
        self.address = address
        self.weight = weight
        self.zone = zone
        self.node = node
        self.isDraining = isDraining
    }
}

package struct UpstreamPolicy: Hashable, Sendable {
    package enum LoadBalancing: Hashable, Sendable {
        /// The one of two random endpoints with fewer requests under way.
        case leastRequest
        case roundRobin
        case random
        /// Maglev over the first of these that a request has; without any: random.
        case consistentHash([HashInput])
    }
    package enum HashInput: Hashable, Sendable {
        case header(String)
        /// Set by the proxy where the request has none, if it may live (`ttl`; zero: for the session).
        case cookie(name: String, path: String?, ttl: Duration?)
        case sourceIP
        case query(String)
    }
    /// Spec 6.2, with two or more endpoints one may always be ejected, never the last.
    package struct OutlierDetection: Hashable, Sendable {
        /// nil: these are not counted.
        package var consecutive5xx: UInt32? = 5
        package var consecutiveGatewayErrors: UInt32?
        package var interval: Duration = .seconds(10)
        package var baseEjection: Duration = .seconds(30)
        package var maxEjection: Duration = .seconds(300)
        package var maxEjectionPercent: UInt32 = 10

        package init() {}
    }
    package struct RetryBudget: Hashable, Sendable {
        package var percent: UInt32 = 20
        package var minConcurrency: UInt32 = 3

        package init() {}
    }
    package struct Warmup: Hashable, Sendable {
        package var duration: Duration
        package var minimumPercent: UInt32 = 10

        package init(duration: Duration) { self.duration = duration }
    }

    package var loadBalancing = LoadBalancing.leastRequest
    /// Prefer endpoints in the node's own zone while there are healthy ones.
    package var prefersOwnZone = false
    /// nil: nobody is ejected.
    package var outlierDetection: OutlierDetection?
    /// nil: no limit.
    package var maxConnections: UInt32?
    package var maxPendingRequests: UInt32?
    package var maxRequests: UInt32?
    package var maxRequestsPerConnection: UInt32?
    package var retryBudget = RetryBudget()
    package var warmup: Warmup?
    package var connectTimeout: Duration = .seconds(10)
    package var idleTimeout: Duration = .seconds(3600)

    package init() {}
}
