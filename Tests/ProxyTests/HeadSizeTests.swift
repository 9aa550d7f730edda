/// Heads that grow on their way, or that HTTP/2 cannot send on: each is passed on or refused with a status, none is
/// dropped.
import HTTP2TestSupport
import RouteIR
import Testing
import TestSupport

@testable import Proxy

@Suite struct HeadSizeTests {
    private func fields(_ count: Int) -> [(String, String)] { (0..<count).map { ("x-h\($0)", "v") } }

    @Test func requestsOfAnyNumberOfFieldsAreAnswered() async throws {
        let backend = try HTTP2TestBackend("one")
        defer { backend.stop() }
        let edit = RouteIR.HeaderEdit(set: (0..<4).map { HeaderField("x-new\($0)", "1") })
        try await ProxyRig.with(
            [rule(to: [("one", 1)], filters: [.requestHeaders(edit)])], [upstream("one", [backend])]
        ) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            for count in 118...128 {
                let answer = client.answer(client.begin("/\(count)", fields(count)))
                // A request line and Host are not fields of the client's; Host makes one of 128.
                #expect(answer?.status == (count <= 127 ? 200 : 431), "\(count)")
            }
            #expect(backend.requests.last?.target == "/127")
            #expect(backend.requests.last?.header("x-h126") == "v" && backend.requests.last?.header("x-new3") == "1")
        }
    }

    @Test func answersOfAnyNumberOfFieldsArePassedOn() async throws {
        let backend = try HTTP2TestBackend("one") { request in
            .reply(200, (0..<(Int(request.target.dropFirst()) ?? 0)).map { ("x-h\($0)", "v") }, body: "x")
        }
        defer { backend.stop() }
        let edit = RouteIR.HeaderEdit(set: (0..<4).map { HeaderField("x-new\($0)", "1") })
        try await ProxyRig.with(
            [rule(to: [("one", 1)], filters: [.responseHeaders(edit)])], [upstream("one", [backend])]
        ) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            for count in 118...129 {
                let answer = client.answer(client.begin("/\(count)"))
                #expect(answer?.status == (count <= 127 ? 200 : 502), "\(count)")
                #expect(answer?.status == 502 || answer?.header("x-new3") == "1")
                #expect(try rig.get("/\(count)").status == answer?.status)
            }
        }
    }

    /// Each peer says what it takes; the default of ours is what HTTP/1 can have.
    @Test func whatThePeerDoesNotTakeIsRefusedAndHarmsNobody() async throws {
        let modern = try HTTP2TestBackend("modern", maxHeaderList: 10_000)
        let old = try TestBackend("old") { request in
            request.target == "/big"
                ? .reply(200, headers: "x-big: \(String(repeating: "{", count: 12_000))\r\n", body: "x")
                : .reply(200, headers: "x-big: \(String(repeating: "a", count: 8_000))\r\n", body: "x")
        }
        defer {
            modern.stop()
            old.stop()
        }
        let rules = [
            rule(RouteMatch(path: .prefix("/modern")), to: [("modern", 1)]), rule(to: [("old", 1)]),
        ]
        try await ProxyRig.with(rules, [upstream("modern", [modern]), upstream("old", [old])]) { rig in
            let one = try rig.connect()
            one.send("GET /modern HTTP/1.1\r\nHost: a\r\nX-First: 1\r\n\r\n")
            #expect(one.answer()?.status == 200)
            let big = String(repeating: "{", count: 12_000)
            #expect(try rig.get("/modern", "X-Big: \(big)\r\nX-Second: 2\r\n").status == 431)
            // The others share a connection with it, and the table of fields that both of its ends keep.
            one.send("GET /modern HTTP/1.1\r\nHost: a\r\nX-First: 1\r\nX-Second: 2\r\n\r\n")
            #expect(one.answer()?.status == 200)
            #expect(modern.connections == 1 && modern.requests.last?.header("x-second") == "2")
            let fitting = String(repeating: "a", count: 8_000)
            #expect(try rig.get("/modern", "X-Big: \(fitting)\r\n").status == 200)
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            client.peer.sendMaxHeaderList(10_000)
            #expect(try client.ask("/big").status == 502)
            #expect(try client.ask("/fits").header("x-big")?.utf8.count == 8_000)
            try eventually("the records") { rig.log.records.map(\.status) == [200, 431, 200, 200, 502, 200] }
        }
    }

    /// A frame is 16 KiB long unless the peer says more; a head may take several (RFC 9113, 4.3).
    @Test func longHeadsPassInSeveralFrames() async throws {
        let long = String(repeating: "\\", count: 40_000)
        let modern = try HTTP2TestBackend("modern") { request in
            .reply(200, body: "\(request.header("x-long")?.utf8.count ?? 0)")
        }
        let old = try TestBackend("old") { _ in .reply(200, headers: "x-long: \(long)\r\n", body: "x") }
        defer {
            modern.stop()
            old.stop()
        }
        let rules = [
            rule(RouteMatch(path: .prefix("/modern")), to: [("modern", 1)]), rule(to: [("old", 1)]),
        ]
        try await ProxyRig.with(rules, [upstream("modern", [modern]), upstream("old", [old])]) { rig in
            #expect(try rig.get("/modern", "X-Long: \(long)\r\n").text == "40000")
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("/").header("x-long") == long)
            #expect(try client.ask("/modern").text == "0")
        }
    }

    @Test func aTrailerThatDoesNotFitIsNoticed() async throws {
        let long = String(repeating: "a", count: 8000)
        let old = try TestBackend("old") { _ in
            .raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-t: \(long)\r\n\r\n")
        }
        let modern = try HTTP2TestBackend("modern", maxHeaderList: 5000)
        defer {
            old.stop()
            modern.stop()
        }
        let rules = [
            rule(RouteMatch(path: .prefix("/modern")), to: [("modern", 1)]), rule(to: [("old", 1)]),
        ]
        try await ProxyRig.with(rules, [upstream("modern", [modern]), upstream("old", [old])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            client.peer.sendMaxHeaderList(5000)
            let answer = try client.ask("/")
            #expect(answer.status == 200 && answer.text == "x" && answer.reset == 2)
            // What the backend takes is known with its first frame.
            #expect(try rig.get("/modern").status == 200)
            let request = "POST /modern HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            #expect(try rig.ask(request + "1\r\nx\r\n0\r\nx-t: \(long)\r\n\r\n").status == 431)
            #expect(try rig.get("/modern").status == 200)
        }
    }

    /// What a client does not take says nothing of the endpoint.
    @Test func whatTheClientDoesNotTakeEjectsNobody() async throws {
        let backend = try TestBackend("one") { _ in
            .reply(200, headers: "x-big: \(String(repeating: "a", count: 4000))\r\n", body: "x")
        }
        defer { backend.stop() }
        let pool = upstream("cart", [backend]) { $0.outlierDetection = UpstreamPolicy.OutlierDetection() }
        try await ProxyRig.with(nil, [pool]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            client.peer.sendMaxHeaderList(1000)
            for _ in 0..<8 { #expect(try client.ask("/").status == 502) }
            #expect(rig.engine.stats.ejections == 0)
            #expect(try rig.get("/").status == 200)
            #expect(rig.log.records.first?.failure == "head_too_long")
        }
    }

    /// The client has got nothing by then, so another try is allowed, and it takes the body as well.
    @Test func anAnswerThatDoesNotFitIsTriedAgainWithTheBody() async throws {
        let backend = try TestBackend("one") { _ in
            .reply(200, headers: "x-big: \(String(repeating: "{", count: 12_000))\r\n", body: "x")
        }
        defer { backend.stop() }
        let retrying = rule(to: [("one", 1)]) { $0.retry = RetryPolicy(attempts: 1, backoff: .milliseconds(1)) }
        try await ProxyRig.with([retrying], [upstream("one", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            client.peer.sendMaxHeaderList(5000)
            #expect(try client.ask("/", method: "PUT", [("content-length", "4")], body: "body").status == 502)
            #expect(backend.requests.map { String(decoding: $0.body, as: UTF8.self) } == ["body", "body"])
        }
    }
}
