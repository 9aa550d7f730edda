/// HTTP/2 by prior knowledge, on either side of the proxy or on both.
import Addressing
import HTTP2TestSupport
import RouteIR
import Testing
import TestSupport

@testable import Proxy

func upstream(
    _ name: String, _ backends: [HTTP2TestBackend], _ change: (inout UpstreamPolicy) -> Void = { _ in }
) -> Upstream {
    var upstream = Upstream(id: upstreamID(name), wire: .h2c, endpoints: backends.map { Endpoint($0.address) })
    change(&upstream.policy)
    return upstream
}

extension ProxyRig {
    func connectHTTP2() throws -> HTTP2TestClient { try HTTP2TestClient(address) }
}

@Suite struct HTTP2Tests {
    @Test func clientsOfHTTP2ReachBackendsOfHTTP1() async throws {
        let backend = try TestBackend("one") { request in
            .reply(
                200, headers: "X-Backend: one\r\nconnection: close\r\n",
                body: request.head + "|" + String(decoding: request.body, as: UTF8.self))
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            let answer = try client.ask("/a?b=c", [("x-one", "1"), ("cookie", "a=1"), ("cookie", "b=2")])
            #expect(answer.status == 200 && answer.header("x-backend") == "one" && answer.header("connection") == nil)
            let seen = try #require(backend.requests.first)
            #expect(seen.head.hasPrefix("GET /a?b=c HTTP/1.1\r\n"))
            #expect(seen.header("host") == "cart" && seen.header("x-one") == "1")
            #expect(seen.header("cookie") == "a=1; b=2" && seen.header("x-forwarded-for") == "127.0.0.1")
            // With a length, without one, and with trailers; to HTTP/1 the latter two go in chunks.
            let long = try client.ask("/p", method: "POST", [("content-length", "5")], body: "hello")
            #expect(long.text.hasSuffix("|hello"))
            #expect(backend.requests.last?.header("content-length") == "5")
            let open = try client.ask("/p", method: "POST", body: "hello")
            #expect(open.text.hasSuffix("|hello"))
            #expect(backend.requests.last?.header("transfer-encoding") == "chunked")
            #expect(try client.ask("/p", method: "POST", body: "hi", trailers: [("x-end", "1")]).text.hasSuffix("|hi"))
            let head = try client.ask("/h", method: "HEAD")
            #expect(head.status == 200 && head.body.isEmpty)
            try eventually("the records") { rig.log.records.count == 5 }
            #expect(rig.log.records.allSatisfy { $0.isHTTP2 && $0.flags == [] })
        }
    }

    @Test func clientsOfHTTP1ReachBackendsOfHTTP2() async throws {
        let backend = try HTTP2TestBackend("two") { request in
            .reply(
                200, [("x-backend", "two")], body: request.header(":method") == "HEAD" ? nil : "\(request.body.count)",
                trailers: request.target == "/trailers" ? [("x-end", "1")] : [])
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            let upgrade = "Upgrade: websocket\r\nConnection: upgrade\r\n"
            client.send("GET /x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\(upgrade)\r\n")
            let first = client.answer()
            #expect(first?.text == "0" && first?.header("transfer-encoding") == "chunked")
            let seen = try #require(backend.requests.first)
            #expect(seen.header(":authority") == "a" && seen.header(":scheme") == "http" && seen.target == "/x")
            #expect(seen.header("te") == "trailers" && seen.header("upgrade") == nil && seen.header("host") == nil)
            client.send("POST /y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send("3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n")
            #expect(client.answer()?.text == "7")
            #expect(backend.requests.last?.trailers.first.map { "\($0)" } == "(\"x-sum\", \"7\")")
            client.send("POST /z HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n1234")
            #expect(client.answer()?.text == "4")
            client.send("HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.answer(isHead: true)?.status == 200)
            client.send("GET /trailers HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.answer()?.text == "0")
            // Once more over what must still be one connection, whatever came before.
            client.send("GET /last HTTP/1.0\r\nHost: a\r\n\r\n")
            let last = try #require(client.answer())
            #expect(last.header("transfer-encoding") == nil && client.rest() == "0")
            #expect(backend.connections == 1)
        }
    }

    @Test func eachRequestOfAConnectionIsBalanced() async throws {
        let backends = try (1...3).map { try HTTP2TestBackend("\($0)") }
        defer { for backend in backends { backend.stop() } }
        try await ProxyRig.with(nil, [upstream("cart", backends) { $0.loadBalancing = .roundRobin }]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            let streams = (0..<60).map { client.begin("/\($0)") }
            for stream in streams { #expect(client.answer(stream)?.status == 200) }
            #expect(backends.map(\.requests.count) == [20, 20, 20])
            #expect(backends.allSatisfy { $0.connections == 1 })
        }
    }

    @Test func routesApply() async throws {
        let one = try HTTP2TestBackend("one")
        let two = try TestBackend("two")
        defer {
            one.stop()
            two.stop()
        }
        let edit = RouteIR.HeaderEdit(set: [HeaderField("x-set", "new")], add: [], remove: ["x-gone"])
        let rules = [
            rule(RouteMatch(headers: [FieldMatch("version", .exact("two"))]), to: [("two", 1)]),
            rule(
                RouteMatch(path: .prefix("/api")), to: [("one", 1)],
                filters: [
                    .requestHeaders(edit), .responseHeaders(edit),
                    .rewrite(Rewrite(hostname: "inner", path: .replacePrefix("/api", with: "/"))),
                ]),
            rule(RouteMatch(path: .exact("/old")), filters: [.redirect(Redirect(scheme: "https"))]),
        ]
        try await ProxyRig.with(rules, [upstream("one", [one]), upstream("two", [two])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("/any", [("version", "two")]).header("x-backend") == "two")
            let answer = try client.ask("/api/list?z=1", [("x-gone", "1")])
            #expect(answer.header("x-backend") == "one" && answer.header("x-set") == "new")
            let seen = try #require(one.requests.first)
            #expect(seen.target == "/list?z=1" && seen.header(":authority") == "inner")
            #expect(seen.header("x-set") == "new" && seen.header("x-gone") == nil)
            #expect(try client.ask("/old").header("location") == "https://cart/old")
            #expect(try client.ask("/nothing").status == 404)
        }
    }

    @Test func whatAnEndpointRefusedIsTriedElsewhere() async throws {
        let refusing = try HTTP2TestBackend("refusing") { _ in .reset(7) }
        let leaving = try HTTP2TestBackend("leaving") { _ in .goAway }
        let serving = try HTTP2TestBackend("serving")
        defer { for backend in [refusing, leaving, serving] { backend.stop() } }
        try await ProxyRig.with(
            nil, [upstream("cart", [refusing, leaving, serving]) { $0.loadBalancing = .roundRobin }]
        ) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            // POST: what was not looked at may be sent again whatever it is.
            for _ in 0..<6 {
                let answer = try client.ask("/", method: "POST", body: "x")
                #expect(answer.status == 200 && answer.header("x-backend") == "serving", "\(answer.headers)")
            }
            #expect(refusing.requests.count + leaving.requests.count >= 6)
        }
    }

    @Test func anEndpointThatBreaksOffIsReported() async throws {
        let breaking = try HTTP2TestBackend("breaking") { _ in .reset(2) }
        defer { breaking.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [breaking])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("/", method: "POST", body: "x").status == 503)
            try eventually("the record") { rig.log.records.last?.flags == .upstreamClosed }
        }
    }

    @Test func drainingLosesNothing() async throws {
        let gate = LoopGate(1)
        let backend = try HTTP2TestBackend("one") { _ in
            gate.wait()
            return .reply(200, body: "late")
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            let stream = client.begin("/")
            try eventually("the request") { backend.requests.count == 1 }
            rig.engine.drain()
            gate.signal()
            #expect(client.answer(stream)?.text == "late")
            client.readToEnd()
            #expect(client.goAway == 0)
            client.hangUp()
            try eventually("the end") { rig.engine.connectionCount == 0 }
        }
    }
}
