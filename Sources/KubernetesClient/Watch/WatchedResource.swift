/// The kinds we follow, as the API server names them, and which objects of them.
package import Cluster

package struct WatchedResource: Equatable, Sendable {
    package let kind: ObjectKind
    /// `services`: as in roles.
    package let plural: String
    /// API group, empty for the core.
    let group: String
    /// The collection's path.
    let path: String
    var labelSelector = ""
    var fieldSelector = ""
    /// Pods of other nodes: beside those of this one, and waited for only where there is a mesh.
    var isElsewhere = false
    /// Older clusters do not have it.
    var isOptional = false
    /// Who is in the mesh, and what its pods take, is decided by them: until the server has answered nothing is known,
    /// which is something else than that there are none.
    var decidesMesh = false
    /// All objects vanishing at once is more likely a fault of the server than somebody's will.
    var isGuarded = false

    /// Services and EndpointSlices as kube-proxy selects them (spec rows 40, 41, 176).
    static func services(proxyName: String?) -> WatchedResource {
        WatchedResource(
            kind: .service, plural: "services", group: "", path: "/api/v1/services",
            labelSelector: serviceSelector(proxyName), isGuarded: true)
    }
    static func endpointSlices(proxyName: String?) -> WatchedResource {
        WatchedResource(
            kind: .endpointSlice, plural: "endpointslices", group: "discovery.k8s.io",
            path: "/apis/discovery.k8s.io/v1/endpointslices", labelSelector: serviceSelector(proxyName),
            isGuarded: true)
    }
    static func node(named name: String) -> WatchedResource {
        WatchedResource(
            kind: .node, plural: "nodes", group: "", path: "/api/v1/nodes", fieldSelector: "metadata.name=\(name)")
    }
    static let serviceCIDRs = WatchedResource(
        kind: .serviceCIDR, plural: "servicecidrs", group: "networking.k8s.io",
        path: "/apis/networking.k8s.io/v1/servicecidrs", isOptional: true)
    static let namespaces = WatchedResource(
        kind: .namespace, plural: "namespaces", group: "", path: "/api/v1/namespaces", isOptional: true)

    /// Gateway API; without its definitions nothing is routed.
    static let httpRoutes = route(.httpRoute, "httproutes")
    static let grpcRoutes = route(.grpcRoute, "grpcroutes")

    /// Istio's; without its definition every pod of the mesh takes what comes.
    static let peerAuthentications = WatchedResource(
        kind: .peerAuthentication, plural: "peerauthentications", group: "security.istio.io",
        path: "/apis/security.istio.io/v1/peerauthentications", isOptional: true)

    /// Without its definition everybody may call everybody.
    static let authorizationPolicies = WatchedResource(
        kind: .authorizationPolicy, plural: "authorizationpolicies", group: "security.istio.io",
        path: "/apis/security.istio.io/v1/authorizationpolicies", isOptional: true)

    /// The clients: followed once something is routed, or somebody observes. No pod ever moves from one of the two sets
    /// to the other; one without a node has no address.
    static func pods(of node: String) -> WatchedResource {
        WatchedResource(
            kind: .pod, plural: "pods", group: "", path: "/api/v1/pods", fieldSelector: "spec.nodeName=\(node)",
            isOptional: true)
    }
    static func pods(of agents: KubernetesSource.AgentPods) -> WatchedResource {
        WatchedResource(
            kind: .pod, plural: "pods", group: "", path: "/api/v1/namespaces/\(agents.namespace)/pods",
            labelSelector: agents.selector, isOptional: true)
    }
    /// For their names in the telemetry of routes.
    static func podsElsewhere(than node: String) -> WatchedResource {
        WatchedResource(
            kind: .pod, plural: "pods", group: "", path: "/api/v1/pods",
            fieldSelector: "spec.nodeName!=\(node),spec.nodeName!=", isElsewhere: true, isOptional: true)
    }

    /// Those that run somewhere, or did. Not optional: whoever has not heard of all knows of none.
    static let placedPods = WatchedResource(
        kind: .pod, plural: "pods", group: "", path: "/api/v1/pods", fieldSelector: "spec.nodeName!=")

    private static func route(_ kind: ObjectKind, _ plural: String) -> WatchedResource {
        WatchedResource(
            kind: kind, plural: plural, group: "gateway.networking.k8s.io",
            path: "/apis/gateway.networking.k8s.io/v1/\(plural)", isOptional: true)
    }

    private static func serviceSelector(_ proxyName: String?) -> String {
        let label = "service.kubernetes.io/service-proxy-name"
        let proxy = proxyName.map { $0.isEmpty ? "!\(label)" : "\(label)=\($0)" } ?? "!\(label)"
        return "!service.kubernetes.io/headless,\(proxy)"
    }

    var isExcusable: Bool { isOptional && !decidesMesh }

    func deciding(_ decidesMesh: Bool) -> WatchedResource {
        var resource = self
        resource.decidesMesh = decidesMesh
        return resource
    }

    /// What the status calls it.
    var title: String { isElsewhere ? "\(plural) of other nodes" : self == .placedPods ? "all \(plural)" : plural }
    /// The kind whose first list is complete with this one's.
    var completes: ObjectKind? { isElsewhere ? nil : kind }

    /// `v1`, `discovery.k8s.io/v1`
    var apiVersion: String { group.isEmpty ? "v1" : group + "/v1" }

    /// Where one object is.
    func path(of name: ObjectName) -> String {
        guard !name.namespace.isEmpty, !path.contains("/namespaces/") else { return "\(path)/\(name.name)" }
        let prefix = path.dropLast(plural.count)
        return "\(prefix)namespaces/\(name.namespace)/\(plural)/\(name.name)"
    }

    func forbiddenMessage(_ detail: String) -> String {
        let group = group.isEmpty ? "\"\" (core)" : group
        return "the API server forbids to list and watch \(plural) (403); allow the verbs list and watch on resource "
            + "\(plural) of API group \(group) in a ClusterRole bound to its ServiceAccount"
            + (detail.isEmpty ? "" : "; it said: \(detail)")
    }
}
