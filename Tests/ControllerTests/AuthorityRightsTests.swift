// The certificate authority with a right less than the chart grants: it says which one, and serves nobody by chance.
import AdminAPI
import FakeAPIServer
import TestSupport
import Testing

@Suite(.serialized) struct AuthorityRightsTests {
    @Test(arguments: [
        ("get", "allow the verb get on resource secrets of API group \"\" (core)"),
        ("patch", "allow the verb patch on resource secrets of API group \"\" (core)"),
        ("list", "allow the verbs list and watch on resource pods of API group \"\" (core)"),
        ("watch", "allow the verbs list and watch on resource pods of API group \"\" (core)"),
    ])
    func aVerbThatIsMissingIsNamed(verb: String, remedy: String) async throws {
        let server = try await FakeAPIServer()
        server.configure { $0.offersStreamedLists = verb == "watch" }
        try server.enforce(rbac: renderedChart, without: verb)
        server.knowTheCast()
        for path in ["secrets/heddle-ca", "configmaps/heddle-ca-root"] {
            server.store("/api/v1/namespaces/kube-system/" + path, #"{"metadata":{}}"#)
        }
        server.store(
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/heddle-controller",
            #"{"spec":{"holderIdentity":""}}"#)
        let controller = try RunningController("a", server, token: "controller")
        do {
            try await soon("agentctl ca says so") {
                let report = try controller.report()
                return !report.isReady && report.allProblems.contains { $0.contains(remedy) }
            }
            #expect(try controller.agentctl("ca").contains("\nproblem           "))
            let status = try controller.status()
            #expect(status.authority?.isReady == false)
            #expect(status.authority?.problems.contains { $0.contains(remedy) } == true)
            // Nobody's traffic hangs on it, nor what else the controller does.
            #expect(try controller.report().issuedCount == 0)
        } catch { Issue.record(error) }
        try controller.end()
        await server.stop()
    }

    /// Whoever has no use for it gives it no rights.
    @Test func itCanBeSwitchedOff() async throws {
        let server = try await FakeAPIServer()
        let controller = try RunningController("a", server, options: ["--ca", "off"])
        do {
            try await soon("it runs") { try controller.status().ready }
            #expect(try controller.status().authority == nil)
            #expect(throws: (any Error).self) { try controller.agentctl("ca") }
            #expect(!server.requests.contains { $0.path.hasSuffix("/heddle-ca") || $0.path == "/api/v1/pods" })
        } catch { Issue.record(error) }
        try controller.end()
        await server.stop()
    }
}
