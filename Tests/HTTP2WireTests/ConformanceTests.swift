/// Every case of the conformance suite h2spec (generic, http2, hpack), by its section, as what a server's machine says
/// and sends. Its numbers are RFC 7540's: 8.1.2 is 8.2 and 8.3 of RFC 9113, and 5.3.1, priorities that depend on
/// themselves, is gone from there: all of PRIORITY is ignored. Of malformed requests the machine only tells; the owner
/// answers and resets.
import HTTP2Wire
import Testing

/// A server reads these bytes behind the client's preface and SETTINGS.
struct Conformance: CustomTestStringConvertible {
    let testDescription: String
    let bytes: [UInt8]
    let events: [String]
    var frames: [String] = []

    init(_ name: String, _ bytes: [UInt8], _ events: [String], _ frames: [String] = []) {
        (testDescription, self.bytes, self.events, self.frames) = (name, bytes, events, frames)
    }
    /// The connection ends.
    init(_ name: String, _ bytes: [UInt8], ends code: UInt32, _ kind: String, after events: [String] = []) {
        self.init(name, bytes, events + ["violated \(code) \(kind)"], ["GOAWAY \(events.isEmpty ? 0 : 1) \(code)"])
    }
    /// Stream 1 ends.
    init(_ name: String, _ bytes: [UInt8], fails code: UInt32, _ kind: String, after events: [String]) {
        self.init(name, bytes, events + ["failed 1 \(code) \(kind)"], ["RST_STREAM 1 \(code)"])
    }
}

private let opened = headers(1, end: false, post)
private let requested = headers(1, get)
private func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }
private let blockOfGet = block(get)
private func begun(_ stream: UInt32 = 1) -> [UInt8] { frame(Type.headers, Flag.end, stream, Array(blockOfGet[..<1])) }
private func rest(_ stream: UInt32 = 1) -> [UInt8] {
    frame(Type.continuation, Flag.endHeaders, stream, Array(blockOfGet[1...]))
}
private func priority(_ stream: UInt32, on other: UInt32 = 0, weight: UInt8 = 0) -> [UInt8] {
    frame(Type.priority, 0, stream, number(other) + [weight])
}
private func request(_ field: String) -> [UInt8] { frame(Type.headers, 5, 1, blockOfGet + hex(field)) }

@Suite struct ConformanceTests {
    private func check(_ one: Conformance) {
        let server = Endpoint.started(.server)
        #expect(server.receive(one.bytes) == one.events)
        #expect(server.sent() == one.frames)
        // And byte by byte, but that DATA comes in pieces then.
        let slow = Endpoint.started(.server)
        let events = one.bytes.flatMap { slow.receive([$0]) }
        #expect(events.filter { !$0.hasPrefix("data") } == one.events.filter { !$0.hasPrefix("data") })
        #expect(slow.sent() == one.frames)
    }

    @Test(
        "h2spec generic/2 and 3: frames where they may stand",
        arguments: [
            Conformance("2: PRIORITY on an idle stream", priority(1) + requested, ["head 1 last"]),
            Conformance("2: WINDOW_UPDATE, half-closed", requested + window(1, 100), ["head 1 last"]),
            Conformance("2: PRIORITY, half-closed", requested + priority(1), ["head 1 last"]),
            Conformance("2: RST_STREAM, half-closed", requested + reset(1), ["head 1 last", "reset 1 8"]),
            Conformance(
                "2: PRIORITY on a closed stream", requested + reset(1) + priority(1), ["head 1 last", "reset 1 8"]),
            Conformance("3.1: DATA", opened + data(1, "test", end: true), ["head 1", "data 1 4 last"]),
            Conformance(
                "3.1: more than one", opened + data(1, "te") + data(1, "st", end: true),
                ["head 1", "data 1 2", "data 1 2 last"]),
            Conformance(
                "3.1: padded",
                opened + frame(Type.data, Flag.padded | Flag.end, 1, [6] + Array("test".utf8) + zeros(6)),
                ["head 1", "data 1 4 last"]),
            Conformance(
                "3.2: HEADERS, padded", frame(Type.headers, 5 | Flag.padded, 1, [6] + blockOfGet + zeros(6)),
                ["head 1 last"]),
            Conformance(
                "3.2: with a priority", frame(Type.headers, 5 | Flag.priority, 1, [0, 0, 0, 0, 255] + blockOfGet),
                ["head 1 last"]),
            Conformance(
                "3.3: PRIORITY of weight 1, 256, of a stream, exclusive",
                priority(1) + priority(1, weight: 255) + priority(3, on: 1) + priority(3, on: 1 | 1 << 31), []),
            Conformance("3.3: on a higher stream first", priority(5) + requested, ["head 1 last"]),
            Conformance("3.4: RST_STREAM", opened + reset(1), ["head 1", "reset 1 8"]),
            Conformance("3.5: SETTINGS", settings((3, 100)), ["settings"], ["SETTINGS ACK"]),
            Conformance("3.7: PING", frame(Type.ping, 0, 0, zeros(8)), [], ["PING ACK"]),
            Conformance("3.8: GOAWAY", frame(Type.goAway, 0, 0, number(0) + number(0)), ["goAway 0 0"]),
            Conformance("3.9: WINDOW_UPDATE of both", opened + window(0, 1) + window(1, 1), ["head 1"]),
            Conformance("3.10: CONTINUATION", begun() + rest(), ["head 1 last"]),
            Conformance(
                "3.10: more than one", begun() + frame(Type.continuation, 0, 1) + rest(), ["head 1 last"]),
            Conformance("4: HEAD", headers(1, [(":method", "HEAD")] + get.dropFirst()), ["head 1 last"]),
            Conformance(
                "4: POST with trailers", opened + data(1, "test") + headers(1, [("x-test", "ok")]),
                ["head 1", "data 1 4", "trailers 1"]),
        ]) func frames(_ one: Conformance)
    { check(one) }

    @Test(
        "h2spec generic/5: fields in every form",
        arguments: [
            ("indexed", "90", "accept-encoding", "gzip, deflate"),
            ("into the table, name of the table", "7a 01 61", "user-agent", "a"),
            ("into the table, name of the table, Huffman", "7a 81 1f", "user-agent", "a"),
            ("into the table, new name", "40 01 78 01 61", "x", "a"),
            ("into the table, new name, Huffman", "40 81 f3 81 1f", "x", "a"),
            ("without the table, name of the table", "0f 2b 01 61", "user-agent", "a"),
            ("without the table, name of the table, Huffman", "0f 2b 81 1f", "user-agent", "a"),
            ("without the table, new name", "00 01 78 01 61", "x", "a"),
            ("without the table, new name, Huffman", "00 81 f3 81 1f", "x", "a"),
            ("never into a table, name of the table", "1f 2b 01 61", "user-agent", "a"),
            ("never into a table, name of the table, Huffman", "1f 2b 81 1f", "user-agent", "a"),
            ("never into a table, new name", "10 01 78 01 61", "x", "a"),
            ("never into a table, new name, Huffman", "10 81 f3 81 1f", "x", "a"),
        ]) func fieldForms(_ name: String, _ field: String, _ fieldName: String, _ value: String)
    {
        let server = Endpoint.started(.server)
        #expect(server.receive(request(field)) == ["head 1 last"])
        #expect(server.lastFields.last.map { [$0.name, $0.value] } == [fieldName, value])
        // Size updates, one and two.
        for update in ["20", "20 3f e1 1f"] {
            let server = Endpoint.started(.server)
            #expect(server.receive(frame(Type.headers, 5, 1, hex(update) + blockOfGet)) == ["head 1 last"])
        }
    }

    @Test(
        "h2spec http2/3 to 5: frames, header blocks, streams",
        arguments: [
            Conformance("4.1: unknown type", frame(0xff, 0, 0, zeros(8)) + requested, ["head 1 last"]),
            Conformance("4.1: undefined flags", frame(Type.ping, 0xfe, 0, zeros(8)), [], ["PING ACK"]),
            Conformance("4.1: reserved bit", frame(Type.ping, 0, 1 << 31, zeros(8)), [], ["PING ACK"]),
            Conformance(
                "4.2: DATA of 2^14", opened + frame(Type.data, Flag.end, 1, zeros(16_384)),
                ["head 1", "data 1 16384 last"]),
            Conformance(
                "4.2: longer DATA", opened + frame(Type.data, Flag.end, 1, zeros(16_385)), ends: 6, "frame_too_long",
                after: ["head 1"]),
            Conformance("4.2: longer HEADERS", frame(Type.headers, 5, 1, zeros(16_385)), ends: 6, "frame_too_long"),
            Conformance("4.3: no header block", request("00 7f ff 00"), ends: 9, "bad_header_block"),
            Conformance("4.3: PRIORITY within a block", begun() + priority(1), ends: 1, "continuation_expected"),
            Conformance("4.3: HEADERS within a block", begun() + headers(3, get), ends: 1, "continuation_expected"),
            Conformance("5.1: idle, DATA", data(1, "test"), ends: 1, "unexpected_frame"),
            Conformance("5.1: idle, RST_STREAM", reset(1), ends: 1, "unexpected_frame"),
            Conformance("5.1: idle, WINDOW_UPDATE", window(1, 100), ends: 1, "unexpected_frame"),
            Conformance("5.1: idle, CONTINUATION", rest(), ends: 1, "unexpected_continuation"),
            Conformance(
                "5.1: half-closed, DATA", requested + data(1, "test"), fails: 5, "frame_on_closed_stream",
                after: ["head 1 last"]),
            Conformance(
                "5.1: half-closed, HEADERS", requested + requested, fails: 5, "frame_on_closed_stream",
                after: ["head 1 last"]),
            Conformance(
                "5.1: half-closed, CONTINUATION", requested + rest(), ends: 1, "unexpected_continuation",
                after: ["head 1 last"]),
            Conformance(
                "5.1: closed by RST_STREAM, DATA", opened + reset(1) + data(1, "test"), ends: 5,
                "frame_on_closed_stream", after: ["head 1", "reset 1 8"]),
            Conformance(
                "5.1: closed by RST_STREAM, HEADERS", opened + reset(1) + requested, ends: 5,
                "frame_on_closed_stream", after: ["head 1", "reset 1 8"]),
            Conformance(
                "5.1: closed by RST_STREAM, CONTINUATION", opened + reset(1) + rest(), ends: 1,
                "unexpected_continuation", after: ["head 1", "reset 1 8"]),
            Conformance("5.1.1: even number", headers(2, get), ends: 1, "bad_stream_id"),
            Conformance(
                "5.3.1: HEADERS that depend on themselves",
                frame(Type.headers, 5 | Flag.priority, 1, number(1) + [255] + blockOfGet), ["head 1 last"]),
            Conformance("5.3.1: PRIORITY that depends on itself", priority(1, on: 1), []),
            Conformance(
                "5.4.1: a bad PING ends the connection", frame(Type.ping, 0, 0, zeros(6)), ends: 6,
                "bad_frame_size"),
            Conformance("5.5: unknown frame", frame(0x16, 0, 0, zeros(8)) + requested, ["head 1 last"]),
            Conformance(
                "5.5: unknown frame in a block", begun() + frame(0x16, 0, 0, zeros(8)), ends: 1,
                "continuation_expected"),
        ]) func streams(_ one: Conformance)
    { check(one) }

    @Test("h2spec http2/3.5, 5.1 and 5.1.1: what a table of bytes cannot say") func streamsThatHaveEnded() throws {
        // 3.5: any other beginning; SETTINGS of ours come first.
        let other = Endpoint(.server)
        #expect(other.receive(Array("INVALID CONNECTION PREFACE\r\n\r\n".utf8)) == ["violated 1 bad_preface"])
        #expect(other.sent() == ["SETTINGS", "WINDOW_UPDATE 0 983041", "GOAWAY 0 1"])
        // 5.1: closed because both sides have ended it.
        for (bytes, end) in [
            (data(1, "test"), "violated 5 frame_on_closed_stream"),
            (requested, "violated 5 frame_on_closed_stream"), (rest(), "violated 1 unexpected_continuation"),
        ] {
            let server = Endpoint.started(.server)
            _ = server.receive(requested)
            try server.respond(1)
            #expect(server.receive(bytes) == [end])
        }
        // 5.1.1: lower than the one before.
        let server = Endpoint.started(.server)
        #expect(server.receive(headers(5, get) + headers(3, get)) == ["head 5 last", "violated 1 bad_stream_id"])
        // 5.1.2: one more than we allow.
        let crowded = Endpoint.started(.server)
        let events = (0...100 as ClosedRange<UInt32>).flatMap { crowded.receive(headers($0 * 2 + 1, get)) }
        #expect(events.count == 101 && events.last == "failed 201 7 too_many_streams")
        #expect(crowded.sent() == ["RST_STREAM 201 7"])
    }

    @Test(
        "h2spec http2/6 and 7: each frame's rules",
        arguments: [
            Conformance("6.1: DATA on stream 0", data(0, "test"), ends: 1, "bad_stream_id"),
            Conformance(
                "6.1: DATA, neither open nor half-closed by us", requested + data(1, "test"), fails: 5,
                "frame_on_closed_stream", after: ["head 1 last"]),
            Conformance(
                "6.1: padding too long", opened + frame(Type.data, Flag.padded, 1, [6, 0, 0, 0, 0]), ends: 1,
                "bad_padding", after: ["head 1"]),
            Conformance("6.2: PRIORITY before END_HEADERS", begun() + priority(1), ends: 1, "continuation_expected"),
            Conformance("6.2: another HEADERS first", begun() + headers(3, get), ends: 1, "continuation_expected"),
            Conformance("6.2: HEADERS on stream 0", headers(0, get), ends: 1, "bad_stream_id"),
            Conformance(
                "6.2: padding too long", frame(Type.headers, 5 | Flag.padded, 1, [255] + blockOfGet), ends: 1,
                "bad_padding"),
            Conformance("6.3: PRIORITY on stream 0", priority(0), ends: 1, "bad_stream_id"),
            Conformance(
                "6.3: PRIORITY of another length", opened + frame(Type.priority, 0, 1, zeros(4)), fails: 6,
                "bad_frame_size", after: ["head 1"]),
            Conformance("6.4: RST_STREAM on stream 0", reset(0), ends: 1, "bad_stream_id"),
            Conformance("6.4: RST_STREAM on an idle stream", reset(1), ends: 1, "unexpected_frame"),
            Conformance(
                "6.4: RST_STREAM of another length", opened + frame(Type.reset, 0, 1, zeros(3)), ends: 6,
                "bad_frame_size", after: ["head 1"]),
            Conformance(
                "6.5: ACK with a payload", frame(Type.settings, Flag.ack, 0, zeros(6)), ends: 6,
                "bad_frame_size"),
            Conformance("6.5: SETTINGS on a stream", frame(Type.settings, 0, 1), ends: 1, "bad_stream_id"),
            Conformance(
                "6.5: SETTINGS of another length", frame(Type.settings, 0, 0, zeros(3)), ends: 6,
                "bad_frame_size"),
            Conformance("6.5.2: ENABLE_PUSH of 2", settings((2, 2)), ends: 1, "bad_setting"),
            Conformance("6.5.2: INITIAL_WINDOW_SIZE too large", settings((4, 1 << 31)), ends: 3, "bad_setting"),
            Conformance("6.5.2: MAX_FRAME_SIZE too small", settings((5, 16_383)), ends: 1, "bad_setting"),
            Conformance("6.5.2: MAX_FRAME_SIZE too large", settings((5, 1 << 24)), ends: 1, "bad_setting"),
            Conformance("6.5.2: unknown", settings((0xff, 1)), ["settings"], ["SETTINGS ACK"]),
            Conformance("6.5.3: without ACK", settings((2, 0)), ["settings"], ["SETTINGS ACK"]),
            Conformance("6.7: PING with ACK", frame(Type.ping, Flag.ack, 0, zeros(8)), ["pong 0"]),
            Conformance("6.7: PING on a stream", frame(Type.ping, 0, 1, zeros(8)), ends: 1, "bad_stream_id"),
            Conformance("6.7: PING of another length", frame(Type.ping, 0, 0, zeros(6)), ends: 6, "bad_frame_size"),
            Conformance("6.8: GOAWAY on a stream", frame(Type.goAway, 0, 1, zeros(8)), ends: 1, "bad_stream_id"),
            Conformance("6.9: by nothing", window(0, 0), ends: 1, "zero_window_increment"),
            Conformance(
                "6.9: a stream's by nothing", opened + window(1, 0), fails: 1, "zero_window_increment",
                after: ["head 1"]),
            Conformance("6.9: of another length", frame(Type.window, 0, 0, zeros(3)), ends: 6, "bad_frame_size"),
            Conformance(
                "6.9.1: above 2^31-1", window(0, 0x7fff_ffff) + window(0, 0x7fff_ffff), ends: 3, "window_overflow"),
            Conformance(
                "6.9.1: a stream's above 2^31-1", opened + window(1, 0x7fff_ffff), fails: 3, "window_overflow",
                after: ["head 1"]),
            Conformance("6.9.2: a setting above 2^31-1", settings((4, 0xffff_ffff)), ends: 3, "bad_setting"),
            Conformance("6.10: several", begun() + frame(Type.continuation, 0, 1) + rest(), ["head 1 last"]),
            Conformance(
                "6.10: DATA behind one", begun() + frame(Type.continuation, 0, 1) + data(1, "test"), ends: 1,
                "continuation_expected"),
            Conformance("6.10: on stream 0", begun() + rest(0), ends: 1, "continuation_expected"),
            Conformance(
                "6.10: behind HEADERS with END_HEADERS", requested + rest(), ends: 1, "unexpected_continuation",
                after: ["head 1 last"]),
            Conformance(
                "6.10: behind CONTINUATION with END_HEADERS", begun() + rest() + rest(), ends: 1,
                "unexpected_continuation", after: ["head 1 last"]),
            Conformance(
                "6.10: behind DATA", opened + data(1, "test") + rest(), ends: 1, "unexpected_continuation",
                after: ["head 1", "data 1 4"]),
            Conformance(
                "7: GOAWAY with an unknown code",
                frame(Type.goAway, 0, 0, number(0) + number(0xff))
                    + frame(Type.ping, 0, 0, zeros(8)), ["goAway 0 255"], ["PING ACK"]),
            Conformance(
                "7: RST_STREAM with an unknown code", opened + reset(1, 0xff), ["head 1", "reset 1 255"]),
        ]) func frameRules(_ one: Conformance)
    { check(one) }

    @Test("h2spec http2/6.5.3, 6.9.1 and 6.9.2: windows that SETTINGS change, before and while a response waits")
    func windows() throws {
        let server = Endpoint.started(.server)
        // The last value counts; one byte goes out.
        _ = server.receive(settings((4, 100), (4, 1)) + requested)
        try server.respond(1, isLast: false)
        #expect(try server.send(1, zeros(20), isLast: true) == 1)
        #expect(server.sent() == ["SETTINGS ACK", "HEADERS 1", "DATA 1 1"])
        #expect(server.receive(settings((4, 0)) + window(1, 1)) == ["settings"])
        #expect(server.receive(window(1, 1)) == ["writable 1"])
        #expect(try server.send(1, zeros(19), isLast: true) == 1)
    }

    @Test(
        "h2spec http2/8: messages",
        arguments: [
            (
                "8.1: a second HEADERS that does not end", opened + headers(1, end: false, [("a", "b")]),
                "failed 1 1 bad_trailers"
            ),
            ("8.1.2: capitals", request("00 01 58 01 61"), "malformed 1 bad_field_name"),
            ("8.1.2.1: unknown pseudo-field", headers(1, get + [(":test", "ok")]), "malformed 1 bad_field_name"),
            ("8.1.2.1: of a response", headers(1, get + [(":status", "200")]), "malformed 1 bad_pseudo_field"),
            ("8.1.2.1: in trailers", opened + headers(1, [(":method", "200")]), "failed 1 1 bad_pseudo_field"),
            ("8.1.2.1: behind a field", headers(1, [("x-test", "ok")] + get), "malformed 1 bad_pseudo_field"),
            (
                "8.1.2.2: of the connection", headers(1, get + [("connection", "keep-alive")]),
                "malformed 1 connection_field"
            ),
            ("8.1.2.2: te", headers(1, get + [("te", "trailers, deflate;q=0.5")]), "malformed 1 connection_field"),
            (
                "8.1.2.3: empty :path", headers(1, get.map { ($0.0, $0.0 == ":path" ? "" : $0.1) }),
                "malformed 1 bad_path"
            ),
            ("8.1.2.3: no :method", headers(1, get.filter { $0.0 != ":method" }), "malformed 1 bad_method"),
            ("8.1.2.3: no :scheme", headers(1, get.filter { $0.0 != ":scheme" }), "malformed 1 bad_scheme"),
            ("8.1.2.3: no :path", headers(1, get.filter { $0.0 != ":path" }), "malformed 1 bad_path"),
            ("8.1.2.3: two :method", headers(1, get + [(":method", "GET")]), "malformed 1 bad_pseudo_field"),
            ("8.1.2.3: two :scheme", headers(1, get + [(":scheme", "http")]), "malformed 1 bad_pseudo_field"),
            ("8.1.2.3: two :path", headers(1, get + [(":path", "/")]), "malformed 1 bad_pseudo_field"),
            (
                "8.1.2.6: another length than DATA's",
                headers(1, end: false, post + [("content-length", "1")]) + data(1, "test", end: true),
                "failed 1 1 content_length_and_data"
            ),
            (
                "8.1.2.6: than that of all DATA together",
                headers(1, end: false, post + [("content-length", "1")]) + data(1, "t") + data(1, "est", end: true),
                "failed 1 1 content_length_and_data"
            ),
            (
                "8.2: PUSH_PROMISE of a client", opened + frame(Type.push, 4, 1, number(3) + blockOfGet),
                "violated 1 push_refused"
            ),
        ] as [(String, [UInt8], String)])
    func messages(_ name: String, _ bytes: [UInt8], _ end: String) {
        let server = Endpoint.started(.server)
        #expect(server.receive(bytes).last == end)
    }

    @Test(
        "h2spec hpack: blocks that end the connection with COMPRESSION_ERROR",
        arguments: [
            ("2.3.3: indexed, beyond the tables", "c6"), ("2.3.3: a name beyond the tables", "7f 07 01 61"),
            ("4.2: a size update at the end", "20"),
            ("5.2: padding longer than seven bits", "00 01 78 82 1f ff"), ("5.2: padding of zeros", "00 01 78 81 18"),
            ("5.2: EOS", "00 01 78 84 ff ff ff ff"), ("6.1: index 0", "80"),
        ]) func blocks(_ name: String, _ field: String)
    {
        let server = Endpoint.started(.server)
        #expect(server.receive(request(field)) == ["violated 9 bad_header_block"])
        // 6.3: an update beyond what we allow, which is 4096.
        let other = Endpoint.started(.server)
        #expect(
            other.receive(frame(Type.headers, 5, 1, hex("3f e2 1f") + blockOfGet)) == ["violated 9 bad_header_block"])
    }
}
