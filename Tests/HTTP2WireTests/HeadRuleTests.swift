/// RFC 9113, 8, and RFC 8441: which heads are malformed, and what the machine makes of those that are not.
import HTTP2Wire
import Testing

@Suite struct HeadRuleTests {
    private static func with(_ changes: (String, String?)...) -> [(String, String)] {
        var list = get
        for (name, value) in changes {
            list.removeAll { $0.0 == name }
            if let value { list.append((name, value)) }
        }
        return list
    }

    @Test(
        "RFC 9113, 8.2 and 8.3: malformed requests",
        arguments: [
            ("8.2: a capital", get + [("X-A", "b")], "bad_field_name"),
            ("8.2.1: no name", get + [("", "b")], "bad_field_name"),
            ("8.2.1: a blank in a name", get + [("x a", "b")], "bad_field_name"),
            ("8.2.1: a colon in a name", get + [("x:a", "b")], "bad_field_name"),
            ("8.2.1: a line feed in a value", get + [("x", "a\nb")], "bad_field_value"),
            ("8.2.1: a zero byte in a value", get + [("x", "a\0b")], "bad_field_value"),
            ("8.2.1: a blank before a value", get + [("x", " a")], "bad_field_value"),
            ("8.2.1: a tab behind a value", get + [("x", "a\t")], "bad_field_value"),
            ("8.2.1: a carriage return in a path", with((":path", "/\r")), "bad_field_value"),
            ("8.2.2: connection", get + [("connection", "close")], "connection_field"),
            ("8.2.2: keep-alive", get + [("keep-alive", "1")], "connection_field"),
            ("8.2.2: proxy-connection", get + [("proxy-connection", "1")], "connection_field"),
            ("8.2.2: transfer-encoding", get + [("transfer-encoding", "chunked")], "connection_field"),
            ("8.2.2: upgrade", get + [("upgrade", "h2c")], "connection_field"),
            ("8.2.2: te", get + [("te", "trailers, deflate")], "connection_field"),
            ("8.3: unknown", get + [(":x", "1")], "bad_field_name"),
            ("8.3: of a response", get + [(":status", "200")], "bad_pseudo_field"),
            ("8.3: behind a field", [("x", "y")] + get, "bad_pseudo_field"),
            ("8.3: twice", get + [(":path", "/")], "bad_pseudo_field"),
            ("8.3.1: no method", with((":method", nil)), "bad_method"),
            ("8.3.1: no scheme", with((":scheme", nil)), "bad_scheme"),
            ("8.3.1: no path", with((":path", nil)), "bad_path"),
            ("8.3.1: empty path", with((":path", "")), "bad_path"),
            ("8.3.1: a path without a slash", with((":path", "a")), "bad_path"),
            ("8.3.1: * of GET", with((":path", "*")), "bad_path"),
            ("8.3.1: a fragment", with((":path", "/#a")), "bad_path"),
            ("8.3.1: a blank in a path", with((":path", "/a b")), "bad_path"),
            ("8.3.1: a method that is no token", with((":method", "G T")), "bad_method"),
            ("8.3.1: user information", with((":authority", "u@a")), "bad_authority"),
            ("8.3.1: an empty authority", with((":authority", "")), "bad_authority"),
            ("8.3.1: another host", get + [("host", "b")], "bad_authority"),
            ("8.3.1: two hosts", with((":authority", nil)) + [("host", "a"), ("host", "a")], "bad_authority"),
            ("8.1.1: a length that is none", get + [("content-length", "+1")], "bad_content_length"),
            ("8.1.1: two lengths", post + [("content-length", "1"), ("content-length", "2")], "bad_content_length"),
            (
                "RFC 9110, 8.6: one length twice", post + [("content-length", "0"), ("content-length", "0")],
                "bad_content_length"
            ),
            (
                "RFC 9110, 9.3.6: CONNECT with a length",
                [(":method", "CONNECT"), (":authority", "a:443"), ("content-length", "5")], "bad_content_length"
            ),
            ("8.1.1: a length and no body", post + [("content-length", "1")], "content_length_and_data"),
            ("8.5: CONNECT with a path", with((":method", "CONNECT"), (":scheme", nil)), "bad_pseudo_field"),
            ("8.5: CONNECT to nobody", [(":method", "CONNECT")], "bad_authority"),
        ] as [(String, [(String, String)], String)])
    func malformedRequests(_ name: String, _ list: [(String, String)], _ kind: String) throws {
        let server = Endpoint.started(.server)
        #expect(server.receive(headers(1, list)) == ["malformed 1 \(kind)"])
        // An answer may be given, and the stream is over either way.
        try server.respond(1, [(":status", "400")])
        #expect(server.sent() == ["HEADERS 1 end"] && server.streamCount == 0)
        #expect(server.receive(headers(3, get)) == ["head 3 last"])
    }

    @Test("RFC 9113, 8.1.1: what follows a malformed request is nobody's") func theRestIsDropped() throws {
        let server = Endpoint.started(.server)
        #expect(server.receive(headers(1, end: false, get + [("te", "x")])) == ["malformed 1 connection_field"])
        #expect(server.receive(data(1, "x") + data(1, "y", end: true)) == [])
        try server.respond(1, [(":status", "400")])
        #expect(server.streamCount == 0)
        _ = server.receive(headers(3, end: false, get + [("te", "x")]))
        try server.respond(3, [(":status", "400")])
        server.machine.reset(3, .protocolError)
        #expect(server.sent().suffix(2) == ["HEADERS 3 end", "RST_STREAM 3 1"] && server.receive(data(3, "x")) == [])
    }

    @Test(
        "RFC 9113, 8.3 to 8.5: requests that are well formed",
        arguments: [
            get + [("host", "a"), ("te", "trailers")], with((":path", "*"), (":method", "OPTIONS")),
            with((":authority", "a:80")) + [("host", "A")], with((":authority", nil)) + [("host", "a")],
            with((":authority", "[::1]:8080")), get + [("cookie", "a=b"), ("cookie", "c=d")],
            [(":method", "CONNECT"), (":authority", "a:443")],
            get + [("content-length", "0")],
            get + [("x", "é"), ("y", "a\tb"), ("z", "")],
        ]) func wellFormedRequests(_ list: [(String, String)])
    {
        let server = Endpoint.started(.server)
        let pseudo = list.filter { $0.0.hasPrefix(":") }
        let rest = list.filter { !$0.0.hasPrefix(":") }
        #expect(server.receive(headers(1, pseudo + rest)) == ["head 1 last"])
        #expect(server.lastFields == (pseudo + rest).map { TextField($0.0, $0.1, neverIndexed: $0.0 == "cookie") })
    }

    @Test("RFC 8441: extended CONNECT is a tunnel, if it was offered") func extendedConnect() throws {
        let request = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"),
            (":authority", "a"),
        ]
        #expect(
            Endpoint.started(.server).receive(headers(1, end: false, request))
                == ["malformed 1 extended_connect_not_offered"])
        var limits = HTTP2Limits()
        limits.offersExtendedConnect = true
        let server = Endpoint.started(.server, limits: limits)
        let client = Endpoint.started(.client)
        #expect(throws: SendRefusal.extendedConnectNotOffered) { try client.open(request, isLast: false) }
        #expect(client.receive(settings((8, 1))) == ["settings"])
        let stream = try client.open(request, isLast: false)
        #expect(server.receive(Array(client.takeOutput().dropFirst(9))) == ["head 1"])
        try server.respond(stream, isLast: false)
        #expect(client.receive(server.takeOutput()) == ["head 1 200"])
        _ = try client.send(stream, Array("ping".utf8))
        #expect(server.receive(client.takeOutput()) == ["data 1 4"])
        // 8.5: nothing but DATA.
        #expect(server.receive(headers(1, [("a", "b")])) == ["failed 1 1 unexpected_frame"])
        for broken in [
            request.filter { $0.0 != ":path" }, request.filter { $0.0 != ":authority" },
            request.map { ($0.0, $0.0 == ":method" ? "GET" : $0.1) },
            // What an HTTP/1 backend would read as another upgrade, or as a body in front of the tunnel.
            request.map { ($0.0, $0.0 == ":protocol" ? "websocket, h2c" : $0.1) },
            request + [("content-length", "3")],
        ] {
            let server = Endpoint.started(.server, limits: limits)
            #expect(server.receive(headers(1, broken)).first?.hasPrefix("malformed") == true)
        }
    }

    @Test(
        "RFC 9113, 8.1 and 8.3.2: malformed responses",
        arguments: [
            (headers(1, [("x", "y")]), "bad_status"), (headers(1, [(":status", "20")]), "bad_status"),
            (headers(1, [(":status", "2x0")]), "bad_status"), (headers(1, [(":status", "099")]), "bad_status"),
            (headers(1, [(":status", "101")]), "bad_status"), (headers(1, [(":status", "103")]), "bad_status"),
            (headers(1, [(":status", "200"), (":status", "200")]), "bad_pseudo_field"),
            (headers(1, [(":status", "200"), (":path", "/")]), "bad_pseudo_field"),
            (headers(1, [(":status", "200"), ("connection", "close")]), "connection_field"),
            (headers(1, [(":status", "200"), ("content-length", "5")]), "content_length_and_data"),
            (data(1, "x"), "data_before_head"),
            (headers(1, end: false, [(":status", "200")]) + headers(1, end: false, [("a", "b")]), "bad_trailers"),
            (
                headers(1, end: false, [(":status", "204"), ("content-length", "1")]) + data(1, "x"),
                "content_length_and_data"
            ),
        ]) func malformedResponses(_ bytes: [UInt8], _ kind: String) throws
    {
        let client = Endpoint.started(.client)
        _ = try client.open()
        #expect(client.receive(bytes).last == "failed 1 1 \(kind)")
        #expect(client.sent() == ["HEADERS 1 end", "RST_STREAM 1 1"] && client.streamCount == 0)
    }

    @Test("RFC 9113, 8.1: interim responses, body and trailers") func wholeResponses() throws {
        let client = Endpoint.started(.client)
        let stream = try client.open()
        let bytes =
            headers(1, end: false, [(":status", "100")]) + headers(1, end: false, [(":status", "103"), ("link", "a")])
            + headers(1, end: false, [(":status", "200"), ("content-length", "5")]) + data(1, "hello")
            + headers(1, [("grpc-status", "0")])
        #expect(
            client.receive(bytes) == ["interim 1 100", "interim 1 103", "head 1 200", "data 1 5", "trailers 1"])
        #expect(client.lastFields == [TextField("grpc-status", "0")] && client.streamCount == 0)
        #expect(stream == 1 && client.received[1] == Array("hello".utf8))
        // A response to HEAD, and 304, tell lengths of what they do not carry.
        _ = try client.open([(":method", "HEAD")] + get.dropFirst())
        #expect(client.receive(headers(3, [(":status", "200"), ("content-length", "5")])) == ["head 3 200 last"])
        _ = try client.open()
        #expect(client.receive(headers(5, [(":status", "304"), ("content-length", "5")])) == ["head 5 304 last"])
        // CONNECT that is refused has a body like others; one that stands has none.
        let connect = [(":method", "CONNECT"), (":authority", "a:1")]
        _ = try client.open(connect, isLast: false)
        #expect(
            client.receive(
                headers(7, end: false, [(":status", "502"), ("content-length", "1")]) + data(7, "x", end: true))
                == ["head 7 502", "data 7 1 last"])
        _ = try client.open(connect, isLast: false)
        #expect(
            client.receive(headers(9, end: false, [(":status", "200")]) + headers(9, [("a", "b")]))
                == ["head 9 200", "failed 9 1 unexpected_frame"])
    }

    @Test("RFC 9113, 10.5.1: a list that is too long ends its stream only") func longLists() throws {
        var limits = HTTP2Limits()
        limits.headerList = 200
        let server = Endpoint.started(.server, limits: limits)
        let long = get + [("x", String(repeating: "y", count: 200))]
        #expect(server.receive(headers(1, long)) == ["malformed 1 head_too_long"])
        try server.respond(1, [(":status", "431")])
        #expect(server.receive(headers(3, get)) == ["head 3 last"])
        let client = Endpoint.started(.client, limits: limits)
        _ = try client.open()
        #expect(client.receive(headers(1, [(":status", "200")] + long.suffix(1))) == ["failed 1 11 head_too_long"])
        // What the peer would not take is not sent to it.
        _ = client.receive(settings((6, 100)))
        #expect(throws: SendRefusal.headTooLong) { try client.open() }
    }
}
