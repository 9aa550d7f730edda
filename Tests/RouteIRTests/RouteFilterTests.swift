/// The pure parts of filters: the tables of spec 1.9.
import RouteIR
import Testing

@Suite struct RouteFilterTests {
    @Test(arguments: [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"), ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"), ("/foo/", "/foo", "/xyz", "/xyz/"), ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/bar", "/foo", "/", "/bar"), ("/foo/", "/foo", "", "/"), ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"), ("/foo", "/foo", "/", "/"), ("/bar", "/", "/xyz", "/xyz/bar"),
        ("*", "/", "/xyz", "*"),
    ])
    func prefixReplacement(path: String, match: String, replacement: String, result: String) {
        let edit = PathEdit.replacePrefix(match, with: replacement)
        #expect(String(decoding: edit.applied(to: Array(path.utf8)), as: UTF8.self) == result)
    }

    private func location(_ redirect: Redirect, port: UInt16 = 80, path: String = "/a", query: String? = nil) -> String
    {
        String(
            decoding: redirect.location(
                scheme: "http", host: "echo", port: port, path: Array(path.utf8), query: query.map { Array($0.utf8) }),
            as: UTF8.self)
    }

    @Test func redirectPorts() {
        #expect(location(Redirect(hostname: "example.org")) == "http://example.org/a")
        #expect(location(Redirect(hostname: "example.org"), port: 8080) == "http://example.org:8080/a")
        #expect(location(Redirect(scheme: "https")) == "https://echo/a")
        #expect(location(Redirect(scheme: "https"), port: 8080) == "https://echo/a")
        #expect(location(Redirect(scheme: "https", port: 8443)) == "https://echo:8443/a")
        #expect(location(Redirect(port: 8083)) == "http://echo:8083/a")
        #expect(location(Redirect(scheme: "http", port: 443), port: 8080) == "http://echo:443/a")
        #expect(location(Redirect(path: .full("/x")), query: "q=1") == "http://echo/x?q=1")
        #expect(location(Redirect(scheme: "https"), path: "*") == "https://echo/")
    }

    @Test func corsOrigins() {
        var policy = CORSPolicy()
        policy.allowOrigins = ["https://one.example", "https://*.two.example"]
        for origin in ["https://one.example", "https://a.two.example", "https://a.b.two.example"] {
            #expect(policy.allows(origin: origin))
        }
        for origin in ["http://one.example", "https://two.example", "https://.two.example", "http://a.two.example"] {
            #expect(!policy.allows(origin: origin))
        }
        policy.allowOrigins = ["*"]
        #expect(policy.allows(origin: "null"))
    }
}
