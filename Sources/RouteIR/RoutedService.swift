/// A service port whose connections the proxy answers, with the routes that apply to it.
package import Addressing

/// A port of a Service, by number, as routes name it.
package struct RoutedServiceID: Hashable, Sendable, Codable, CustomStringConvertible {
    package let namespace: String
    package let name: String
    package let port: UInt16

    package init(namespace: String, name: String, port: UInt16) {
        self.namespace = namespace
        self.name = name
        self.port = port
    }
    /// `namespace/name:port`.
    package var description: String { "\(namespace)/\(name):\(port)" }
    /// The name in the cluster's DNS, as `destination_service` wants it.
    package var hostname: String { "\(name).\(namespace).svc.cluster.local" }
}

extension RoutedServiceID: Comparable {
    package static func < (a: RoutedServiceID, b: RoutedServiceID) -> Bool {
        (a.namespace, a.name, a.port) < (b.namespace, b.name, b.port)
    }
}

/// What clients speak on a port, from appProtocol or the port's name.
package enum RoutedProtocol: UInt8, Hashable, Sendable, CaseIterable {
    case http1
    /// HTTP/2 without TLS, by prior knowledge.
    case h2c
    case grpc
    /// Anything: its bytes are passed on and not looked at. Has no routes.
    case tcp
}

package struct RoutedService: Hashable, Sendable {
    package var id: RoutedServiceID
    package var portName: String
    /// Cluster IP and port, of each family: what SO_ORIGINAL_DST says of a connection to this service.
    package var frontends: [SocketAddress] = []
    package var clientProtocol: RoutedProtocol
    /// Where requests go to which no routes apply: the service's own endpoints.
    package var ownUpstream: UpstreamID
    /// Routes from the service's own namespace, for every client. nil: there are none, so requests go to `ownUpstream`.
    package var producerRoutes: [RouteRule]?
    /// Routes from other namespaces, each for the clients in that namespace only, instead of `producerRoutes`.
    package var consumerRoutes: [String: [RouteRule]] = [:]

    package init(id: RoutedServiceID, portName: String, clientSpeaks: RoutedProtocol) {
        self.id = id
        self.portName = portName
        clientProtocol = clientSpeaks
        ownUpstream = UpstreamID(id)
    }

    /// The rules for a client in this namespace (nil: a client of no known namespace). Rules come older routes first,
    /// then by the route's name, then as written: that order decides where specificity does not. nil: no routing.
    package func rules(forClientIn namespace: String?) -> [RouteRule]? {
        namespace.flatMap { consumerRoutes[$0] } ?? producerRoutes
    }
}
