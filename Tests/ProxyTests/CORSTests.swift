/// CORS as the Gateway API's filter has it, and what caches and browsers learn from each answer.
import RouteIR
import Testing
import TestSupport

@testable import Proxy

@Suite struct CORSTests {
    private let shop = "Origin: https://shop.example\r\n"
    private let evil = "Origin: https://evil.example\r\n"

    private func policy(_ origins: [String], credentials: Bool = false) -> CORSPolicy {
        var cors = CORSPolicy()
        (cors.allowOrigins, cors.allowCredentials) = (origins, credentials)
        (cors.allowMethods, cors.allowHeaders, cors.exposeHeaders) = (["*"], ["*"], ["*", "x-two"])
        return cors
    }
    private func preflight(_ rig: ProxyRig, _ headers: String) throws -> TestClient.Answer {
        try rig.ask("OPTIONS / HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: PUT\r\n\(headers)\r\n")
    }

    @Test func cachesLearnThatTheOriginDecides() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        let cors = RouteFilter.cors(policy(["https://shop.example"]))
        let rules = [
            rule(RouteMatch(path: .exact("/old")), filters: [cors, .redirect(Redirect(status: 301))]),
            rule(RouteMatch(path: .exact("/none")), filters: [cors]), rule(to: [("one", 1)], filters: [cors]),
        ]
        try await ProxyRig.with(rules, [upstream("one", [backend])]) { rig in
            for path in ["/", "/old", "/none"] {
                for (origin, isAllowed) in [(shop, true), (evil, false), ("", false)] {
                    let answer = try rig.get(path, origin)
                    #expect(answer.header("vary") == "Origin", "\(path) \(origin)")
                    #expect((answer.header("access-control-allow-origin") != nil) == isAllowed, "\(path) \(origin)")
                }
            }
            #expect(try preflight(rig, evil).header("vary") == "Origin")
            rig.configure([rule(to: [("one", 1)], filters: [.cors(policy(["*"]))])], [upstream("one", [backend])])
            let open = try rig.get("/", shop)
            #expect(open.header("vary") == nil && open.header("access-control-allow-origin") == "*")
        }
    }

    @Test func thePolicyDecidesWhateverTheBackendSays() async throws {
        let own = ["Origin: *", "Methods: PUT", "Headers: x", "Credentials: true"]
        let fields = own.map { "Access-Control-Allow-\($0)\r\n" }.joined()
        let backend = try TestBackend("one") { _ in
            .reply(200, headers: fields + "Access-Control-Expose-Headers: x-secret\r\nAccess-Control-Max-Age: 9\r\n")
        }
        defer { backend.stop() }
        try await ProxyRig.with(
            [rule(to: [("one", 1)], filters: [.cors(policy(["https://shop.example"]))])], [upstream("one", [backend])]
        ) { rig in
            for origin in [evil, ""] {
                #expect(!(try rig.get("/", origin).head.lowercased().contains("access-control")))
            }
            let answer = try rig.get("/", shop)
            #expect(answer.head.lowercased().components(of: "access-control-") == 2)
            #expect(answer.header("access-control-allow-origin") == "https://shop.example")
            #expect(answer.header("access-control-expose-headers") == "*, x-two")
        }
    }

    @Test func withCredentialsNothingIsAStar() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        let open = policy(["*"], credentials: true)
        try await ProxyRig.with([rule(to: [("one", 1)], filters: [.cors(open)])], [upstream("one", [backend])]) { rig in
            let asked = try preflight(rig, shop + "Access-Control-Request-Headers: x-a, x-b\r\n")
            #expect(asked.header("access-control-allow-origin") == "https://shop.example")
            #expect(asked.header("access-control-allow-credentials") == "true")
            #expect(asked.header("access-control-allow-methods") == "PUT")
            #expect(asked.header("access-control-allow-headers") == "x-a, x-b")
            #expect(asked.header("access-control-expose-headers") == "x-two")
            #expect(asked.header("vary") == "Origin")
            #expect(try preflight(rig, shop).header("access-control-allow-headers") == nil)
            #expect(!(try rig.get("/", shop).head.contains("*")))
        }
    }
}
