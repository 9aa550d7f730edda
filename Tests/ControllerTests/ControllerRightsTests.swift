// The controller with no more rights than deploy/ grants: a verb that is missing there is refused here.
import AdminAPI
import FakeAPIServer
import Glibc
import TestSupport
import Testing

@Suite(.serialized) struct ControllerRightsTests {
    private static let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/heddle-controller"

    @Test(arguments: [true, false]) func theControllerMayDoWhatItDoes(streams: Bool) async throws {
        try await withController(without: nil, streams: streams) { server in
            try eventually("the Lease is made") { server.stored(Self.lease) != nil }
            // Nobody held it: it need not be waited for.
            server.store(Self.lease, #"{"spec":{"holderIdentity":""}}"#)
            for path in ["httproutes/h", "grpcroutes/g"] {
                try eventually("the status of \(path)") {
                    server.stored("/apis/gateway.networking.k8s.io/v1/namespaces/default/\(path)")?
                        .contains("heddle.io/mesh-controller") == true
                }
            }
            try eventually("the bad one's owner is told") { server.createdEvents.count == 1 }
            try eventually("API servers know the webhook") { server.authorities == 1 }
            #expect(server.forbidden == [])
        }
    }

    /// That the above would fail.
    @Test(arguments: [
        ("list", ["services", "endpointslices", "namespaces", "httproutes", "grpcroutes", "pods"]),
        ("watch", ["services", "endpointslices", "namespaces", "httproutes", "grpcroutes", "pods"]),
        ("get", ["leases", "secrets", "validatingwebhookconfigurations"]),
        ("create", ["leases"]), ("update", ["leases"]),
        ("patch", ["httproutes/status", "grpcroutes/status", "secrets", "validatingwebhookconfigurations"]),
    ])
    func aVerbThatIsMissingIsRefused(verb: String, resources: [String]) async throws {
        try await withController(without: verb, streams: verb == "watch") { server in
            if ["update", "patch"].contains(verb) { server.store(Self.lease, #"{"spec":{"holderIdentity":""}}"#) }
            try eventually("\(resources) are refused") {
                resources.allSatisfy { resource in
                    server.forbidden.contains { $0.contains("cannot \(verb) resource \"\(resource)\"") }
                }
            }
        }
    }

    private func withController(
        without verb: String?, streams: Bool, _ body: (FakeAPIServer) throws -> Void
    ) async throws {
        let server = try await FakeAPIServer()
        server.configure { $0.offersStreamedLists = streams }
        server.know(.serviceAccount("kube-system", "heddle-controller"), by: "controller")
        try server.enforce(rbac: renderedChart, without: verb)
        server.installWebhook()
        // One whose authority is to be told, beside something that is to be taken away.
        if verb == "patch" { try server.keepCertificate() }
        let bad = FakeObject("default", "bad", body: #""spec":{"clusterIP":"10.96.0.300","ports":[{"port":80}]}"#)
        server.put(.services, service("web"), service("rpc", clusterIP: "10.96.0.2"), bad)
        var route = httpRoute("h", of: "web", to: "web")
        server.put(.httproutes, route)
        (route.name, route.body) = ("g", httpRoute("g", of: "rpc", to: "rpc").body)
        server.put(.grpcroutes, route)
        let controller = try RunningController("a", server, token: "controller")
        let result = Result { try body(server) }
        try controller.end()
        await server.stop()
        try result.get()
    }
}
