/// For each judgement one set of objects that brings it about, and a near miss that does not.
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

private func service(_ spec: String, name: String = "web") -> String {
    "---\n{apiVersion: v1, kind: Service, metadata: {name: \(name)}, spec: {\(spec)}}\n"
}
private func route(_ rules: String, kind: String = "HTTPRoute", parent: String = "", metadata: String = "") -> String {
    """
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: \(kind)
    metadata: {name: r\(metadata)}
    spec:
      parentRefs: [{group: "", kind: Service, name: web\(parent)}]
      rules: [\(rules)]

    """
}
private func namespace(_ labels: String, annotations: String = "") -> String {
    "---\n{apiVersion: v1, kind: Namespace, metadata: "
        + "{name: shop, labels: {\(labels)}, annotations: {\(annotations)}}}\n"
}
private func deployment(_ labels: String, port: String = "http") -> String {
    """
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec: {template: {metadata: {labels: {\(labels)}},
      spec: {containers: [{name: c, ports: [{name: \(port), containerPort: 80}]}]}}}

    """
}
private let to = "backendRefs: [{name: v1, port: 80}]"

struct Example: Sendable, CustomStringConvertible {
    let code: String
    let text: String
    let nearMiss: String
    var description: String { code }
}

private let examples: [Example] = [
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
        code: "no-endpoints",
        text: route("{\(to)}") + service("ports: [{port: 80}]", name: "v1")
            + "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, labels: "
            + "{kubernetes.io/service-name: v1}}, addressType: IPv4, ports: [{port: 80}], endpoints: []}\n",
        nearMiss: route("{\(to)}") + service("ports: [{port: 80}]", name: "v1")),
    Example(
        code: "two-meshes", text: namespace("heddle.io/mesh: enabled, istio-injection: enabled"),
        nearMiss: namespace("heddle.io/mesh: enabled, istio-injection: disabled, istio.io/rev: stable")),
    Example(
        code: "two-meshes", text: namespace("heddle.io/mesh: enabled", annotations: "linkerd.io/inject: enabled"),
        nearMiss: namespace("kuma.io/sidecar-injection: enabled", annotations: "linkerd.io/inject: disabled")),
]

@Suite struct JudgeTests {
    @Test(arguments: examples) func isFound(_ example: Example) {
        let codes = report(example.text).judgements.map(\.code)
        #expect(codes.contains(example.code), "\(codes)")
    }
    @Test(arguments: examples) func nearMissIsNone(_ example: Example) {
        #expect(report(example.nearMiss).judgements.isEmpty)
    }
    @Test(arguments: examples) func orderDecidesNothing(_ example: Example) {
        // Other things being equal the first by name goes first, whichever was given first.
        #expect(report(example.text) == report(example.text, reversed: true))
    }
    @Test(arguments: examples) func oneObjectIsJudgedAsInTheWhole(_ example: Example) {
        let (objects, templates, _) = objects(example.text)
        for object in objects {
            var others = ObjectSet()
            for template in templates { others.add(template) }
            var whole = others
            for other in objects {
                whole.add(other)
                if other.id != object.id { others.add(other) }
            }
            let alone = judge(object, against: others).judgements.filter { $0.object == object.id }
            #expect(alone == judge(whole).judgements.filter { $0.object == object.id })
        }
    }

    @Test func whatIsNotGivenIsUnknown() {
        let alone = report(route("{\(to)}"))
        #expect(alone.judgements.isEmpty)
        #expect(alone.unjudged == "not judged: Services that were not given (shop/v1, shop/web)")
        // In a whole cluster it is missing.
        let whole = report(route("{\(to)}"), complete: [.service])
        #expect(whole.judgements.map(\.code) == ["no-parent", "invalid-backend"])
    }
    @Test func rulesThatNoPortTakesAreJudgedToo() {
        let bad = route("{matches: [{path: {type: RegularExpression, value: '/(a'}}], \(to)}")
        let codes = report(bad + service("ports: [{name: tcp-web, port: 80}]")).judgements.map(\.code)
        #expect(codes == ["not-http", "invalid-regex"])
        let gone = Set(report(bad, complete: [.service]).judgements.map(\.code))
        #expect(gone == ["no-parent", "invalid-regex"])
    }
    @Test func onlyWhatNothingElseMendsIsRefused() {
        let refused = Set(examples.filter { report($0.text).judgements.contains(where: \.isRefused) }.map(\.code))
        #expect(refused == ["invalid-regex", "unsupported-filter"])
    }
}
