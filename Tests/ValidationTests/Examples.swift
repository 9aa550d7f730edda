/// How the tests of this folder write objects, and for each judgement some that bring it about and some that nearly do.
import Cluster
import Manifests
import Testing

@testable import Validation

/// A file's objects, as `agentctl analyze` reads them.
func objects(_ text: String) -> ([ClusterObject], [PodTemplate], [SourceProblem]) {
    var options = ObjectDecoder.Options()
    options.defaultNamespace = "shop"
    options.unallocatedClusterIPs = ObjectSet.unallocated
    options.absentPortNameIsEmpty = true
    options.slicesNeedService = true
    var decoder = ObjectDecoder(options: options)
    let file = ManifestFile(name: "f", bytes: Array(text.utf8), decoder: &decoder, readsTemplates: true)
    return (file.entries.map(\.object), file.templates, file.problems)
}
func report(_ text: String, complete: Set<ObjectKind> = [], reversed: Bool = false) -> Report {
    let (objects, templates, problems) = objects(text)
    #expect(problems.isEmpty)
    var set = ObjectSet(complete: complete)
    for object in reversed ? objects.reversed() : objects { set.add(object) }
    for template in reversed ? templates.reversed() : templates { set.add(template) }
    return judge(set)
}

func service(_ spec: String, name: String = "web", metadata: String = "", status: String = "") -> String {
    "---\n{apiVersion: v1, kind: Service, metadata: {name: \(name)\(metadata)}, spec: {\(spec)}, "
        + "status: {\(status)}}\n"
}
func route(
    _ rules: String, kind: String = "HTTPRoute", name: String = "r", parent: String = "", metadata: String = "",
    hostnames: String = ""
) -> String {
    """
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: \(kind)
    metadata: {name: \(name)\(metadata)}
    spec:
      parentRefs: [{group: "", kind: Service, name: web\(parent)}]
      hostnames: [\(hostnames)]
      rules: [\(rules)]

    """
}
func namespace(_ labels: String, annotations: String = "") -> String {
    "---\n{apiVersion: v1, kind: Namespace, metadata: "
        + "{name: shop, labels: {\(labels)}, annotations: {\(annotations)}}}\n"
}
func deployment(_ labels: String, port: String = "http") -> String {
    """
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec: {template: {metadata: {labels: {\(labels)}},
      spec: {containers: [{name: c, ports: [{name: \(port), containerPort: 80}]}]}}}

    """
}
func slice(
    of service: String, _ addresses: String, type: String = "IPv4", port: String = "port: 80"
) -> String {
    "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: \(service), labels: "
        + "{kubernetes.io/service-name: \(service)}}, addressType: \(type), ports: [{\(port)}], "
        + "endpoints: [\(addresses)]}\n"
}
let to = "backendRefs: [{name: v1, port: 80}]"

struct Example: Sendable, CustomStringConvertible {
    let code: String
    let text: String
    let nearMiss: String
    /// Kinds of which nothing is missing.
    var complete: Set<ObjectKind> = []
    var description: String { code }
}

let faultExamples: [Example] = [
    Example(
        code: "invalid-regex", text: route("{matches: [{path: {type: RegularExpression, value: '/(a'}}], \(to)}"),
        nearMiss: route("{matches: [{path: {type: RegularExpression, value: '/(a)'}}], \(to)}")),
    Example(
        code: "unsupported-filter", text: route("{filters: [{type: ExtensionRef}], \(to)}"),
        nearMiss: route("{filters: [{type: CORS, cors: {}}], \(to)}")),
    Example(
        code: "unsupported-field", text: route("{sessionPersistence: {}, \(to)}"), nearMiss: route("{name: a, \(to)}")),
    Example(
        code: "invalid-backend", text: route("{\(to)}") + service("ports: [{port: 81}]", name: "v1"),
        nearMiss: route("{\(to)}") + service("ports: [{port: 80}]", name: "v1")),
    Example(
        code: "invalid-backend",
        text: route("{\(to)}") + service("type: ExternalName, ports: [{port: 80}]", name: "v1"),
        nearMiss: route("{\(to)}")),
    Example(
        code: "no-cluster-ip", text: route("{\(to)}") + service("type: ExternalName, ports: [{port: 80}]"),
        nearMiss: route("{\(to)}") + service("ports: [{port: 80}]")),
    Example(
        code: "no-cluster-ip", text: route("{\(to)}") + service("clusterIP: None, ports: [{port: 80}]"),
        nearMiss: route("{\(to)}") + service("clusterIP: 10.96.0.9, ports: [{port: 80}]")),
    Example(
        code: "no-weight", text: route("{backendRefs: [{name: v1, port: 80, weight: 0}]}"),
        nearMiss: route("{backendRefs: [{name: v1, port: 80, weight: 0}, {name: v2, port: 80}]}")),
    Example(
        code: "no-backends", text: route("{matches: [{method: GET}]}"),
        nearMiss: route("{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}")),
    Example(
        code: "not-http", text: route("{\(to)}") + service("ports: [{name: tcp-web, port: 80}]"),
        nearMiss: route("{\(to)}") + service("ports: [{name: tcp-web, appProtocol: http, port: 80}]")),
    Example(
        code: "not-http",
        text: route("{\(to)}", parent: ", port: 80") + service("ports: [{name: tcp-web, port: 80}]"),
        nearMiss: route("{\(to)}", parent: ", port: 80") + service("ports: [{name: web, port: 80}]")),
    Example(
        code: "protocol-contradiction", text: service("ports: [{name: grpc-api, appProtocol: http, port: 80}]"),
        nearMiss: service("ports: [{name: http-api, appProtocol: kubernetes.io/h2c, port: 80}]")),
    Example(
        code: "backend-not-http", text: route("{\(to)}") + service("ports: [{name: https, port: 80}]", name: "v1"),
        nearMiss: route("{\(to)}") + service("ports: [{name: web, port: 80}]", name: "v1")),
    Example(
        code: "backend-protocol",
        text: route("{\(to)}") + service("ports: [{name: web, appProtocol: https, port: 80}]", name: "v1"),
        nearMiss: route("{\(to)}") + service("ports: [{name: https, appProtocol: http, port: 80}]", name: "v1")),
    Example(
        code: "grpc-over-http1",
        text: route("{\(to)}", kind: "GRPCRoute") + service("ports: [{name: http, port: 80}]", name: "v1"),
        nearMiss: route("{\(to)}", kind: "GRPCRoute") + service("ports: [{name: api, port: 80}]", name: "v1")),
    Example(
        code: "retry-not-idempotent", text: route("{matches: [{method: POST}], retry: {attempts: 2}, \(to)}"),
        nearMiss: route("{matches: [{method: PUT}], retry: {attempts: 2}, \(to)}")),
    Example(
        code: "retry-repeats",
        text: route(
            "{retry: {attempts: 2}, \(to)}", metadata: ", annotations: {heddle.io/retry-non-idempotent: 'true'}"),
        nearMiss: route(
            "{matches: [{method: POST}], retry: {attempts: 2}, \(to)}",
            metadata: ", annotations: {heddle.io/retry-non-idempotent: 'true'}")),
    Example(
        code: "shadowed-match",
        text: route("{\(to)}, {matches: [{path: {type: RegularExpression, value: '.*[.]png'}}], \(to)}"),
        nearMiss: route("{matches: [{path: {type: RegularExpression, value: '.*[.]png'}}], \(to)}, {\(to)}")),
    Example(
        code: "selector-matches-nothing",
        text: service("selector: {app: web}, ports: [{port: 80}]") + deployment("app: wep"),
        nearMiss: service("selector: {app: web}, ports: [{port: 80}]") + deployment("app: web, tier: a")),
    Example(
        code: "no-such-target-port",
        text: service("selector: {app: web}, ports: [{port: 80, targetPort: web}]") + deployment("app: web"),
        nearMiss: service("selector: {app: web}, ports: [{port: 80, targetPort: http}]") + deployment("app: web")),
    Example(
        code: "no-endpoints", text: route("{\(to)}") + service("ports: [{port: 80}]", name: "v1") + slice(of: "v1", ""),
        nearMiss: route("{\(to)}") + service("ports: [{port: 80}]", name: "v1")),
    Example(
        code: "no-endpoints", text: route("{\(to)}") + service("ports: [{port: 80}]", name: "v1") + slice(of: "v1", ""),
        nearMiss: route("{\(to)}") + service("ports: [{port: 80}]", name: "v1")
            + slice(of: "v1", "{addresses: [10.1.0.9]}")),
    Example(
        code: "no-endpoints",
        text: route("{\(to)}") + service("ports: [{name: web, port: 80}]", name: "v1")
            + slice(of: "v1", "{addresses: [10.1.0.9]}"),
        nearMiss: route("{\(to)}") + service("ports: [{name: web, port: 80}]", name: "v1")
            + slice(of: "v1", "{addresses: [10.1.0.9]}", port: "name: web, port: 8080")),
    Example(
        code: "two-meshes", text: namespace("heddle.io/mesh: enabled, istio-injection: enabled"),
        nearMiss: namespace("heddle.io/mesh: enabled, istio-injection: disabled, istio.io/rev: stable")),
    Example(
        code: "two-meshes", text: namespace("heddle.io/mesh: enabled", annotations: "linkerd.io/inject: enabled"),
        nearMiss: namespace("kuma.io/sidecar-injection: enabled", annotations: "linkerd.io/inject: disabled")),
    Example(
        code: "too-many-patterns", text: route("{matches: [\(patterns(12))], \(to)}"),
        nearMiss: route("{matches: [\(patterns(11))], \(to)}")),
    Example(
        code: "no-such-port", text: route("{\(to)}", parent: ", port: 81") + service("ports: [{port: 80}]"),
        nearMiss: route("{\(to)}", parent: ", port: 80") + service("ports: [{port: 80}]")),
    Example(
        code: "no-such-port",
        text: route("{\(to)}", parent: ", sectionName: web") + service("ports: [{name: http, port: 80}]"),
        nearMiss: route("{\(to)}", parent: ", sectionName: http") + service("ports: [{name: http, port: 80}]")),
    Example(
        code: "unknown-protocol", text: route("{\(to)}") + service("ports: [{name: a, port: 80}, {name: b, port: 81}]"),
        nearMiss: route("{\(to)}", parent: ", port: 80")
            + service("ports: [{name: a, port: 80}, {name: b, port: 81}]")),
    Example(
        code: "no-parent", text: route("{\(to)}") + service("ports: [{port: 80}]", name: "v1"),
        nearMiss: route("{\(to)}") + service("clusterIP: 10.96.0.8, ports: [{port: 80}]", name: "v1")
            + service("clusterIP: 10.96.0.9, ports: [{port: 80}]"), complete: [.service]),
    Example(
        code: "route-conflict", text: route("{\(path("/a")), \(to)}, {\(path("/a")), \(to)}"),
        nearMiss: route("{\(path("/a")), \(to)}, {\(path("/a/b")), \(to)}")),
    Example(
        code: "route-conflict", text: route("{\(to)}") + route("{\(to)}", name: "s"),
        nearMiss: route("{\(to)}", parent: ", port: 80") + route("{\(to)}", name: "s", parent: ", port: 81")),
    Example(
        code: "route-conflict", text: route("{\(to)}") + route("{\(to)}", kind: "GRPCRoute"),
        nearMiss: route("{\(to)}", parent: ", port: 80")
            + route("{backendRefs: [{name: v2, port: 80}]}", kind: "GRPCRoute", parent: ", port: 81")),
    Example(
        code: "ignored-hostnames", text: route("{\(to)}", hostnames: "shop.example"), nearMiss: route("{\(to)}")),
    Example(
        code: "unknown-annotation", text: route("{\(to)}", metadata: ", annotations: {heddle.io/retries: '3'}"),
        nearMiss: route("{\(to)}", metadata: ", annotations: {example.com/retries: '3'}")),
    Example(
        code: "invalid-annotation", text: route("{\(to)}") + annotated("many"),
        nearMiss: route("{\(to)}") + annotated("9")),
    Example(
        code: "address-conflict", text: exposed("192.0.2.1", "web") + exposed("192.0.2.1", "v1"),
        nearMiss: exposed("192.0.2.1", "web") + exposed("192.0.2.2", "v1")),
    Example(
        code: "address-conflict",
        text: service("type: NodePort, ports: [{port: 80, nodePort: 30080}]")
            + service("type: NodePort, ports: [{port: 81, nodePort: 30080}]", name: "v1"),
        nearMiss: service("type: NodePort, ports: [{port: 80, nodePort: 30080}]")
            + service("type: NodePort, ports: [{port: 80, nodePort: 30080, protocol: UDP}]", name: "v1")),
    Example(
        code: "other-family", text: exposed("'2001:db8::1'", "web", "clusterIP: 10.96.0.9, "),
        nearMiss: exposed("'2001:db8::1'", "web", "clusterIPs: [10.96.0.9, 'fd00::9'], ")),
    Example(
        code: "unservable-address", text: exposed("169.254.0.9", "web"), nearMiss: exposed("169.255.0.9", "web")),
    Example(
        code: "unfiltered-family", text: balanced("loadBalancerSourceRanges: [10.0.0.0/8], "),
        nearMiss: balanced("loadBalancerSourceRanges: [10.0.0.0/8, 'fd00::/8'], ")),
    Example(
        code: "no-health-port", text: balanced("externalTrafficPolicy: Local, "),
        nearMiss: balanced("externalTrafficPolicy: Local, healthCheckNodePort: 30099, "), complete: [.service]),
    Example(
        code: "fqdn-slice",
        text: service("ports: [{port: 80}]") + slice(of: "web", "{addresses: [db.example]}", type: "FQDN"),
        nearMiss: service("ports: [{port: 80}]") + slice(of: "web", "{addresses: [10.1.0.9]}")),
    Example(
        code: "refused-endpoint", text: loop(endpoint: "10.96.0.9"), nearMiss: loop(endpoint: "10.96.0.8")),
]

private func path(_ text: String) -> String { "matches: [{path: {value: \(text)}}]" }
private func patterns(_ count: Int) -> String {
    (0..<count).map { "{path: {type: RegularExpression, value: '/\($0)a{900}b{900}'}}" }.joined(separator: ", ")
}
private func annotated(_ value: String) -> String {
    service("ports: [{port: 80}]", name: "v1", metadata: ", annotations: {heddle.io/max-requests: '\(value)'}")
}
private func exposed(_ address: String, _ name: String, _ spec: String = "") -> String {
    service("\(spec)externalIPs: [\(address)], ports: [{port: 80}]", name: name)
}
private func balanced(_ spec: String) -> String {
    service(
        "type: LoadBalancer, clusterIPs: [10.96.0.9, 'fd00::9'], \(spec)ports: [{port: 80}]",
        status: "loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: '2001:db8::1'}]}")
}
/// A route on a Service of cluster IP 10.96.0.9, to one that has this endpoint.
private func loop(endpoint: String) -> String {
    route("{\(to)}") + service("clusterIP: 10.96.0.9, ports: [{port: 80}]")
        + service("clusterIP: 10.96.0.7, ports: [{port: 80}]", name: "v1")
        + slice(of: "v1", "{addresses: [\(endpoint)]}")
}
