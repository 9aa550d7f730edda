// Whose token it is, as an API server says, and what of it may be told.
import CertificateAuthority
import FakeAPIServer
import KubernetesClient
import TestSupport
import Testing

@testable import Controller

@Suite struct TokenReviewTests {
    private let audiences: Set = ["istio-ca", "heddle-ca"]

    private func withReviewer(
        token: String = "controller", _ body: (TokenReviewer, FakeAPIServer) async throws -> Void
    ) async throws {
        let server = try await FakeAPIServer()
        try server.enforce(rbac: reviewRights)
        server.know(.serviceAccount("kube-system", "heddle-controller"), by: "controller")
        server.know(.serviceAccount("kube-system", "nobody"), by: "nobody")
        var web = FakeUser.serviceAccount("shop", "web", pod: "web-0", node: "node-1")
        web.audiences = ["istio-ca"]
        server.know(web, by: "web.token")
        web.isExpired = true
        server.know(web, by: "old.token")
        server.know(.serviceAccount("shop", "web", pod: "web-0"), by: "api.token")
        let directory = try TemporaryDirectory()
        try writeText(server.kubeconfig(token: token), to: directory.path + "/kubeconfig")
        let writer = ObjectWriter(
            access: try ClusterAccess.kubeconfig(path: directory.path + "/kubeconfig"), program: "test")
        try await body(TokenReviewer(writer: writer, audiences: audiences), server)
        writer.shutdown()
        await server.stop()
    }

    @Test func aPodsTokenSaysWhoseItIs() async throws {
        try await withReviewer { reviewer, _ in
            let facts = try await reviewer.review("web.token")
            let expected = TokenFacts(
                isAuthenticated: true, audiences: ["istio-ca"], userName: "system:serviceaccount:shop:web",
                podName: "web-0", podUID: "uid-of-web-0", nodeName: "node-1")
            #expect(facts == expected)
        }
    }

    @Test(arguments: [("old.token", "expired"), ("api.token", "audience"), ("forged", "invalid bearer token")])
    func whoeverIsNotBelievedIsNotAuthenticated(token: String, reason: String) async throws {
        try await withReviewer { reviewer, _ in
            let facts = try await reviewer.review(token)
            #expect(!facts.isAuthenticated && facts.userName.isEmpty && facts.problem?.contains(reason) == true)
        }
    }

    /// Nobody is served by chance, and whoever asks is told to come again.
    @Test func withoutAnAnswerNobodyIsKnown() async throws {
        try await withReviewer(token: "nobody") { reviewer, _ in
            let refusal = await #expect(throws: Refusal.self) { try await reviewer.review("web.token") }
            #expect(refusal?.reason == .notReady)
            #expect(refusal?.sentence.contains("allow the verb create on resource tokenreviews") == true)
        }
        try await withReviewer { reviewer, server in
            server.failWrites(.status(500, reason: "InternalError", message: "cannot review web.token now"))
            let refusal = await #expect(throws: Refusal.self) { try await reviewer.review("web.token") }
            #expect(refusal?.reason == .notReady && refusal?.sentence.contains("web.token") == false)
        }
    }

    @Test(arguments: ["", "a\"b", "a b", "a\nb", "ä", String(repeating: "a", count: 20_000)])
    func whatIsNoTokenIsNotAsked(token: String) async throws {
        try await withReviewer { reviewer, server in
            let refusal = await #expect(throws: Refusal.self) { try await reviewer.review(token) }
            #expect(refusal?.reason == .notAuthenticated && server.requests.isEmpty)
        }
    }

    @Test func whatCannotBeReadNamesNobody() throws {
        #expect(try !TokenFacts(review: Array("{}".utf8)).isAuthenticated)
        #expect(try !TokenFacts(review: Array(#"{"status":null}"#.utf8)).isAuthenticated)
        #expect(throws: (any Error).self) { try TokenFacts(review: Array(#"{"status":{"authenticated":true"#.utf8)) }
        let twice =
            #"{"status":{"authenticated":true,"user":{"username":"u","extra":"#
            + #"{"authentication.kubernetes.io/pod-name":["a","b"],"other":["c"]}}}}"#
        let facts = try TokenFacts(review: Array(twice.utf8))
        #expect(facts.isAuthenticated && facts.userName == "u" && facts.podName == nil && facts.audiences.isEmpty)
    }
}

private let reviewRights = """
    kind: ClusterRole
    metadata: {name: r}
    rules: [{apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}]
    ---
    kind: ClusterRoleBinding
    metadata: {name: r}
    roleRef: {kind: ClusterRole, name: r}
    subjects: [{kind: ServiceAccount, namespace: kube-system, name: heddle-controller}]
    """
