/// Everything that a client of HTTP/2 can get wrong, sent to a proxy at work: the RFC's error, a metric and a line of
/// the log that name it, and nobody else notices.
import Addressing
import HTTP2TestSupport
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite(.serialized) struct HTTP2BadInputTests {
    /// What it leads to: the end of the connection, of a stream, or an answer.
    enum End: Equatable, Sendable {
        case connection(UInt32)
        case stream(UInt32, UInt32)
        case answer(Int)
        case none
    }
    struct Mistake: Sendable {
        let name: String
        let end: End
        var fault = ""
        let bytes: @Sendable (HTTP2Peer) -> [UInt8]
    }
    /// What the client's streams are at when the mistake comes: answered and closed, open, and not begun.
    private static let (closed, open, idle): (UInt32, UInt32, UInt32) = (1, 3, 5)

    private static let pingData: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0]

    // MARK: Frames

    private static let types = [
        "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
        "CONTINUATION", "unknown",
    ]

    /// By RFC 9113, 4.2, 5.1 and 6, for zeros as the payload.
    private static func end(of type: Int, length: Int, on stream: UInt32) -> (End, String) {
        if length > 16_384 { return (.connection(6), "frame_too_long") }
        let isOfConnection = [4, 6, 7].contains(type)
        if isOfConnection && stream != 0 || !isOfConnection && stream == 0 && type != 8 && type < 10 {
            return (.connection(1), "bad_stream_id")
        }
        let isRight = [2: length == 5, 3: length == 4, 4: length == 0, 6: length == 8, 7: length >= 8, 8: length == 4]
        if isRight[type] == false {
            return (type == 2 ? .stream(stream, 6) : .connection(6), "bad_frame_size")
        }
        switch (type, stream) {
        // Three zeros are a field without name and value, and trailers are nothing to begin with.
        case (1, _) where length % 3 != 0: return (.connection(9), "bad_header_block")
        case (0, closed), (1, closed): return (.connection(5), "frame_on_closed_stream")
        case (1, _): return (.stream(stream, 1), "bad_trailers")
        case (5, _): return (.connection(1), "push_refused")
        case (8, 0): return (.connection(1), "zero_window_increment")
        case (8, open): return (.stream(stream, 1), "zero_window_increment")
        case (9, _): return (.connection(1), "unexpected_continuation")
        default: return (.none, "")
        }
    }

    static let frames: [Mistake] = types.indices.flatMap { type in
        [0, 1, 3, 4, 5, 7, 8, 9, 16_385].flatMap { length in
            [0, closed, open].map { stream in
                let (end, fault) = end(of: type, length: length, on: stream)
                return Mistake(name: "\(types[type]) of \(length) on \(stream)", end: end, fault: fault) { peer in
                    // END_HEADERS where there are headers; an ACK would be another frame.
                    let payload = [UInt8](repeating: 0, count: length)
                    let number: UInt8 = type == 10 ? 0xbb : UInt8(type)
                    return peer.frame(number, flags: type == 1 ? 4 : 0, stream: stream, payload)
                }
            }
        }
    }

    // MARK: Heads, windows, floods

    private static let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "cart")]
    private static func head(_ name: String, _ fault: String, _ fields: [(String, String)]) -> Mistake {
        Mistake(name: name, end: .answer(400), fault: fault) {
            $0.frame(HTTP2Peer.headers, flags: 5, stream: idle, $0.block(fields))
        }
    }
    static let heads: [Mistake] =
        [
            head("a field before :path", "bad_pseudo_field", [pseudo[0], pseudo[1], ("a", "b"), pseudo[2], pseudo[3]]),
            head("two :path", "bad_pseudo_field", pseudo + [(":path", "/other")]),
            head("two :path in order", "bad_pseudo_field", [pseudo[0], pseudo[1], pseudo[2], pseudo[2], pseudo[3]]),
            head("no :method", "bad_method", Array(pseudo[1...])),
            head("no :scheme", "bad_scheme", [pseudo[0], pseudo[2], pseudo[3]]),
            head("no :path", "bad_path", [pseudo[0], pseudo[1], pseudo[3]]),
            head("empty :path", "bad_path", [pseudo[0], pseudo[1], (":path", ""), pseudo[3]]),
            head("unknown pseudo field", "bad_field_name", pseudo + [(":unknown", "x")]),
            head(":status", "bad_pseudo_field", pseudo + [(":status", "200")]),
            head("upper case", "bad_field_name", pseudo + [("X-Upper", "1")]),
            head("te", "connection_field", pseudo + [("te", "gzip")]),
            head("content-length without a body", "content_length_and_data", pseudo + [("content-length", "3")]),
        ]
        + ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"].map {
            head($0, "connection_field", pseudo + [($0, "x")])
        }

    /// An entry of 4 KB that the table takes in, and then named so often.
    private static func bomb(_ peer: HTTP2Peer, _ count: Int) -> [UInt8] {
        let value = String(repeating: "x", count: 3900)
        var entry = peer.block([("x", value)])
        entry[0] = 0x40
        let block = peer.block(pseudo) + entry + [UInt8](repeating: 0xbe, count: count)
        return peer.frame(HTTP2Peer.headers, flags: 5, stream: idle, block)
    }
    static let others: [Mistake] = [
        Mistake(name: "a stream's window overflows", end: .stream(open, 3), fault: "window_overflow") {
            $0.frame(HTTP2Peer.windowUpdate, stream: open, $0.word(0x7fff_ffff))
        },
        Mistake(name: "the connection's window overflows", end: .connection(3), fault: "window_overflow") {
            $0.frame(HTTP2Peer.windowUpdate, $0.word(0x7fff_ffff))
        },
        Mistake(name: "SETTINGS overflow a stream's window", end: .connection(3), fault: "window_overflow") {
            $0.frame(HTTP2Peer.windowUpdate, stream: open, $0.word(0x7000_0000))
                + $0.frame(HTTP2Peer.settings, [0, 4] + $0.word(0x7fff_ffff))
        },
        Mistake(name: "more than the window", end: .stream(open, 3), fault: "window_exceeded") { peer in
            let frame = peer.frame(HTTP2Peer.data, stream: open, [UInt8](repeating: 0, count: 16_384))
            return (0..<40).flatMap { _ in frame }
        },
        Mistake(name: "a table bomb", end: .connection(11), fault: "header_block_too_long") { bomb($0, 10_000) },
        Mistake(name: "a small table bomb", end: .answer(431), fault: "head_too_long") { bomb($0, 17) },
        Mistake(name: "a table larger than allowed", end: .connection(9), fault: "bad_header_block") {
            $0.frame(HTTP2Peer.headers, flags: 5, stream: idle, [0x3f, 0xe2, 0x1f] + $0.block(pseudo))
        },
        Mistake(name: "CONTINUATION without end", end: .connection(11), fault: "continuation_flood") { peer in
            let more = peer.frame(HTTP2Peer.continuation, stream: idle, peer.block([("x", "y")]))
            return peer.frame(HTTP2Peer.headers, stream: idle, peer.block(pseudo)) + (0..<100).flatMap { _ in more }
        },
        Mistake(name: "a header block without end", end: .connection(11), fault: "header_block_too_long") { peer in
            let noise = [UInt8](repeating: 0, count: 16_384)
            return peer.frame(HTTP2Peer.headers, stream: idle, noise)
                + (0..<5).flatMap { _ in peer.frame(HTTP2Peer.continuation, stream: idle, noise) }
        },
        Mistake(name: "another frame within a block", end: .connection(1), fault: "continuation_expected") {
            $0.frame(HTTP2Peer.headers, stream: idle, $0.block(pseudo)) + $0.frame(HTTP2Peer.ping, pingData)
        },
        Mistake(name: "HTTP/1.1", end: .connection(6), fault: "frame_too_long") { _ in
            Array("GET / HTTP/1.1\r\nHost: cart\r\n\r\n".utf8)
        },
        Mistake(name: "another preface", end: .connection(6), fault: "frame_too_long") { _ in
            Array(HTTP2Peer.preface.utf8)
        },
        Mistake(name: "an acknowledgement too many", end: .connection(1), fault: "unexpected_settings_ack") {
            $0.frame(HTTP2Peer.settings, flags: 1)
        },
        Mistake(name: "a stream of the server's", end: .connection(1), fault: "bad_stream_id") {
            $0.frame(HTTP2Peer.headers, flags: 5, stream: 6, $0.block(pseudo))
        },
        Mistake(name: "data of an idle stream", end: .connection(1), fault: "unexpected_frame") {
            $0.frame(HTTP2Peer.data, stream: idle, [1])
        },
        Mistake(name: "padding longer than its frame", end: .connection(1), fault: "bad_padding") {
            $0.frame(HTTP2Peer.data, flags: 8, stream: open, [9, 0, 0])
        },
    ]

    // MARK: The proxy

    @Test(arguments: [frames, heads + others])
    func whatIsWrongIsNamedAndHarmsNobodyElse(_ mistakes: [Mistake]) async throws {
        let backend = try TestBackend("one") { _ in .reply(200, body: "x") }
        let slow = try HTTP2TestBackend("slow", acknowledges: false) { _ in .silence }
        defer {
            backend.stop()
            slow.stop()
        }
        let rules = [rule(RouteMatch(path: .exact("/open")), to: [("slow", 1)]), rule(to: [("cart", 1)])]
        try await ProxyRig.with(rules, [upstream("cart", [backend]), upstream("slow", [slow])]) { rig in
            let bystander = try rig.connectHTTP2()
            defer { bystander.hangUp() }
            for mistake in mistakes {
                try make(mistake, rig)
                #expect(try bystander.ask("/").status == 200, "beside \(mistake.name)")
            }
            #expect(bystander.goAway == nil)
            try eventually("nothing is left") { rig.engine.stats.active == 0 }
        }
    }

    private func make(_ mistake: Mistake, _ rig: ProxyRig) throws {
        let client = try rig.connectHTTP2()
        defer { client.hangUp() }
        #expect(try client.ask("/").status == 200)
        client.begin("/open", method: "POST", end: false)
        #expect(client.isAnswered(ping: Self.pingData))
        let (faults, lines) = (rig.engine.stats.violations, rig.log.records.count)
        deliver(client.peer.descriptor, mistake.bytes(client.peer))
        let name = Comment(rawValue: mistake.name)
        switch mistake.end {
        case .connection(let code):
            client.readToEnd()
            #expect(client.goAway == code, name)
        case .stream(let stream, let code): #expect(client.reset(of: stream) == code, name)
        case .answer(let status): #expect(client.answer(Self.idle)?.status == status, name)
        case .none: break
        }
        // Its other streams go on.
        let ends = if case .connection = mistake.end { true } else { false }
        #expect(ends || client.isAnswered(ping: Self.pingData), name)
        var wanted = faults
        if mistake.end != .none { wanted[mistake.fault, default: 0] += 1 }
        #expect(rig.engine.stats.violations == wanted, name)
        guard mistake.end != .none else { return }
        try eventually("the line of \(mistake.name)") {
            rig.log.records[lines...].contains {
                $0.failure == mistake.fault && $0.flags == .downstreamProtocolError
                    && $0.client.address == IPAddress(v4: 0x7f00_0001)
            }
        }
    }

    /// One that is refused while others are under way has a line of its own.
    @Test func streamsTooManyAreNamed() async throws {
        let backend = try TestBackend("one") { _ in .silence }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            for _ in 0..<100 { client.begin("/") }
            #expect(client.reset(of: client.begin("/")) == 7)
            #expect(rig.engine.stats.violations == ["too_many_streams": 1])
            try eventually("the line") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.failure == "too_many_streams")
            #expect(rig.engine.stats.active == 100)
        }
    }

    /// RFC 9113, 6.9.2: that is no mistake, and what is sent then waits until the window is above zero again.
    @Test func settingsMayTakeWindowsBelowZero() async throws {
        let backend = try TestBackend("one") { _ in .reply(200, body: String(repeating: "x", count: 1 << 20)) }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            client.peer.acknowledges = false
            let stream = client.begin("/")
            #expect(client.partial(stream, bytes: 65_535)?.body.count == 65_535)
            client.peer.send(HTTP2Peer.windowUpdate, client.peer.word(1 << 24))
            client.peer.send(HTTP2Peer.settings, [0, 4] + client.peer.word(1000))
            client.peer.send(HTTP2Peer.windowUpdate, stream: stream, client.peer.word(64_535))
            #expect(client.isAnswered(ping: Self.pingData))
            #expect(client.partial(stream)?.body.count == 65_535)
            client.peer.send(HTTP2Peer.windowUpdate, stream: stream, client.peer.word(10))
            #expect(client.partial(stream, bytes: 65_545)?.body.count == 65_545)
            #expect(client.isAnswered(ping: Self.pingData))
            #expect(client.partial(stream)?.body.count == 65_545)
            client.peer.send(HTTP2Peer.settings, [0, 4] + client.peer.word(1 << 24))
            #expect(client.answer(stream)?.body.count == 1 << 20)
        }
    }

    /// What could still become HTTP/2 has as much time as the head of a request.
    @Test(arguments: ["PRI * HTTP/2.0\r\n\r\nSM", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "GET / HTTP/1.1\r\nHost: "])
    func whatNeverBecomesAPrefaceEnds(_ bytes: String) async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        var options = EngineOptions()
        options.headTimeout = .milliseconds(100)
        try await ProxyRig.with(nil, [upstream("cart", [backend])], options: options) { rig in
            let client = try rig.connect()
            client.send(bytes)
            let (status, fault) = bytes.contains("XX") ? (505, "unsupported_version") : (408, "incomplete_head")
            #expect(client.rest().hasPrefix("HTTP/1.1 \(status) "))
            #expect(rig.engine.stats.violations == [fault: 1])
            try eventually("the line") { rig.log.records.count == 1 }
            let line = try #require(rig.log.records.first)
            #expect(line.failure == fault && line.flags == .downstreamProtocolError)
            #expect(line.client.address == IPAddress(v4: 0x7f00_0001))
        }
    }
}
