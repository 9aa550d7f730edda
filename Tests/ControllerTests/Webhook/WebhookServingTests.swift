// The program at its door: what an API server is answered, and whose writes it refuses for us.
import AdminAPI
import Admission
import FakeAPIServer
import FoundationEssentials
import Glibc
import TestSupport
import Testing

@testable import Controller

@Suite(.serialized) struct WebhookServingTests {
    private func cluster() async throws -> FakeAPIServer {
        let server = try await FakeAPIServer()
        server.put(.services, service("web"))
        server.put(.endpointslices, endpointSlice("web-1", of: "web"))
        server.put(.namespaces, FakeObject("", "default", body: "\"spec\":{}"))
        server.installWebhook()
        server.freeLease()
        return server
    }
    private func start(_ server: FakeAPIServer, _ name: String = "a") throws -> (RunningController, UInt16) {
        let controller = try RunningController(name, server)
        return (controller, controller.webhookPort)
    }

    @Test func anAPIServerIsAnsweredByTheFirstCertificate() async throws {
        let server = try await cluster()
        let (controller, port) = try start(server)
        try await until("its authority is told") { server.authorities == 1 }
        try await until("all is known") { try controller.status().ready }
        let bundle = server.bundle
        let ask = { (body: String) in try ControllerTests.ask(body, at: port, believing: bundle) }

        let good = try ask(review(route()))
        #expect(good.status == 200 && good.body.contains(#""response":{"uid":"7","allowed":true}"#))
        // The very sentence that analyze says of the file.
        let directory = try TemporaryDirectory()
        try writeText(route("r", badRule), to: directory.path + "/r.json")
        let analysis = try run([
            "sh", "-c", "\(programDirectory)/agentctl analyze -o json \(directory.path)/r.json || true",
        ])
        let quoted = try #require(analysis.firstMatch(of: /"message" ?: ?"(never matches([^"\\]|\\.)*)"/)?.1)
        let sentence = quoted.replacing("\\/", with: "/")
        let refused = try ask(review(route("r", badRule)))
        #expect(refused.status == 200 && refused.body.contains(#""allowed":false"#))
        #expect(refused.body.contains("HTTPRoute default/r: spec.rules[0].matches[0]: \(sentence) (invalid-regex)"))
        let told = try ask(review(route("r", lateRule)))
        #expect(told.body.contains(#""allowed":true"#) && told.body.contains(#""warnings":["HTTPRoute default/r: "#))
        #expect(told.body.contains("Service default/later"))

        let noise = try ask("apple")
        #expect(noise.status == 400 && noise.body.hasPrefix("the AdmissionReview cannot be read: "))
        #expect(try ControllerTests.ask("", at: port, believing: bundle, method: "GET").status == 405)
        #expect(try ControllerTests.ask("x", at: port, believing: bundle, path: "/").status == 404)
        let large = String(repeating: " ", count: 9 << 20)
        let largest = (try? ask(large).status) ?? 413
        #expect(largest == 413)
        #expect(try ask(review(route())).status == 200)
        // Who believes in another authority is not served.
        let another = try WebhookIdentity.make(for: [webhookHost], now: time(nil), lifetime: 900)
        #expect(throws: TestFailure.self) {
            try ControllerTests.ask(review(route()), at: port, believing: another.certificate.authority)
        }

        let status = try #require(try controller.status().webhook)
        #expect(status.servingSeconds != nil && status.isConfigured == true && status.problems == [])
        let days = (status.certificateEndsInSeconds ?? 0) / 86400
        #expect(days > 89 && days <= 90)
        #expect(try controller.agentctl("status").contains("\nwebhook           serving for "))
        try controller.end()
        #expect(controller.log.contains("refused HTTPRoute default/r: "))
        #expect(!controller.log.contains("PRIVATE KEY"))
        await server.stop()
    }

    /// As kubectl sees it; and a write is taken when nobody answers.
    @Test func aWriteIsRefusedWithOurSentenceAndWarningsArrive() async throws {
        let server = try await cluster()
        let (controller, port) = try start(server)
        try await until("its authority is told") { server.authorities == 1 }
        try await until("all is known") { try controller.status().ready }
        server.reach("kube-system/heddle-controller", at: Int(port))

        let refused = try server.write(route("bad", badRule))
        #expect(refused.hasPrefix("HTTP/1.1 422 "))
        #expect(
            refused.contains(
                "admission webhook \\u0022validate.heddle.io\\u0022 denied the request: HTTPRoute default/bad: "))
        #expect(server.stored("/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/bad") == nil)
        let told = try server.write(route("late", lateRule))
        #expect(told.hasPrefix("HTTP/1.1 201 ") && told.contains("Warning: 299 - \"HTTPRoute default/late: "))
        let rule = #"{"matches":[{"path":{"value":"/x"}}],"backendRefs":[{"name":"web","port":80}]}"#
        let good = try server.write(route("good", rule))
        #expect(good.hasPrefix("HTTP/1.1 201 ") && !good.contains("Warning:"), "\(good)")
        #expect(server.webhookFailures == [] && server.webhookAnswers == 3)

        try controller.end()
        #expect(try server.write(route("worse", badRule)).hasPrefix("HTTP/1.1 201 "))
        #expect(server.webhookFailures.count == 1)
        await server.stop()
    }

    /// The second replica serves what the first has made, and keeps it in force when that one dies.
    @Test func theOtherReplicaServesAndTakesOver() async throws {
        let server = try await cluster()
        let (first, _) = try start(server, "a")
        try await until("its authority is told") { server.authorities == 1 }
        let (second, port) = try start(server, "b")
        try await until("the second serves") {
            try ask(review(route()), at: port, believing: server.bundle).status == 200
        }
        first.process.signal(SIGKILL)
        _ = try first.process.wait()
        // Somebody applies the chart's again, without a bundle.
        let (bundle, certificate) = (server.bundle, server.kept("tls.crt"))
        server.installConfiguration()
        #expect(server.authorities == 0)
        try await until("the second leads and tells it again") { server.bundle == bundle }
        #expect(server.kept("tls.crt") == certificate)
        #expect(try ask(review(route()), at: port, believing: bundle).status == 200)
        try second.end()
        await server.stop()
    }
}
