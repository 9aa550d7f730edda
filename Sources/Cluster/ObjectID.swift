/// How Kubernetes objects are named here.

/// `namespace/name`; the namespace is empty for cluster-wide objects.
package struct ObjectName: Hashable, Sendable, Codable, CustomStringConvertible {
    package let namespace: String
    package let name: String

    package init(_ namespace: String, _ name: String) {
        self.namespace = namespace
        self.name = name
    }
    package var description: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }
}

extension ObjectName: Comparable {
    package static func < (a: ObjectName, b: ObjectName) -> Bool { (a.namespace, a.name) < (b.namespace, b.name) }
}

package enum ObjectKind: String, Hashable, Sendable, CaseIterable {
    case service = "Service"
    case endpointSlice = "EndpointSlice"
    case node = "Node"
    case namespace = "Namespace"
    case pod = "Pod"
    case serviceCIDR = "ServiceCIDR"
    case httpRoute = "HTTPRoute"
    case grpcRoute = "GRPCRoute"
    case peerAuthentication = "PeerAuthentication"
    case authorizationPolicy = "AuthorizationPolicy"

    package var isRoute: Bool { self == .httpRoute || self == .grpcRoute }

    package var isNamespaced: Bool {
        switch self {
        case .service, .endpointSlice, .pod, .httpRoute, .grpcRoute, .peerAuthentication, .authorizationPolicy: true
        case .node, .namespace, .serviceCIDR: false
        }
    }
}

package struct ObjectID: Hashable, Sendable, CustomStringConvertible {
    package let kind: ObjectKind
    package let name: ObjectName

    package init(_ kind: ObjectKind, _ name: ObjectName) {
        self.kind = kind
        self.name = name
    }
    package var description: String { "\(kind.rawValue) \(name)" }
}

/// One object of a kind we follow, reduced to what the node needs.
package enum ClusterObject: Equatable, Sendable, Codable {
    case service(Service)
    case endpointSlice(EndpointSlice)
    case node(Node)
    case namespace(Namespace)
    case pod(Pod)
    case serviceCIDR(ServiceCIDR)
    case route(Route)
    case peerAuthentication(PeerAuthentication)
    case authorizationPolicy(AuthorizationPolicy)

    package var id: ObjectID {
        switch self {
        case .service(let object): ObjectID(.service, object.name)
        case .endpointSlice(let object): ObjectID(.endpointSlice, object.name)
        case .node(let object): ObjectID(.node, ObjectName("", object.name))
        case .namespace(let object): ObjectID(.namespace, ObjectName("", object.name))
        case .pod(let object): ObjectID(.pod, object.name)
        case .serviceCIDR(let object): ObjectID(.serviceCIDR, ObjectName("", object.name))
        case .route(let object): object.id
        case .peerAuthentication(let object): object.id
        case .authorizationPolicy(let object): object.id
        }
    }
}

extension ClusterObject {
    /// Service `default/kubernetes` and its slices: the way to the API server itself.
    package var isOfAPIServer: Bool {
        switch self {
        case .service(let service): service.name == .apiServer
        case .endpointSlice(let slice): slice.service == .apiServer
        default: false
        }
    }
}

extension ObjectName {
    /// The Service.
    package static let apiServer = ObjectName("default", "kubernetes")
}

/// What a source tells: an object has this value now, or is gone.
package enum Change: Equatable, Sendable {
    case upsert(ClusterObject)
    case delete(ObjectID)

    package var id: ObjectID {
        switch self {
        case .upsert(let object): object.id
        case .delete(let id): id
        }
    }
}
