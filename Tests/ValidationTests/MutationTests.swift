/// A good set of objects with one thing broken: that one judgement and no other, of the object that is to blame.
import Cluster
import Testing

@testable import Validation

/// Of the slice: whatever the Service calls its port.
private let ports = ["grpc", "http", "tls", "''"].map { "name: \($0), port: 50051" }.joined(separator: "}, {")
private let good =
    route(
        """
        {matches: [{path: {value: /cart}, method: GET}], retry: {attempts: 2}, \(to)},
        {matches: [{path: {type: RegularExpression, value: '/v[0-9]+/.*'}}],
          filters: [{type: URLRewrite, urlRewrite: {hostname: new.example}}],
          backendRefs: [{name: v1, port: 80, weight: 9}, {name: v2, port: 80, weight: 1}]}
        """, parent: ", port: 80")
    + route(
        "{matches: [{method: {service: a.B, method: C}}], backendRefs: [{name: users, port: 50051}]}",
        kind: "GRPCRoute", name: "calls", parent: ", port: 81")
    + service(
        """
        clusterIP: 10.96.0.1, selector: {app: web}, externalIPs: [192.0.2.1],
          ports: [{name: http, port: 80, targetPort: http}, {name: grpc-api, port: 81, targetPort: http}]
        """)
    + service("clusterIP: 10.96.0.2, selector: {app: web}, ports: [{name: web, port: 80}]", name: "v1")
    + service("clusterIP: 10.96.0.3, selector: {app: web}, ports: [{name: web, port: 80}]", name: "v2")
    + service("clusterIP: 10.96.0.4, ports: [{name: grpc, port: 50051}]", name: "users")
    + slice(of: "users", "{addresses: [10.1.0.1]}", port: ports) + deployment("app: web")
    + namespace("heddle.io/mesh: enabled")

struct Mutation: Sendable, CustomStringConvertible {
    let old: String
    let new: String
    let code: String
    let object: String
    var severity = Severity.warning
    var description: String { "\(code): \(new)" }
}

private let r = "HTTPRoute shop/r"
private let calls = "GRPCRoute shop/calls"
private let web = "Service shop/web"
private let mutations: [Mutation] = [
    .init(old: "'/v[0-9]+/.*'", new: "'/v[0-9+/.*'", code: "invalid-regex", object: r, severity: .error),
    .init(old: "type: URLRewrite,", new: "type: Rewrite,", code: "unsupported-filter", object: r, severity: .error),
    .init(old: "retry: {attempts: 2}", new: "retries: 2", code: "unsupported-field", object: r),
    .init(old: "method: GET", new: "method: PATCH", code: "retry-not-idempotent", object: r),
    .init(
        old: "{name: v2, port: 80, ", new: "{name: v2, port: 8080, ", code: "invalid-backend", object: r,
        severity: .error),
    .init(
        old: "{name: v2, port: 80, ", new: "{kind: Bucket, name: v2, ", code: "invalid-backend", object: r,
        severity: .error),
    .init(old: "weight: 9}, {name: v2, port: 80, weight: 1}", new: "weight: 0}", code: "no-weight", object: r),
    .init(old: "backendRefs: [{name: users, port: 50051}]", new: "name: calls", code: "no-backends", object: calls),
    .init(
        old: "Service, name: web, port: 80}", new: "Service, name: web, port: 8}", code: "no-such-port", object: r,
        severity: .error),
    .init(old: "name: http, port: 80, t", new: "name: tcp, port: 80, t", code: "not-http", object: r, severity: .error),
    .init(
        old: "{name: http, port: 80, t", new: "{name: store, appProtocol: redis, port: 80, t", code: "not-http",
        object: r, severity: .error),
    .init(old: "ports: [{name: grpc, port", new: "ports: [{name: http, port", code: "grpc-over-http1", object: calls),
    .init(old: "ports: [{name: grpc, port", new: "ports: [{name: tls, port", code: "backend-not-http", object: calls),
    .init(
        old: "ports: [{name: grpc, port", new: "ports: [{appProtocol: https, port", code: "backend-protocol",
        object: calls),
    .init(old: "{addresses: [10.1.0.1]}", new: "", code: "no-endpoints", object: calls),
    .init(
        old: "{addresses: [10.1.0.1]}", new: "{addresses: [10.96.0.1]}", code: "refused-endpoint",
        object: "EndpointSlice shop/users"),
    .init(old: "externalIPs: [192.0.2.1]", new: "externalIPs: [169.254.0.1]", code: "unservable-address", object: web),
    .init(old: "externalIPs: [192.0.2.1]", new: "externalIPs: ['2001:db8::1']", code: "other-family", object: web),
    .init(
        old: "externalIPs: [192.0.2.1]", new: "externalIPs: [10.96.0.2]", code: "address-conflict", object: web,
        severity: .error),
    .init(old: "targetPort: http}, ", new: "targetPort: web}, ", code: "no-such-target-port", object: web),
    .init(
        old: "selector: {app: web}, ext", new: "selector: {app: wep}, ext", code: "selector-matches-nothing",
        object: web),
    .init(old: "enabled", new: "enabled, istio-injection: enabled", code: "two-meshes", object: "Namespace shop"),
    .init(old: "hostnames: []", new: "hostnames: [a.example]", code: "ignored-hostnames", object: r),
    .init(old: "{name: r}", new: "{name: r, annotations: {heddle.io/x: a}}", code: "unknown-annotation", object: r),
    .init(
        old: "{name: v1}", new: "{name: v1, annotations: {heddle.io/x: a}}", code: "invalid-annotation",
        object: "Service shop/v1"),
]

@Suite struct MutationTests {
    @Test func theGoodSetIsGood() {
        let report = report(good)
        #expect(report.judgements.isEmpty, "\(report.judgements)")
        #expect(report.unjudged == nil)
    }

    @Test(arguments: mutations) func oneThingBroken(_ mutation: Mutation) throws {
        let place = try #require(good.firstRange(of: mutation.old), "the good set has no such text")
        let judgements = report(good.replacingCharacters(at: place, with: mutation.new)).judgements
        #expect(judgements.map(\.code) == [mutation.code], "\(judgements)")
        let judgement = try #require(judgements.first)
        #expect(judgement.severity == mutation.severity && "\(judgement.object)" == mutation.object)
        #expect(!judgement.field.isEmpty && !judgement.message.isEmpty)
    }

    /// Everything that is attached to it hears of it.
    @Test func aServiceWithoutAnAddress() throws {
        let place = try #require(good.firstRange(of: "clusterIP: 10.96.0.1"))
        let judgements = report(good.replacingCharacters(at: place, with: "clusterIP: None")).judgements
        #expect(judgements.map { "\($0.code) \($0.object)" } == ["no-cluster-ip \(calls)", "no-cluster-ip \(r)"])
    }
    /// A slice's ports belong to those of the Service by their names.
    @Test func aSliceWhosePortsAreCalledOtherwise() throws {
        let place = try #require(good.firstRange(of: "ports: [{name: grpc, port: 50051}, {"))
        let judgements = report(good.replacingCharacters(at: place, with: "ports: [{name: old, port: 50051}, {"))
            .judgements
        #expect(judgements.map { "\($0.code) \($0.object)" } == ["no-endpoints \(calls)"])
    }

    /// A second and a third route of the same match, and a rule behind one that takes all of it in.
    @Test func aRouteMoreInTheWay() {
        let late = ", creationTimestamp: '2026-01-02T00:00:00Z'"
        let copy = report(
            good
                + route(
                    "{matches: [{path: {value: /cart}, method: GET}], \(to)}", name: "z", parent: ", port: 80",
                    metadata: late))
        #expect(copy.judgements.map { "\($0.code) \($0.object.name.name)" } == ["route-conflict z"])
        let behind = report(
            good
                + route(
                    "{matches: [{path: {type: RegularExpression, value: '/v[0-9]+/.*'}, method: GET}], \(to)}",
                    name: "z",
                    parent: ", port: 80", metadata: late))
        #expect(behind.judgements.isEmpty, "a match with a method is asked before one without")
        let after = report(
            good
                + route(
                    "{matches: [{path: {type: RegularExpression, value: '/v[0-9]+/a.*'}}], \(to)}", name: "z",
                    parent: ", port: 80", metadata: late))
        #expect(after.judgements.isEmpty, "what an expression takes in of another is not known")
        let any = report(
            good + route("{\(to)}", name: "a", parent: ", port: 80")
                + route(
                    "{matches: [{path: {type: RegularExpression, value: '.*[.]png'}}], \(to)}", name: "z",
                    parent: ", port: 80", metadata: late))
        #expect(any.judgements.map { "\($0.code) \($0.object.name.name)" }.contains("shadowed-match z"))
    }
}

extension String {
    fileprivate func replacingCharacters(at range: Range<Index>, with text: String) -> String {
        String(self[..<range.lowerBound]) + text + self[range.upperBound...]
    }
}
