/// What people write who follow the Gateway API's documentation, attached to Services: nothing of it is a fault.
import Cluster
import Testing

@testable import Validation

private func route(_ rules: String, kind: String = "HTTPRoute", namespace: String = "shop") -> String {
    """
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: \(kind)
    metadata: {name: store, namespace: \(namespace)}
    spec:
      parentRefs: [{group: "", kind: Service, name: store, namespace: shop, port: 8080}]
      rules:
    \(rules)

    """
}

private let examples: [String: String] = [
    "simple": route("  - backendRefs: [{name: store-a, port: 8080}]"),
    "traffic splitting": route(
        "  - backendRefs: [{name: a, port: 8080, weight: 90}, {name: b, port: 8080, weight: 10}]"),
    "new version switched off": route(
        "  - backendRefs: [{name: a, port: 8080, weight: 1}, {name: b, port: 8080, weight: 0}]"),
    "canary by header": route(
        """
          - matches: [{headers: [{name: traffic, value: test}]}]
            backendRefs: [{name: b, port: 8080}]
          - backendRefs: [{name: a, port: 8080}]
        """),
    "paths and query parameters": route(
        """
          - matches:
            - {path: {type: PathPrefix, value: /cart}, queryParams: [{name: animal, value: whale}]}
            - {path: {type: Exact, value: /cart/list}}
            backendRefs: [{name: a, port: 8080}]
          - matches: [{path: {value: /cart}}]
            backendRefs: [{name: b, port: 8080}]
        """),
    "methods": route(
        """
          - matches: [{method: GET}]
            backendRefs: [{name: reads, port: 8080}]
          - matches: [{method: POST}, {method: DELETE}]
            backendRefs: [{name: writes, port: 8080}]
        """),
    "redirect": route(
        """
          - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]
        """),
    "redirect of a prefix": route(
        """
          - matches: [{path: {type: PathPrefix, value: /cayenne}}]
            filters:
            - type: RequestRedirect
              requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /paprika}, statusCode: 302}
        """),
    "rewrite": route(
        """
          - matches: [{path: {type: PathPrefix, value: /old}}]
            filters:
            - type: URLRewrite
              urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
            backendRefs: [{name: a, port: 8080}]
        """),
    "header modifiers": route(
        """
          - filters:
            - type: RequestHeaderModifier
              requestHeaderModifier: {add: [{name: my-header, value: foo}], remove: [x-old]}
            - type: ResponseHeaderModifier
              responseHeaderModifier: {set: [{name: cookie, value: bar}]}
            backendRefs: [{name: a, port: 8080}]
        """),
    "mirror": route(
        """
          - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 8080}, percent: 42}}]
            backendRefs: [{name: a, port: 8080}]
        """),
    "timeouts and retries": route(
        """
          - timeouts: {request: 10s, backendRequest: 2s}
            retry: {codes: [500, 502, 503, 504], attempts: 2, backoff: 100ms}
            backendRefs: [{name: a, port: 8080}]
        """),
    "consumer in another namespace": route("  - backendRefs: [{name: a, namespace: shop, port: 8080}]", namespace: "b"),
    "producer and consumer": route("  - backendRefs: [{name: a, port: 8080}]")
        + route("  - backendRefs: [{name: store, namespace: shop, port: 8080}]", namespace: "b"),
    "gRPC methods": route(
        """
          - matches: [{method: {service: com.example.User, method: Login}}]
            backendRefs: [{name: users, port: 50051}]
          - matches: [{method: {service: com.example.User}}, {headers: [{name: version, value: "2"}]}]
            backendRefs: [{name: others, port: 50051}]
        """, kind: "GRPCRoute"),
]

@Suite struct GatewayExampleTests {
    @Test(arguments: examples.keys.sorted()) func nothingIsWrong(_ name: String) throws {
        let text = try #require(examples[name])
        #expect(report(text).judgements.isEmpty)
        // And once the Services are there.
        let ports = "ports: [{name: web, port: 8080, appProtocol: http}, {name: grpc, port: 50051}]"
        let services = ["store", "a", "b", "store-a", "reads", "writes", "users", "others"].map {
            "---\n{apiVersion: v1, kind: Service, metadata: {name: \($0), namespace: shop}, spec: {\(ports)}}\n"
        }
        let withServices = report(text + services.joined())
        #expect(withServices.judgements.isEmpty)
    }
}
