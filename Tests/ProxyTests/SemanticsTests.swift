/// What HTTP asks of a proxy between two peers: versions, hosts, expectations, upgrades, trailers, its own answers.
import Addressing
import HTTP2TestSupport
import RouteIR
import Synchronization
import Testing
import TestSupport

@testable import Proxy

/// A backend that keeps every byte it gets, and answers when a request's last chunk or its head has come.
private final class RecordingBackend: Sendable {
    private let listener: TestListener
    private let bytes = Mutex<[UInt8]>([])
    var seen: String { String(decoding: bytes.withLock { $0 }, as: UTF8.self) }
    var upstream: Upstream {
        Upstream(id: upstreamID("cart"), endpoints: [Endpoint(listener.address)])
    }

    /// Answers when it has got all, up to the trailer's end; `early`: when it has got the head.
    init(_ answer: String, early: Bool = false) throws {
        listener = try TestListener(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        try listener.start { descriptor, _ in
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {
                self.bytes.withLock { $0 = buffer }
                let text = String(decoding: buffer, as: UTF8.self)
                // A field may end in 0, as one in sixteen request IDs do; the last chunk is a line of its own.
                if text.hasSuffix("\r\n\r\n"), early || text.contains("\r\n0\r\n") { deliver(descriptor, answer) }
            }
        }
    }
    func stop() { listener.stop() }
}

@Suite struct SemanticsTests {
    @Test func everyAnswerHasTheProxysVersion() async throws {
        let backend = try TestBackend("one") { _ in
            .raw("HTTP/1.0 200 Fine\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi")
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            for _ in 0..<2 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                let answer = client.answer()
                #expect(answer?.head.hasPrefix("HTTP/1.1 200 Fine\r\n") == true && answer?.text == "hi")
            }
            #expect(backend.connections == 1)
        }
    }

    @Test func reasonsAreTheRegisteredOnesOrNone() async throws {
        let backend = try HTTP2TestBackend("two") { .reply(Int($0.target.dropFirst()) ?? 0, body: "") }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            for (status, reason) in [(200, "OK"), (403, "Forbidden"), (429, "Too Many Requests"), (299, "")] {
                let head = try rig.get("/\(status)").head
                #expect(head.hasPrefix("HTTP/1.1 \(status) \(reason)\r\n"))
            }
        }
    }

    /// RFC 9112, 3.2.2: an absolute target says whom the request is for, and takes the place of what Host says.
    /// RFC 9113, 8.3.1: there the two must agree; the scheme's own port is the same as none.
    @Test func oneHostIsAskedWhateverSaysIt() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            for (target, host) in [
                ("http://web:80/x", "web"), ("http://web/x", "WEB:80"), ("https://web/x", "web:443"),
                ("http://[::1]:80/x", "[::1]"), ("http://web/x", "other"), ("http://web/x", "web:81"),
            ] {
                let answer = try rig.ask("GET \(target) HTTP/1.1\r\nHost: \(host)\r\n\r\n")
                #expect(answer.status == 200, "\(target) \(host)")
                let seen = answer.text.lowercased().split(separator: "\r\n").filter { $0.hasPrefix("host:") }
                #expect(seen == ["host: \(target.split(separator: "/")[1])"], "\(target) \(host)")
            }
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("/", [("host", "cart:80")]).status == 200)
            #expect(try client.ask("/", [("host", "cart:81")]).status == 400)
        }
    }

    /// Whatever form the target came in, in which there may be no Host that a filter would replace.
    @Test func aRouteNamesTheOneHost() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        let edit = HeaderEdit(set: [HeaderField("Host", "b")])
        let filters: [(name: String, filters: [RouteFilter])] = [
            ("b", [.requestHeaders(edit)]), ("c", [.requestHeaders(edit), .rewrite(Rewrite(hostname: "c"))]),
        ]
        for (name, filters) in filters {
            let rules = [rule(to: [("cart", 1)], filters: filters)]
            try await ProxyRig.with(rules, [upstream("cart", [backend])]) { rig in
                for request in ["/x HTTP/1.1\r\nHost: a\r\n", "http://a/x HTTP/1.1\r\nHost: a\r\n", "/x HTTP/1.0\r\n"] {
                    let answer = try rig.ask("GET \(request)\r\n")
                    let seen = answer.text.lowercased().split(separator: "\r\n").filter { $0.hasPrefix("host:") }
                    #expect(seen == ["host: \(name)"], "\(request)")
                }
            }
        }
    }

    @Test func optionsOfTheServerMeetsTheRuleForAll() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        let rewrite = Rewrite(path: .replacePrefix("/", with: "/x"))
        try await ProxyRig.with(
            [rule(to: [("cart", 1)], filters: [.rewrite(rewrite)])], [upstream("cart", [backend])]
        ) { rig in
            #expect(try rig.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").text.hasPrefix("OPTIONS * HTTP/1.1\r\n"))
            // What a proxy is asked about a server without a path (RFC 9112, 3.2.4).
            rig.configure([rule(to: [("cart", 1)])], [upstream("cart", [backend])])
            let absolute = try rig.ask("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(absolute.text.hasPrefix("OPTIONS * HTTP/1.1\r\n"))
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("*", method: "OPTIONS").text.hasPrefix("OPTIONS * HTTP/1.1\r\n"))
        }
    }

    @Test func redirectsNameAHost() async throws {
        let redirect = rule(filters: [.redirect(Redirect(path: .full("/new")))])
        try await ProxyRig.with([redirect], []) { rig in
            let answer = try rig.ask("GET /a HTTP/1.0\r\n\r\n")
            #expect(answer.header("location")?.hasPrefix("http://\(serviceID.hostname):") == true)
            #expect(answer.header("location")?.hasSuffix("/new") == true)
        }
    }

    @Test func headSaysTheLengthOfGet() async throws {
        try await ProxyRig.with([rule(RouteMatch(path: .exact("/none")))], []) { rig in
            for path in ["/missing", "/none"] {
                let get = try rig.get(path)
                #expect(get.header("content-length") == "\(get.body.count)" && !get.body.isEmpty)
                let head = try rig.ask("HEAD \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(head.header("content-length") == get.header("content-length"))
                let client = try rig.connectHTTP2()
                defer { client.hangUp() }
                let modern = try client.ask(path, method: "HEAD")
                #expect(modern.header("content-length") == get.header("content-length") && modern.body.isEmpty)
            }
        }
    }

    // MARK: Promises

    @Test func backendsOfHTTP2AreAskedForTheirConsent() async throws {
        let backend = try HTTP2TestBackend("two")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            #expect(client.answer()?.status == 100)
            client.send("hello")
            #expect(client.answer()?.text == "/ 5")
            let modern = try rig.connectHTTP2()
            defer { modern.hangUp() }
            let stream = modern.begin("/m", method: "POST", [("expect", "100-continue")], end: false)
            #expect(modern.partial(stream)?.status == 100)
            modern.peer.sendData(stream, Array("hello".utf8), end: true)
            #expect(modern.answer(stream)?.text == "/m 5")
        }
    }

    private static let switching = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

    /// The same time for a request that is not answered tells when the tunnel's would be over.
    @Test func aTunnelOutlivesTheTimeOfItsRequest() async throws {
        let backend = try TestBackend("one") { $0.target == "/silent" ? .silence : .tunnel(Self.switching) }
        defer { backend.stop() }
        let timed = rule(to: [("cart", 1)]) { $0.timeouts.request = .milliseconds(100) }
        try await ProxyRig.with([timed], [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            #expect(client.answer()?.status == 101)
            #expect(try rig.get("/silent").status == 504)
            client.send("still here")
            #expect(client.bytes(10) == "still here")
        }
    }

    @Test(arguments: ["Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"])
    func anUpgradeMayHaveABody(_ body: String) async throws {
        let backend = try TestBackend("one") {
            $0.header("upgrade") == "tcp" ? .tunnel(Self.switching) : .reply(200, body: "no offer")
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" + body + "stdin")
            #expect(client.answer()?.status == 101)
            #expect(client.bytes(5) == "stdin")
            #expect(backend.requests.first?.body == Array("{}".utf8))
        }
    }

    @Test func anUpgradeBeforeTheRequestsEndIsRefused() async throws {
        let backend = try RecordingBackend(Self.switching, early: true)
        defer { backend.stop() }
        try await ProxyRig.with(nil, [backend.upstream]) { rig in
            let client = try rig.connect()
            let head = "POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 9\r\n"
            client.send(head + "\r\n")
            #expect(client.answer()?.status == 502)
        }
    }

    // MARK: Trailers

    private static let trailer =
        "X-Forwarded-For: 6.6.6.6\r\nx-request-id: 1\r\nX-Sum: 7\r\nForwarded: for=x\r\nx-role: admin\r\n"
        + "X-Envoy-Peer: a\r\nx-gone: 1\r\ntraceparent: 00\r\n"

    private var editing: RouteRule {
        let edit = RouteIR.HeaderEdit(set: [HeaderField("X-Role", "guest")], remove: ["x-gone"])
        return rule(to: [("cart", 1)], filters: [.requestHeaders(edit), .responseHeaders(edit)])
    }

    @Test func trailersVouchForNothing() async throws {
        let answer =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAccess-Control-Allow-Origin: *\r\n"
        let backend = try RecordingBackend(answer + Self.trailer + "\r\n")
        defer { backend.stop() }
        try await ProxyRig.with([editing], [backend.upstream]) { rig in
            let client = try rig.connect()
            let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            // In pieces: what is held back comes once the trailer is whole.
            for piece in [head + "1\r\nx\r\n0\r\nX-For", "warded-For: 6.6.6.6\r\n", Self.trailer + "\r\n"] {
                client.send(piece)
            }
            #expect(client.rest().hasSuffix("\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n"))
            #expect(backend.seen.hasSuffix("\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n"), "\(backend.seen)")
            #expect(!backend.seen.contains("6.6.6.6") && !backend.seen.contains("admin"))
        }
    }

    @Test func trailersOfHTTP2VouchForNothing() async throws {
        let trailers = [
            ("x-forwarded-for", "6.6.6.6"), ("x-sum", "7"), ("x-role", "admin"), ("forwarded", "for=x"),
            ("x-gone", "1"),
        ]
        let modern = try HTTP2TestBackend("two") { _ in .reply(200, body: "x", trailers: trailers) }
        defer { modern.stop() }
        try await ProxyRig.with([editing], [upstream("cart", [modern])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            let answer = try client.ask("/", method: "POST", body: "x", trailers: trailers)
            #expect(answer.trailers.map(\.0) == ["x-sum"])
            #expect(modern.requests.last?.trailers.map(\.0) == ["x-sum"])
            // From HTTP/1 to HTTP/2, and back.
            let old = try rig.connect()
            old.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
            old.send("1\r\nx\r\n0\r\n" + Self.trailer + "\r\n")
            #expect(old.rest().hasSuffix("1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n"))
            #expect(modern.requests.last?.trailers.map(\.0) == ["x-sum"])
        }
        let backend = try RecordingBackend("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        defer { backend.stop() }
        try await ProxyRig.with([editing], [backend.upstream]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("/", method: "POST", body: "x", trailers: trailers).status == 200)
            #expect(backend.seen.hasSuffix("1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n"))
        }
    }
}
