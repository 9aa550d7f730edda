/// What policies do in a cluster, step by step as they are applied: the public cases of Istio's own tests that need no
/// traffic, from the documents to the verdict.
import Addressing
import Cluster
import RouteIR
import TestSupport
import Testing

@Suite struct PolicyCaseTests {
    /// Clients and servers of the cases: `web` listens on 8080 for HTTP and on 9000 for lines of text.
    private struct World {
        private var state = ClusterState(meshNode: "here")
        private let servers: [String: ObjectName] = [
            "web": ObjectName("shop", "web-v1"), "api": ObjectName("shop", "api-1"),
            "web.other": ObjectName("other", "web"),
        ]

        init() {
            for (index, name) in servers.values.sorted().enumerated() {
                var pod = Cluster.Pod(name: name)
                (pod.nodeName, pod.addresses) = ("here", [IPAddress(v4: 0x0a01_0001 + UInt32(index))])
                pod.labels = ["app": name.name.hasPrefix("api") ? "api" : "web"]
                _ = state.apply(.upsert(.pod(pod)))
            }
        }

        mutating func apply(_ name: String, _ spec: String) throws {
            let text = "metadata: {name: \(name), namespace: shop}\nspec: \(spec)"
            _ = state.apply(.upsert(try decode(.authorizationPolicy, text)))
        }

        /// nil in place of a client: one that is not in the mesh.
        func isAllowed(
            _ client: String?, to server: String = "web", _ request: String? = nil, h headers: [(String, String)] = []
        ) throws -> Bool {
            let pod = try #require(servers[server].flatMap { state.mesh.localPods[$0] })
            let program = PolicyProgram(trustDomains: ["cluster.local"], policies: state.accessPolicies(of: pod))
            let peer = client.map {
                PolicyPeer(
                    trustDomain: "cluster.local", namespace: $0 == "other" ? "other" : "shop", serviceAccount: $0)
            }
            let question = PolicyQuestion(
                peer: peer, source: IPAddress(v4: 0x0a01_0063), destination: pod.addresses[0],
                port: request == nil ? 9000 : 8080)
            guard let request else { return program.verdict(of: question).isAllowed }
            let parts = request.split(separator: " ").map(String.init)
            let path = String(parts[1].prefix { $0 != "?" })
            return program.verdict(
                of: question, request: TextRequest(methodText: parts[0], pathText: path, headers: headers)
            ).isAllowed
        }
    }

    @Test func allowAndDeny() throws {
        var world = World()
        try world.apply("nothing", "{}")
        #expect(try !world.isAllowed("client", "GET /"))
        #expect(try world.isAllowed("client", to: "web.other", "GET /"))
        let web = "selector: {matchLabels: {app: web}}"
        try world.apply("some", "{\(web), rules: [{to: [{operation: {paths: [\"/allow*\"]}}]}]}")
        #expect(try world.isAllowed("client", "GET /allow/x"))
        #expect(try !world.isAllowed("client", "GET /other"))
        try world.apply("not-admin", "{\(web), action: DENY, rules: [{to: [{operation: {paths: [/allow/admin]}}]}]}")
        #expect(try !world.isAllowed("client", "GET /allow/admin?x=y"))
        #expect(try world.isAllowed("client", "GET /allow/x"))
    }

    @Test func whoMay() throws {
        var world = World()
        try world.apply(
            "p",
            """
            {selector: {matchLabels: {app: web}}, rules: [
              {from: [{source: {principals: ["cluster.local/ns/shop/sa/client"]}}],
               to: [{operation: {ports: ["8080"]}}]},
              {from: [{source: {namespaces: [other]}}], to: [{operation: {ports: ["9000"]}}]}]}
            """)
        #expect(try world.isAllowed("client", "GET /"))
        #expect(try !world.isAllowed("batch", "GET /"))
        #expect(try !world.isAllowed(nil, "GET /"))
        #expect(try !world.isAllowed("client"))
        #expect(try world.isAllowed("other"))
        #expect(try world.isAllowed("other", to: "api", "GET /"))
    }

    @Test func conditions() throws {
        var world = World()
        try world.apply(
            "p",
            """
            {selector: {matchLabels: {app: web}}, rules: [
              {to: [{operation: {paths: [/h]}}], when: [{key: "request.headers[x-foo]", values: [foo]}]},
              {to: [{operation: {paths: ["/t/{*}/end"]}}]},
              {to: [{operation: {paths: [/m], notMethods: [PUT]}}]},
              {to: [{operation: {paths: [/src]}}], when: [{key: source.namespace, notValues: [other]}]}]}
            """)
        #expect(try world.isAllowed("client", "GET /h", h: [("x-foo", "foo")]))
        #expect(try !world.isAllowed("client", "GET /h", h: [("x-foo", "bar")]))
        #expect(try !world.isAllowed("client", "GET /h"))
        #expect(try world.isAllowed("client", "GET /t/1/end"))
        #expect(try !world.isAllowed("client", "GET /t/1/2/end"))
        #expect(try world.isAllowed("client", "DELETE /m"))
        #expect(try !world.isAllowed("client", "PUT /m"))
        #expect(try !world.isAllowed("other", "GET /src"))
        #expect(try world.isAllowed("client", "GET /src"))
    }

    @Test func aRuleAboutRequestsOnAPortWithoutThem() throws {
        var world = World()
        let web = "selector: {matchLabels: {app: web}}, action: DENY"
        try world.apply("p", "{\(web), rules: [{to: [{operation: {paths: [/secret]}}]}]}")
        #expect(try !world.isAllowed("client"))
        #expect(try world.isAllowed("client", "GET /"))
        try world.apply("p", "{\(web), rules: [{to: [{operation: {paths: [/secret], ports: [\"8080\"]}}]}]}")
        #expect(try world.isAllowed("client"))
        #expect(try !world.isAllowed("client", "GET /secret"))
    }
}
