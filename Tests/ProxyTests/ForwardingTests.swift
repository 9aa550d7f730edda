/// Messages pass through: heads with their few changes, bodies of every framing, connections kept and ended.
import Glibc
import RouteIR
import Testing
import TestSupport

@testable import Proxy

@Suite struct ForwardingTests {
    @Test func theBackendSeesTheRequestAndWhoSentIt() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let answer = try rig.get("/a?b=c", "X-Odd-Case: v\r\nConnection: x-hop\r\nX-Hop: 1\r\nTE: gzip\r\n")
            #expect(answer.status == 200 && answer.header("x-backend") == "one")
            let seen = try #require(backend.requests.first)
            #expect(seen.head.hasPrefix("GET /a?b=c HTTP/1.1\r\nHost: cart\r\nX-Odd-Case: v\r\n"))
            #expect(seen.header("x-hop") == nil && seen.header("te") == nil && seen.header("connection") == nil)
            #expect(seen.header("x-forwarded-for") == "127.0.0.1" && seen.header("x-forwarded-proto") == "http")
            #expect(seen.header("x-request-id")?.count == 36)
            try eventually("the record") { rig.log.records.count == 1 }
            let record = try #require(rig.log.records.first)
            #expect(record.status == 200 && record.flags == [] && record.upstream == backend.address)
            #expect(record.source?.workload.name == "client" && record.path == "/a?b=c")
        }
    }

    @Test func aConnectionServesManyRequestsOverOneBackendConnection() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            for number in 1...5 {
                client.send("GET /\(number) HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(client.answer()?.text.hasPrefix("GET /\(number) ") == true)
            }
            // Pipelined: answered in their order.
            client.send("GET /6 HTTP/1.1\r\nHost: a\r\n\r\nGET /7 HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.answer()?.text.hasPrefix("GET /6 ") == true)
            #expect(client.answer()?.text.hasPrefix("GET /7 ") == true)
            #expect(backend.connections == 1)
            // A backend that closes while it is idle costs nothing.
            backend.hangUp()
            client.send("GET /8 HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.answer()?.status == 200)
            #expect(backend.connections == 2)
        }
    }

    @Test func bodiesPassInEveryFraming() async throws {
        let backend = try TestBackend("one") { request in
            .reply(200, body: "\(request.body.count) \(request.header("content-length") ?? "-")")
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            #expect(client.answer()?.text == "5 5")
            client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for part in ["3;x=y\r\nab", "c\r", "\n4\r\ndefg\r\n0\r\nX-T: 1\r\n", "\r\n"] { client.send(part) }
            #expect(client.answer()?.text == "7 -")
            let large = String(repeating: "x", count: 3 << 20)
            client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: \(large.utf8.count)\r\n\r\n" + large)
            #expect(client.answer()?.text == "\(3 << 20) \(3 << 20)")
        }
    }

    @Test func answersPassInEveryFraming() async throws {
        let large = String(repeating: "0123456789abcdef", count: 100_000)
        let backend = try TestBackend("one") { request in
            switch request.target {
            case "/chunked": .raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n")
            case "/close": .raw("HTTP/1.1 200 OK\r\n\r\nuntil the end", closes: true)
            case "/empty": .raw("HTTP/1.1 204 No Content\r\n\r\n")
            case "/same": .raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
            case "/early":
                .raw("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            case "/large": .reply(200, body: large)
            default: .reply(200, body: "head")
            }
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            let ask = { (method: String, path: String) in client.send("\(method) \(path) HTTP/1.1\r\nHost: a\r\n\r\n") }
            ask("GET", "/chunked")
            #expect(client.answer()?.text == "abc")
            ask("HEAD", "/head")
            #expect(client.answer(isHead: true)?.header("content-length") == "4")
            ask("GET", "/empty")
            #expect(client.answer()?.status == 204)
            ask("GET", "/same")
            #expect(client.answer()?.status == 304)
            ask("GET", "/early")
            #expect(client.answer()?.status == 103)
            #expect(client.answer()?.status == 200)
            ask("GET", "/large")
            #expect(client.answer()?.text == large)
            ask("GET", "/close")
            let last = client.rest()
            #expect(last.contains("connection: close") && last.hasSuffix("\r\n\r\nuntil the end"))
            // HTTP/1.0 knows no chunks.
            let old = try rig.connect()
            old.send("GET /chunked HTTP/1.0\r\n\r\n")
            let text = old.rest()
            #expect(text.hasSuffix("\r\n\r\nabc") && !text.lowercased().contains("transfer-encoding"))
            #expect(backend.requests.last?.head.hasPrefix("GET /chunked HTTP/1.1\r\n") == true)
        }
    }

    @Test func aBodyWaitsForTheBackendsConsent() async throws {
        let backend = try TestBackend("one") { request in
            .reply(200, body: String(decoding: request.body, as: UTF8.self))
        }
        let consenting = try TestBackend("two") { _ in
            .raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        defer {
            backend.stop()
            consenting.stop()
        }
        try await ProxyRig.with(nil, [upstream("cart", [consenting])]) { rig in
            let client = try rig.connect()
            client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
            #expect(client.answer()?.status == 100)
            #expect(client.answer()?.text == "ok")
            #expect(consenting.requests.first?.header("expect") == "100-continue")
        }
    }

    @Test func websocketsAreTunnels() async throws {
        let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi"
        let backend = try TestBackend("one") { _ in .tunnel(switching) }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
            let answer = try #require(client.answer())
            #expect(answer.status == 101 && answer.header("upgrade") == "websocket")
            #expect(answer.header("connection") == "upgrade")
            #expect(client.bytes(7) == "hiearly")
            client.send("frames")
            #expect(client.bytes(6) == "frames")
            // The end of one side is passed on, and the other side's last words still come.
            client.send("bye")
            client.endOutput()
            #expect(client.rest() == "bye")
            try eventually("the record") { rig.log.records.first?.flags == [] }
            #expect(backend.requests.first?.header("upgrade") == "websocket")
        }
    }

    /// Also as one of several; a backend that took it would answer past every rule.
    @Test(arguments: ["h2c", "x, H2C", "x\r\nUpgrade: h2c"])
    func anOfferOfAnotherHTTPIsIgnored(_ offer: String) async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let answer = try rig.get(
                "/", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: \(offer)\r\nHTTP2-Settings: AA\r\n")
            #expect(answer.status == 200)
            #expect(backend.requests.first?.header("upgrade") == nil)
            #expect(backend.requests.first?.header("http2-settings") == nil)
        }
    }

    @Test(arguments: [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            + "GET /x HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ]) func smugglersGetFourHundredAndTheDoor(_ request: String) async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send(request)
            let all = client.rest()
            #expect(all.hasPrefix("HTTP/1.1 400 ") && all.contains("connection: close"))
            #expect(all.components(of: "HTTP/1.1 ") == 1)
            #expect(!backend.requests.contains { $0.target == "/x" })
            try eventually("the record") { rig.log.records.last?.flags == .downstreamProtocolError }
        }
    }

    @Test func aBackendThatEndsAtAnyByteIsNoticed() async throws {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
        let headLength = whole.utf8.count - 4
        let backend = try TestBackend("one") { request in
            let count = Int(request.target.dropFirst()) ?? 0
            return .raw(String(whole.prefix(count)), closes: true)
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            // Characters, of which CRLF is one.
            for count in 0...whole.count {
                let sent = String(whole.prefix(count)).utf8.count
                let client = try rig.connect()
                client.send("POST /\(count) HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                let answer = client.answer()
                if sent < headLength {
                    #expect(answer?.status == 503, "\(count)")
                } else if count < whole.count {
                    #expect(answer == nil, "\(count)")
                } else {
                    #expect(answer?.text == "body")
                }
            }
            #expect(rig.log.records.first?.flags == .upstreamClosed)
        }
    }

    @Test func aBackendThatSpeaksSomethingElseIsABadGateway() async throws {
        let backend = try TestBackend("one") { _ in .raw("SSH-2.0-OpenSSH_9.2\r\n") }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            #expect(try rig.get("/").status == 502)
            try eventually("the record") { rig.log.records.last?.flags == .upstreamProtocolError }
        }
    }

    @Test func halfClosedClientsGetTheirAnswer() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.endOutput()
            #expect(client.rest().hasPrefix("HTTP/1.1 200 "))
        }
    }

    @Test func slowHeadsAreEnded() async throws {
        var options = EngineOptions()
        options.headTimeout = .milliseconds(10)
        try await ProxyRig.with(nil, [], options: options) { rig in
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost")
            #expect(client.rest().hasPrefix("HTTP/1.1 408 "))
        }
    }
}

extension String {
    /// How often a text occurs.
    func components(of text: String) -> Int {
        var count = 0
        var rest = self[...]
        while let range = rest.firstRange(of: text) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
