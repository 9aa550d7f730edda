/// The agent's half of the API, with no more rights than deploy/ grants: a verb that is missing there is refused here.
import Cluster
import FakeAPIServer
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct ChartRightsTests {
    private static let kinds = [
        "services", "endpointslices", "nodes", "servicecidrs", "httproutes", "grpcroutes", "pods", "namespaces",
        "peerauthentications", "authorizationpolicies",
    ]
    static var manifests: String {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        return readText("\(root)/deploy/heddle.yaml")
    }

    @Test(arguments: [true, false]) func theAgentMayDoWhatItDoes(streams: Bool) async throws {
        try await withAgent(without: nil, streams: streams) { server, recorder in
            try await soon("synced") { recorder.now.synced == 1 }
            try await soon("all is followed") {
                server.watchers(.pods) == 2
                    && [
                        .services, .endpointslices, .nodes, .servicecidrs, .httproutes, .grpcroutes, .namespaces,
                        .peerauthentications, .authorizationpolicies,
                    ]
                    .allSatisfy { server.watchers($0) == 1 }
            }
            try await soon("an event") { server.createdEvents.count == 1 }
            #expect(server.forbidden == [])
        }
    }

    /// That the above would fail.
    @Test(arguments: ["list", "watch", "get", "create"]) func aVerbThatIsMissingIsRefused(verb: String) async throws {
        try await withAgent(without: verb, streams: verb == "watch") { server, _ in
            let kinds = verb == "get" ? ["services"] : verb == "create" ? ["events"] : Self.kinds
            try await soon("\(kinds) are refused") {
                kinds.allSatisfy { kind in
                    server.forbidden.contains { $0.contains("cannot \(verb) resource \"\(kind)\"") }
                }
            }
        }
    }

    /// Follows all that an agent may want, and tells an owner of an object.
    private func withAgent(
        without verb: String?, streams: Bool, _ body: (FakeAPIServer, Recorder) async throws -> Void
    ) async throws {
        let manifests = Self.manifests
        try await withSource(
            configure: {
                $0.access.login = .token("agent")
                $0.followsMesh = true
            },
            prepare: { server in
                server.configure { $0.offersStreamedLists = streams }
                server.know(.serviceAccount("kube-system", "heddle"), by: "agent")
                server.fill()
                #expect(throws: Never.self) { try server.enforce(rbac: manifests, without: verb) }
            },
            { server, recorder in
                recorder.source.follow(.all, round: 1)
                let name = ObjectID(.service, ObjectName("default", "web"))
                recorder.source.record(ObjectEvent(name, reason: "AddressConflict", message: "m"))
                try await body(server, recorder)
            })
    }
}
