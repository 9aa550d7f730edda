/// The fake API server lets nobody do what no role grants, and says so in the words of a real one.
import FakeAPIServer
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct FakeRightsTests {
    private static let roles = """
        apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRole
        metadata: {name: routes}
        rules:
          - {apiGroups: [gateway.networking.k8s.io], resources: [httproutes], verbs: [get, list]}
          - {apiGroups: [gateway.networking.k8s.io], resources: [httproutes/status], verbs: [patch]}
        ---
        kind: ClusterRoleBinding
        metadata: {name: routes}
        roleRef: {kind: ClusterRole, name: routes}
        subjects: [{kind: ServiceAccount, name: writer, namespace: heddle}]
        ---
        kind: Role
        metadata: {name: lease, namespace: heddle}
        rules:
          - {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [mine], verbs: [get, update]}
          - {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
        ---
        kind: RoleBinding
        metadata: {name: lease, namespace: heddle}
        roleRef: {kind: Role, name: lease}
        subjects: [{kind: Group, name: "system:serviceaccounts:heddle"}]
        """
    private let route = ObjectAddress(
        group: "gateway.networking.k8s.io", plural: "httproutes", kind: "HTTPRoute", namespace: "shop", name: "web")

    @Test func onlyWhatARoleGrantsIsDone() async throws {
        try await withServer { server in
            try server.enforce(rbac: Self.roles)
            server.know(.serviceAccount("heddle", "writer"), by: "good")
            server.put(.httproutes, FakeObject("shop", "web", body: #""spec":{}"#))
            try await withWriter(to: server, token: "good") { writer in
                #expect(await writer.write(ObjectWrite(.patch, route, .status, fields: #""status":{}"#)).version != nil)
                guard case .success = await writer.read(route) else {
                    Issue.record("get is not granted")
                    return
                }
                let refusal = await writer.write(ObjectWrite(.patch, route, fields: #""spec":{"a":1}"#))
                guard case .failed(.forbidden(let sentence)) = refusal else {
                    Issue.record("a spec was written by whoever may write statuses: \(refusal)")
                    return
                }
                let told =
                    #"httproutes.gateway.networking.k8s.io "web" is forbidden: User "#
                    + #""system:serviceaccount:heddle:writer" cannot patch resource "httproutes" in API group "#
                    + #""gateway.networking.k8s.io" in the namespace "shop""#
                #expect(sentence.hasSuffix(told))
                #expect(server.forbidden == [told])
                #expect(server.writes.count == 1)
            }
        }
    }

    @Test func namesAndNamespacesOfRolesCount() async throws {
        try await withServer { server in
            try server.enforce(rbac: Self.roles)
            server.know(.serviceAccount("heddle", "other"), by: "good")
            try await withWriter(to: server, token: "good") { writer in
                func isForbidden(_ write: ObjectWrite) async -> Bool {
                    if case .failed(.forbidden) = await writer.write(write) { true } else { false }
                }
                let mine = ObjectAddress.lease(namespace: "heddle", name: "mine")
                let other = ObjectAddress.lease(namespace: "heddle", name: "other")
                let elsewhere = ObjectAddress.lease(namespace: "shop", name: "mine")
                #expect(await writer.write(ObjectWrite(.create, mine, fields: #""spec":{}"#)).version != nil)
                #expect(await writer.write(ObjectWrite(.create, other, fields: #""spec":{}"#)).version != nil)
                #expect(await writer.write(ObjectWrite(.replace, mine, fields: #""spec":{"a":1}"#)).version != nil)
                #expect(await isForbidden(ObjectWrite(.replace, other, fields: #""spec":{"a":1}"#)))
                #expect(await isForbidden(ObjectWrite(.create, elsewhere, fields: #""spec":{}"#)))
                #expect(await isForbidden(ObjectWrite(.delete, mine)))
                #expect(await isForbidden(ObjectWrite(.patch, route, .status, fields: #""status":{}"#)))
            }
        }
    }

    @Test(arguments: [nil, "unknown", "old"]) func whoeverIsNotKnownIsNobody(token: String?) async throws {
        try await withServer { server in
            try server.enforce(rbac: Self.roles)
            var old = FakeUser.serviceAccount("heddle", "writer")
            old.isExpired = true
            server.know(old, by: "old")
            try await withWriter(to: server, token: token) { writer in
                guard case .failure(let failure) = await writer.read(route) else {
                    Issue.record("nobody reads")
                    return
                }
                let word = token == nil ? "system:anonymous" : "401"
                #expect(failure.sentence.contains(word), "\(failure.sentence)")
            }
        }
    }

    @Test func tokensAreReviewed() async throws {
        try await withServer { server in
            var agent = FakeUser.serviceAccount("heddle", "agent", pod: "agent-x", node: "node-1")
            agent.audiences = ["heddle-ca"]
            server.know(agent, by: "good")
            agent.isExpired = true
            server.know(agent, by: "old")
            try await withWriter(to: server) { writer in
                func review(_ token: String, _ audience: String) async -> String {
                    let address = ObjectAddress(
                        group: "authentication.k8s.io", plural: "tokenreviews", kind: "TokenReview", name: "")
                    let fields = #""spec":{"token":"\#(token)","audiences":["\#(audience)"]}"#
                    let answer = try? await writer.answer(to: ObjectWrite(.create, address, fields: fields)).get()
                    return answer.map { String(decoding: $0.body, as: UTF8.self) } ?? ""
                }
                let good = await review("good", "heddle-ca")
                for part in [
                    #""authenticated":true"#, #""audiences":["heddle-ca"]"#, "system:serviceaccount:heddle:agent",
                    #""authentication.kubernetes.io/node-name":["node-1"]"#,
                    #""authentication.kubernetes.io/pod-uid":["uid-of-agent-x"]"#,
                ] {
                    #expect(good.contains(part), "\(good)")
                }
                for (token, audience, error) in [
                    ("good", "other", "token audiences"), ("old", "heddle-ca", "has expired"),
                    ("none", "heddle-ca", "invalid bearer token"),
                ] {
                    let bad = await review(token, audience)
                    #expect(bad.contains(#""authenticated":false"#) && bad.contains(error), "\(bad)")
                    #expect(!bad.contains("system:serviceaccount"))
                }
            }
        }
    }
}
