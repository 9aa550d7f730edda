/// HTTPRoutes and GRPCRoutes from YAML: every field, the defaults, and what is refused.
import Cluster
import RouteIR
import Testing

@Suite struct RouteDecoderTests {
    private func route(_ spec: String, kind: ObjectKind = .httpRoute) throws -> Route {
        let text = "metadata: {name: r, namespace: shop, creationTimestamp: 2026-01-01T00:00:00Z}\nspec:\n" + spec
        guard case .route(let route) = try decode(kind, text) else { throw DecodeError("no route", line: 0) }
        return route
    }

    @Test func everyField() throws {
        let route = try route(
            """
              parentRefs:
              - {group: "", kind: Service, name: web, port: 80}
              - {group: "", kind: Service, name: api, namespace: other, sectionName: http}
              - {name: some-gateway}
              hostnames: [a.example]
              rules:
              - name: first
                matches:
                - path: {type: Exact, value: /a}
                  method: GET
                  headers: [{name: X-A, value: "1"}, {name: x-a, value: "2"}]
                  queryParams: [{type: RegularExpression, name: Q, value: "a+"}]
                - path: {type: RegularExpression, value: "a.*"}
                - headers: [{name: v, value: x}]
                filters:
                - type: RequestHeaderModifier
                  requestHeaderModifier: {set: [{name: S, value: "1"}], add: [{name: A, value: "2"}], remove: [R]}
                - type: URLRewrite
                  urlRewrite: {hostname: h, path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}
                - type: RequestMirror
                  requestMirror: {backendRef: {name: copy, port: 80}, fraction: {numerator: 1, denominator: 3}}
                - {type: ExtensionRef, extensionRef: {group: x, kind: Y, name: z}}
                backendRefs:
                - {name: v1, port: 8080, weight: 90}
                - name: v2
                  namespace: other
                  port: 8080
                  filters:
                  - type: ResponseHeaderModifier
                    responseHeaderModifier: {remove: [B]}
                timeouts: {request: 10s, backendRequest: 0s}
                retry: {codes: [503], attempts: 3, backoff: 100ms}
                sessionPersistence: {}
              - filters:
                - type: RequestRedirect
                  requestRedirect:
                    {scheme: https, port: 8443, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /y}}
                - {type: CORS, cors: {allowOrigins: ["https://x"], allowCredentials: true, maxAge: 9}}
            """)
        #expect(route.parents.map(\.service) == [ObjectName("shop", "web"), ObjectName("other", "api")])
        #expect(route.parents.map(\.port) == [80, nil] && route.parents[1].sectionName == "http")
        #expect(route.hostnames == ["a.example"] && route.creationTime == 1_767_225_600)
        let first = route.rules[0]
        #expect(first.name == "first" && first.ignoredFields == ["sessionPersistence"])
        #expect(first.matches.map(\.path) == [.exact("/a"), .regularExpression("a.*"), .prefix("/")])
        #expect(first.matches[0].headers == [Route.FieldMatch(name: "x-a", value: .init("1"))])
        #expect(first.matches[0].query == [.init(name: "Q", value: .init("a+", isRegularExpression: true))])
        var copy = Route.BackendReference(name: ObjectName("shop", "copy"), port: 80)
        #expect(
            first.filters == [
                .ready(.requestHeaders(HeaderEdit(set: [.init("S", "1")], add: [.init("A", "2")], remove: ["R"]))),
                .rewrite(hostname: "h", path: .prefix("/x")), .mirror(copy, numerator: 1, denominator: 3),
                .unknown("ExtensionRef"),
            ])
        copy.name = ObjectName("other", "v2")
        #expect(first.backends.map(\.weight) == [90, 1] && first.backends[1].reference.name == copy.name)
        #expect(first.backends[1].filters == [.ready(.responseHeaders(HeaderEdit(remove: ["B"])))])
        #expect(first.timeouts == .init(request: .seconds(10)))
        #expect(first.retry == RetryPolicy(attempts: 3, codes: [503], backoff: .milliseconds(100)))
        var cors = CORSPolicy()
        (cors.allowOrigins, cors.allowCredentials, cors.maxAgeSeconds) = (["https://x"], true, 9)
        #expect(
            route.rules[1].filters == [
                .redirect(Redirect(scheme: "https", port: 8443, status: 301), path: .full("/y")), .ready(.cors(cors)),
            ])
    }

    @Test func calls() throws {
        let route = try route(
            """
              rules:
              - matches:
                - method: {service: a.B, method: C}
                - method: {type: RegularExpression, method: "D|E"}
                - headers: [{name: v, value: x}]
            """, kind: .grpcRoute)
        #expect(
            route.rules[0].matches.map(\.path) == [
                .call(service: .init("a.B"), method: .init("C")),
                .call(service: nil, method: .init("D|E", isRegularExpression: true)), .prefix("/"),
            ])
    }

    @Test func aRouteWithoutRulesMatchesEverything() throws { #expect(try route("  rules: []").rules.count == 1) }

    @Test(arguments: [
        ("  rules: [{matches: [{path: {value: a}}]}]", "spec.rules[0].matches[0].path.value"),
        ("  rules: [{matches: [{path: {type: Glob, value: /a}}]}]", "spec.rules[0].matches[0].path.type"),
        ("  rules: [{backendRefs: [{name: a, port: 70000}]}]", "spec.rules[0].backendRefs[0].port"),
        ("  rules: [{backendRefs: [{name: a, port: 80, weight: -1}]}]", "spec.rules[0].backendRefs[0].weight"),
        ("  rules: [{timeouts: {request: 10}}]", "spec.rules[0].timeouts.request"),
        ("  rules: [{timeouts: {request: 10sec}}]", "spec.rules[0].timeouts.request"),
        ("  rules: [{timeouts: {request: 1s, backendRequest: 2s}}]", "spec.rules[0].timeouts.backendRequest"),
        ("  rules: [{retry: {codes: [200]}}]", "spec.rules[0].retry.codes[0]"),
        (
            "  rules: [{filters: [{type: CORS, cors: {exposeHeaders: [\"a\\r\\nb: c\"]}}]}]",
            "spec.rules[0].filters[0].cors.exposeHeaders[0]"
        ),
        (
            "  rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: ['a b']}}]}]",
            "spec.rules[0].filters[0].requestHeaderModifier.remove[0]"
        ),
        (
            "  rules: [{filters: [{type: RequestHeaderModifier, "
                + "requestHeaderModifier: {set: [{name: a, value: \"x\\r\\ny\"}]}}]}]",
            "spec.rules[0].filters[0].requestHeaderModifier.set[0]"
        ),
        (
            "  rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]}]",
            "spec.rules[0].filters[0].requestRedirect.statusCode"
        ),
        (
            "  rules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: 'a b'}}]}]",
            "spec.rules[0].filters[0].urlRewrite.hostname"
        ),
        ("  rules: [{filters: [{type: CORS}]}]", "spec.rules[0].filters[0]"),
        ("  parentRefs: [{group: '', kind: Service}]", "spec.parentRefs[0].name"),
    ])
    func refused(spec: String, path: String) {
        let error = #expect(throws: DecodeError.self) { try route(spec) }
        #expect(error?.path == path)
    }

    @Test(arguments: [
        ("1h30m", 5_400_000), ("500ms", 500), ("0s", 0), ("99999s", 99_999_000), ("1h1m1s1ms", 3_661_001),
    ])
    func durations(text: String, milliseconds: Int) {
        #expect(Duration(gatewayText: text) == .milliseconds(milliseconds))
    }

    @Test(arguments: ["", "1", "s", "1d", "1.5s", "-1s", "100000s", "1s1s1s1s1s"])
    func noDurations(text: String) { #expect(Duration(gatewayText: text) == nil) }

    @Test func podsAreNamedByTheirOwner() throws {
        let text = """
            metadata:
              name: web-5d8-x2
              namespace: shop
              labels: {app: web, version: v2, pod-template-hash: 5d8}
              ownerReferences: [{kind: ReplicaSet, name: web-5d8, controller: true}]
            spec: {nodeName: n1, serviceAccountName: cashier}
            status: {podIP: 10.1.0.5}
            """
        guard case .pod(let pod) = try decode(.pod, text) else { throw DecodeError("no pod", line: 0) }
        #expect(
            Workload(pod)
                == Workload(
                    namespace: "shop", pod: "web-5d8-x2", name: "web", app: "web", version: "v2",
                    canonicalService: "web", canonicalRevision: "v2", serviceAccount: "cashier", node: "n1"))
    }

    @Test func aRouteTouchesItsOldAndNewParents() throws {
        var state = ClusterState()
        let parents = { (name: String) in "  parentRefs: [{group: '', kind: Service, name: \(name)}]" }
        let (web, api) = (ObjectName("shop", "web"), ObjectName("shop", "api"))
        #expect(state.apply(.upsert(.route(try route(parents("web"))))).services == [web])
        #expect(state.apply(.upsert(.route(try route(parents("web"))))).isEmpty)
        #expect(state.apply(.upsert(.route(try route(parents("api"))))).services == [web, api])
        #expect(state.routes(of: web).isEmpty && state.routes(of: api).count == 1)
        #expect(state.apply(.delete(ObjectID(.httpRoute, ObjectName("shop", "r")))).services == [api])
        #expect(state.routes(of: api).isEmpty)
    }
}
