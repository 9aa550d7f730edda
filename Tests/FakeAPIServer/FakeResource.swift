/// The kinds that the fake API server has, and the paths of their objects.

package enum FakeResource: String, Sendable, CaseIterable {
    case services
    case endpointslices
    case nodes
    case servicecidrs
    case namespaces
    case pods
    case httproutes
    case grpcroutes
    case peerauthentications
    case authorizationpolicies
    case leases
    case configmaps
    case secrets
    case events
    case validatingwebhookconfigurations
    /// Asked, never kept.
    case tokenreviews

    var kind: String {
        switch self {
        case .services: "Service"
        case .endpointslices: "EndpointSlice"
        case .nodes: "Node"
        case .servicecidrs: "ServiceCIDR"
        case .namespaces: "Namespace"
        case .pods: "Pod"
        case .httproutes: "HTTPRoute"
        case .grpcroutes: "GRPCRoute"
        case .peerauthentications: "PeerAuthentication"
        case .authorizationpolicies: "AuthorizationPolicy"
        case .leases: "Lease"
        case .configmaps: "ConfigMap"
        case .secrets: "Secret"
        case .events: "Event"
        case .validatingwebhookconfigurations: "ValidatingWebhookConfiguration"
        case .tokenreviews: "TokenReview"
        }
    }
    /// Empty: the core.
    var group: String {
        switch self {
        case .services, .nodes, .namespaces, .pods, .configmaps, .secrets, .events: ""
        case .endpointslices: "discovery.k8s.io"
        case .servicecidrs: "networking.k8s.io"
        case .httproutes, .grpcroutes: "gateway.networking.k8s.io"
        case .peerauthentications, .authorizationpolicies: "security.istio.io"
        case .leases: "coordination.k8s.io"
        case .validatingwebhookconfigurations: "admissionregistration.k8s.io"
        case .tokenreviews: "authentication.k8s.io"
        }
    }
    var apiVersion: String { group.isEmpty ? "v1" : group + "/v1" }
    /// Of all namespaces.
    var path: String { (group.isEmpty ? "/api/" : "/apis/") + apiVersion + "/" + rawValue }
    /// As errors name it.
    var qualifiedName: String { group.isEmpty ? rawValue : "\(rawValue).\(group)" }

    /// A custom resource: counts the versions of its spec, and is never replaced unless its version is named.
    var isCustom: Bool { [.httproutes, .grpcroutes, .peerauthentications, .authorizationpolicies].contains(self) }
    var hasStatus: Bool {
        switch self {
        case .services, .nodes, .namespaces, .pods, .httproutes, .grpcroutes: true
        default: false
        }
    }
    /// A PUT makes one that is not there.
    var isCreatedOnUpdate: Bool { self == .leases }
}

/// What a path names.
struct FakeTarget: Sendable {
    let resource: FakeResource
    /// Empty: none, or all.
    var namespace = ""
    /// Empty: the collection.
    var name = ""
    var subresource = ""

    init?(path: String) {
        var parts = path.split(separator: "/").map(String.init)[...]
        guard let root = parts.popFirst(), root == "api" || root == "apis" else { return nil }
        let group = root == "apis" ? parts.popFirst() ?? "" : ""
        guard parts.popFirst() == "v1" else { return nil }
        if parts.count >= 3, parts.first == "namespaces", !["status", "finalize"].contains(parts[parts.startIndex + 2])
        {
            namespace = parts[parts.startIndex + 1]
            parts = parts.dropFirst(2)
        }
        guard let plural = parts.popFirst(), parts.count <= 2,
            let resource = FakeResource(rawValue: plural), resource.group == group
        else { return nil }
        self.resource = resource
        name = parts.popFirst() ?? ""
        subresource = parts.popFirst() ?? ""
    }

    var key: String { "\(namespace)/\(name)" }
    /// `httproutes.gateway.networking.k8s.io "web"`
    var quotedName: String { resource.qualifiedName + (name.isEmpty ? "" : " \"\(name)\"") }
}
