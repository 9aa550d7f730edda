/// What the agent learned and made of it: the answers of `/services` and `/endpoints`.

/// One port of one service in one family.
package struct ServiceView: Codable, Sendable, Equatable {
    package var namespace: String
    package var name: String
    package var port: String
    package var `protocol`: String
    package var family: String
    /// `ClusterIP 10.96.0.1:80`, `NodePort *:30080`
    package var frontends: [String]
    package var internalPolicy: String
    package var externalPolicy: String
    package var affinitySeconds: UInt32?
    /// Endpoints in use for traffic under policy Cluster, and under policy Local.
    package var clusterEndpoints: Int
    package var localEndpoints: Int
    /// Why it is not in the kernel; nil: it is.
    package var refused: String?

    package init(namespace: String, name: String, port: String, protocol: String, family: String) {
        self.namespace = namespace
        self.name = name
        self.port = port
        self.protocol = `protocol`
        self.family = family
        (frontends, internalPolicy, externalPolicy) = ([], "Cluster", "Cluster")
        (clusterEndpoints, localEndpoints) = (0, 0)
    }
}

package struct ServiceList: Codable, Sendable, Equatable {
    package var services: [ServiceView]
    /// What was left out of these objects.
    package var findings: [String]

    package init(services: [ServiceView], findings: [String]) {
        self.services = services
        self.findings = findings
    }
}

/// One endpoint of one slice, and what this node does with it.
package struct EndpointView: Codable, Sendable, Equatable {
    package var slice: String
    package var port: String
    package var `protocol`: String
    package var address: String
    package var ready: Bool
    package var serving: Bool
    package var terminating: Bool
    package var node: String?
    package var zone: String?
    package var local: Bool
    /// `Cluster`, `Local`: the policies under which traffic goes there; empty: unused.
    package var usedFor: [String]

    package init(slice: String, port: String, protocol: String, address: String) {
        self.slice = slice
        self.port = port
        self.protocol = `protocol`
        self.address = address
        (ready, serving, terminating, local, usedFor) = (false, false, false, false, [])
    }
}

package struct EndpointList: Codable, Sendable, Equatable {
    package var service: String
    /// The service object exists; endpoints may be there without it.
    package var exists: Bool
    package var endpoints: [EndpointView]

    package init(service: String, exists: Bool, endpoints: [EndpointView]) {
        self.service = service
        self.exists = exists
        self.endpoints = endpoints
    }
}
