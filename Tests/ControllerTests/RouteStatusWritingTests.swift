// The program beside an API server: what stands in the status of routes, who of two replicas writes it, and how often.
import AdminAPI
import FakeAPIServer
import FoundationEssentials
import Glibc
import TestSupport
import Testing

@Suite(.serialized) struct RouteStatusWritingTests {
    private func path(_ name: String) -> String {
        "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/\(name)"
    }
    private func cluster() async throws -> FakeAPIServer {
        let server = try await FakeAPIServer()
        server.put(.services, service("web"), service("v2", clusterIP: "10.96.0.2"))
        server.put(.namespaces, FakeObject("", "default", body: "\"spec\":{}"))
        // One that was handed back: a Lease that did not exist is led by only after a while.
        server.store(
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/heddle-controller",
            #"{"metadata":{"name":"heddle-controller"},"spec":{"holderIdentity":"","leaseDurationSeconds":1}}"#)
        return server
    }
    private func status(_ server: FakeAPIServer, _ name: String) -> String { server.stored(path(name)) ?? "" }
    /// `verb path status` of every write to a route.
    private func writes(_ server: FakeAPIServer) -> [String] {
        server.writes.filter { $0.path.contains("/httproutes/") }.map { "\($0.verb) \($0.path) \($0.status)" }
    }

    /// Written once when it comes, once when what it needs comes, and not at all by a restart.
    @Test func aRouteSaysWhatBecameOfIt() async throws {
        let server = try await cluster()
        let foreign = #""parents":[{"controllerName":"example.com/other","parentRef":{"name":"gw"},"conditions":[]}]"#
        server.put(.httproutes, httpRoute("canary", of: "web", to: "v3", status: foreign))
        let controller = try RunningController("a", server)
        try eventually("the missing backend is told") {
            self.status(server, "canary").contains(
                #""reason":"BackendNotFound","status":"False","type":"ResolvedRefs""#)
        }
        let first = status(server, "canary")
        #expect(first.contains(#""controllerName":"heddle.io/mesh-controller""#))
        #expect(first.contains(#""reason":"Accepted","status":"True","type":"Accepted""#))
        #expect(first.contains("Service default/v3 does not exist"))
        #expect(first.contains(#"{"conditions":[],"controllerName":"example.com/other","parentRef":{"name":"gw"}}"#))

        server.put(.services, service("v3", clusterIP: "10.96.0.3"))
        try eventually("the backend is there") {
            self.status(server, "canary").contains(#""reason":"ResolvedRefs","status":"True","type":"ResolvedRefs""#)
        }
        let expected = Array(repeating: "PATCH \(path("canary"))/status 200", count: 2)
        #expect(writes(server) == expected)
        try controller.end()

        let next = try RunningController("b", server)
        try eventually("the next one leads") { try next.status().leader.isLeading }
        // What it had to write it would have begun by the time it wrote this.
        server.put(.httproutes, httpRoute("late", of: "web", to: "v2"))
        try eventually("it writes") { self.status(server, "late").contains("mesh-controller") }
        #expect(writes(server) == expected + ["PATCH \(path("late"))/status 200"])
        try next.end()
        await server.stop()
    }

    /// The parent is gone or no Service any more: our entry goes, and others' stay.
    @Test func whatIsNoneOfOursAnyMoreSaysNothingOfUs() async throws {
        let server = try await cluster()
        server.put(.httproutes, httpRoute("canary", of: "web", to: "v2"))
        let controller = try RunningController("a", server)
        try eventually("it is written") { self.status(server, "canary").contains("mesh-controller") }
        server.delete(.services, "default", "web")
        try eventually("it is taken back") { self.status(server, "canary").contains(#""parents":[]"#) }
        try controller.end()
        await server.stop()
    }

    /// 409, 429, 500, no answer: it is right in the end, and the log of writes shows no write twice.
    @Test func troubleOnlyDelays() async throws {
        let server = try await cluster()
        server.put(.httproutes, httpRoute("first", of: "web", to: "v2"))
        let controller = try RunningController("a", server)
        try eventually("it is written") { self.status(server, "first").contains("mesh-controller") }
        server.failWrites(
            .status(409, reason: "Conflict"),
            .status(429, reason: "TooManyRequests", headers: ["Retry-After": "1"]),
            .status(500, reason: "InternalError"))
        for number in 0..<5 {
            server.put(
                .httproutes,
                httpRoute("r\(number)", of: "web", to: "v2", rule: #""matches":[{"path":{"value":"/\#(number)"}}]"#))
        }
        try eventually("all are written") {
            (0..<5).allSatisfy { self.status(server, "r\($0)").contains("mesh-controller") }
        }
        try eventually("nothing is left") { try controller.status().statusesToWrite == 0 }
        let done = writes(server).filter { $0.hasSuffix(" 200") }
        #expect(done.count == 6 && Set(done).count == 6)
        #expect(try controller.status().writeProblem == nil)
        try controller.end()
        await server.stop()
    }

    /// Two replicas: one writes. It is stopped, and the other one does, at once; it is killed, and the third does.
    @Test func oneOfTwoWritesAndTheOtherTakesOver() async throws {
        let server = try await cluster()
        let first = try RunningController("a", server)
        try eventually("the first leads") { try first.status().leader.isLeading }
        let second = try RunningController("b", server)
        try eventually("the second knows") { try second.status().leader.holder.hasPrefix("a_") }
        server.put(.httproutes, httpRoute("one", of: "web", to: "v2"))
        try eventually("one is written") { self.status(server, "one").contains("mesh-controller") }
        try first.end()
        try eventually("the second leads") { try second.status().leader.isLeading }
        server.put(.httproutes, httpRoute("two", of: "web", to: "v2"))
        try eventually("two is written") { self.status(server, "two").contains("mesh-controller") }

        let third = try RunningController("c", server)
        try eventually("the third knows") { try third.status().leader.holder.hasPrefix("b_") }
        second.process.signal(SIGKILL)
        _ = try second.process.wait()
        server.put(.httproutes, httpRoute("three", of: "web", to: "v2"))
        try eventually("three is written") { self.status(server, "three").contains("mesh-controller") }
        #expect(writes(server) == ["one", "two", "three"].map { "PATCH \(path($0))/status 200" })
        try third.end()
        await server.stop()
    }
}
