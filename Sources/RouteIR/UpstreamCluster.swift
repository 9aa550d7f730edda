/// Where requests are sent: the endpoints of one service port, and the policy for choosing among them. One policy type
/// for all: annotations on the Service fill it today (docs/l7.md), a DestinationRule may later.
package import Addressing

/// A cluster is a port of a Service.
package typealias ClusterID = RoutedServiceID

package struct UpstreamCluster: Hashable, Sendable {
    package enum Wire: UInt8, Hashable, Sendable, CaseIterable {
        case http1
        case h2c
    }
    package var id: ClusterID
    package var wire: Wire
    /// Sorted by address; those for this node, after hints and traffic policy.
    package var endpoints: [Endpoint] = []
    package var policy = UpstreamPolicy()

    package init(id: ClusterID, wire: Wire = .http1, endpoints: [Endpoint] = []) {
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
