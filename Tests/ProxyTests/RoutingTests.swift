/// What rules and filters do to real requests (spec 1.9, 1.10).
import Addressing
import RouteIR
import Testing
import TestSupport

@testable import Proxy

@Suite struct RoutingTests {
    @Test func rulesChooseTheBackend() async throws {
        let one = try TestBackend("one")
        let two = try TestBackend("two")
        defer {
            one.stop()
            two.stop()
        }
        let rules = [
            rule(RouteMatch(path: .exact("/v2")), to: [("two", 1)]),
            rule(RouteMatch(headers: [FieldMatch("version", .exact("two"))]), to: [("two", 1)]),
            rule(RouteMatch(path: .prefix("/api"), query: [FieldMatch("q", .exact("1"))]), to: [("one", 1)]),
        ]
        try await ProxyRig.with(rules, [upstream("one", [one]), upstream("two", [two])]) { rig in
            #expect(try rig.get("/v2").header("x-backend") == "two")
            #expect(try rig.get("/other", "Version: two\r\n").header("x-backend") == "two")
            #expect(try rig.get("/api/x?q=1").header("x-backend") == "one")
            #expect(try rig.get("http://cart/v2").header("x-backend") == "two")
            #expect(try rig.get("/none").status == 404)
            try eventually("the record") { rig.log.records.last?.flags == .noRoute }
        }
    }

    @Test func weightsAreKept() async throws {
        let one = try TestBackend("one")
        let two = try TestBackend("two")
        defer {
            one.stop()
            two.stop()
        }
        let rules = [rule(to: [("one", 9), ("two", 1), ("none", 0)])]
        try await ProxyRig.with(rules, [upstream("one", [one]), upstream("two", [two])]) { rig in
            let client = try rig.connect()
            for _ in 0..<500 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(client.answer()?.status == 200)
            }
            // Five standard deviations of a binomial distribution are 34.
            #expect((16...84).contains(two.requests.count), "\(two.requests.count)")
            #expect(one.requests.count + two.requests.count == 500)
        }
    }

    @Test func whatCannotBeServedHasItsStatus() async throws {
        let rules = [
            rule(RouteMatch(path: .exact("/empty")), to: [("empty", 1)]),
            rule(RouteMatch(path: .exact("/none"))),
            rule(RouteMatch(path: .exact("/zero")), to: [("empty", 0)]),
            rule(RouteMatch(path: .exact("/unresolved")), filters: [.unresolved("no such filter")]),
            rule(RouteMatch(path: .exact("/invalid"))) {
                $0.backends = [WeightedBackend(.invalid("Service shop/gone does not exist"))]
            },
            rule(RouteMatch(path: .exact("/refused")), to: [("refused", 1)]),
            rule(RouteMatch(path: .exact("/grpc")), to: [("empty", 1)]) { $0.kind = .grpc },
        ]
        let gone = try TestBackend("gone")
        gone.stop()
        try await ProxyRig.with(rules, [upstream("empty", [] as [TestBackend]), upstream("refused", [gone])]) { rig in
            for (path, status, flags) in [
                ("/empty", 503, ResponseFlags.noHealthyUpstream), ("/none", 500, []), ("/zero", 500, []),
                ("/unresolved", 500, []), ("/invalid", 500, []), ("/refused", 503, .connectFailure),
            ] {
                let before = rig.log.records.count
                #expect(try rig.get(path).status == status, "\(path)")
                try eventually("the record") { rig.log.records.count > before }
                #expect(rig.log.records.last?.flags == flags, "\(path)")
            }
            let grpc = try rig.get("/grpc")
            #expect(grpc.status == 200 && grpc.header("grpc-status") == "14")
            let unknown = try rig.get("/nothing", "Content-Type: application/grpc+proto\r\n")
            #expect(unknown.status == 200 && unknown.header("grpc-status") == "12")
            #expect(try rig.ask("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").status == 405)
        }
    }

    @Test func headersAreEdited() async throws {
        let backend = try TestBackend("one") { request in
            .reply(200, headers: "x-gone: 1\r\nx-set: old\r\nx-stay: 1\r\n", body: request.head)
        }
        defer { backend.stop() }
        let edit = HeaderEdit(
            set: [HeaderField("X-Set", "new"), HeaderField("Content-Length", "7")], add: [HeaderField("X-Add", "2")],
            remove: ["X-Gone"])
        let rules = [
            rule(filters: [.requestHeaders(edit), .responseHeaders(edit)]) {
                $0.backends = [
                    WeightedBackend(
                        .upstream(upstreamID("one")),
                        filters: [.requestHeaders(HeaderEdit(set: [HeaderField("x-backend-only", "1")]))])
                ]
            }
        ]
        try await ProxyRig.with(rules, [upstream("one", [backend])]) { rig in
            let answer = try rig.get("/", "x-add: 1\r\nx-set: a\r\nX-SET: b\r\nx-gone: c\r\n")
            let seen = try #require(backend.requests.first)
            #expect(seen.header("x-add") == "1,2" && seen.header("x-set") == "new" && seen.header("x-gone") == nil)
            #expect(seen.header("x-backend-only") == "1" && seen.header("content-length") == nil)
            #expect(answer.header("x-set") == "new" && answer.header("x-gone") == nil)
            #expect(answer.header("x-stay") == "1" && answer.header("x-add") == "2")
        }
    }

    @Test func redirectsAndRewrites() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        let rules = [
            rule(
                RouteMatch(path: .prefix("/old")),
                filters: [
                    .redirect(Redirect(hostname: "new.org", path: .replacePrefix("/old", with: "/new"), status: 301))
                ]),
            rule(RouteMatch(path: .exact("/tls")), filters: [.redirect(Redirect(scheme: "https"))]),
            rule(
                RouteMatch(path: .prefix("/api")), to: [("one", 1)],
                filters: [.rewrite(Rewrite(hostname: "inner", path: .replacePrefix("/api", with: "/")))]),
        ]
        try await ProxyRig.with(rules, [upstream("one", [backend])]) { rig in
            let moved = try rig.get("/old/x?y=1")
            #expect(moved.status == 301)
            #expect(moved.header("location") == "http://new.org:\(rig.address.port)/new/x?y=1")
            #expect(try rig.get("/tls").header("location") == "https://cart/tls")
            #expect(try rig.get("/api/list?z=2").status == 200)
            #expect(backend.requests.first?.target == "/list?z=2" && backend.requests.first?.header("host") == "inner")
        }
    }

    @Test func mirrorsGetACopyAndAreNotWaitedFor() async throws {
        let one = try TestBackend("one") { .reply(200, body: String(decoding: $0.body, as: UTF8.self)) }
        let silent = try TestBackend("silent") { _ in .silence }
        defer {
            one.stop()
            silent.stop()
        }
        let rules = [
            rule(to: [("one", 1)], filters: [.mirror(Mirror(.upstream(upstreamID("silent"))))])
        ]
        try await ProxyRig.with(rules, [upstream("one", [one]), upstream("silent", [silent])]) { rig in
            let answer = try rig.ask("POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            #expect(answer.text == "hello")
            try eventually("the copy") { silent.requests.count == 1 }
            #expect(silent.requests.first?.body == Array("hello".utf8) && silent.requests.first?.target == "/m")
            #expect(rig.log.records.count == 1)
        }
    }

    @Test func browsersAreAnswered() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        var cors = CORSPolicy()
        cors.allowOrigins = ["https://shop.example"]
        cors.allowMethods = ["GET", "PUT"]
        cors.allowHeaders = ["x-one"]
        cors.exposeHeaders = ["x-two"]
        cors.allowCredentials = true
        try await ProxyRig.with([rule(to: [("one", 1)], filters: [.cors(cors)])], [upstream("one", [backend])]) { rig in
            let asking = "Access-Control-Request-Method: PUT\r\n"
            let preflight = try rig.ask(
                "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://shop.example\r\n\(asking)\r\n")
            #expect(preflight.status == 204)
            #expect(preflight.header("access-control-allow-origin") == "https://shop.example")
            #expect(preflight.header("access-control-allow-methods") == "GET, PUT")
            #expect(preflight.header("access-control-max-age") == "5")
            let refused = try rig.ask("OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\(asking)\r\n")
            #expect(refused.header("access-control-allow-origin") == nil && backend.requests.isEmpty)
            let answer = try rig.get("/", "Origin: https://shop.example\r\n")
            #expect(answer.header("access-control-allow-credentials") == "true")
            #expect(answer.header("access-control-expose-headers") == "x-two")
            #expect(try rig.get("/", "Origin: https://evil.example\r\n").header("access-control-allow-origin") == nil)
        }
    }

    @Test func cookiesKeepClientsWithTheirEndpoint() async throws {
        let backends = try (1...4).map { try TestBackend("\($0)") }
        defer { for backend in backends { backend.stop() } }
        let sticky = upstream("cart", backends) {
            $0.loadBalancing = .consistentHash([.cookie(name: "sid", path: "/", ttl: .zero)])
        }
        try await ProxyRig.with(nil, [sticky]) { rig in
            let first = try rig.get("/")
            let cookie = try #require(first.header("set-cookie"))
            #expect(cookie.hasPrefix("sid=") && cookie.contains("Path=/") && !cookie.contains("Max-Age"))
            let pair = String(cookie.prefix { $0 != ";" })
            for _ in 0..<10 {
                let again = try rig.get("/", "Cookie: other=1; \(pair)\r\n")
                #expect(again.header("x-backend") == first.header("x-backend") && again.header("set-cookie") == nil)
            }
        }
    }
}
