/// What RFC 9113, 3 to 6, says of each frame: wrong lengths, wrong streams, wrong order, with code and scope.
import HTTP2Wire
import Testing

@Suite struct FrameRuleTests {
    private static let opened = headers(1, end: false, post)
    private static func padding(_ length: UInt8, _ rest: Int) -> [UInt8] {
        [length] + Array(repeating: 0, count: rest)
    }

    @Test(
        "RFC 9113, 4 to 6: errors of the connection",
        arguments: [
            (
                "4.2: longer than we said", frame(Type.data, 0, 1, Array(repeating: 0, count: 16_385)), 6,
                "frame_too_long"
            ),
            ("5.1.1: even stream of a client", headers(2, get), 1, "bad_stream_id"),
            ("6.1: DATA on stream 0", data(0, "x"), 1, "bad_stream_id"),
            ("6.1: DATA on an idle stream", data(1, "x"), 1, "unexpected_frame"),
            (
                "6.1: padding as long as the payload", opened + frame(Type.data, Flag.padded, 1, padding(3, 2)), 1,
                "bad_padding"
            ),
            ("6.1: no room for the padding's length", opened + frame(Type.data, Flag.padded, 1), 6, "bad_frame_size"),
            ("6.2: HEADERS on stream 0", frame(Type.headers, 5, 0), 1, "bad_stream_id"),
            ("6.2: padding beyond the block", frame(Type.headers, 5 | Flag.padded, 1, padding(3, 2)), 1, "bad_padding"),
            (
                "6.2: no room for a priority", frame(Type.headers, 5 | Flag.priority, 1, [0, 0, 0, 0]), 6,
                "bad_frame_size"
            ),
            ("6.3: PRIORITY on stream 0", frame(Type.priority, 0, 0, [0, 0, 0, 0, 0]), 1, "bad_stream_id"),
            ("6.3: PRIORITY of 4 on an idle stream", frame(Type.priority, 0, 9, [0, 0, 0, 0]), 6, "bad_frame_size"),
            ("6.4: RST_STREAM on stream 0", reset(0), 1, "bad_stream_id"),
            ("6.4: RST_STREAM on an idle stream", reset(1), 1, "unexpected_frame"),
            ("6.4: RST_STREAM of 3", opened + frame(Type.reset, 0, 1, [0, 0, 0]), 6, "bad_frame_size"),
            ("6.5: SETTINGS on a stream", frame(Type.settings, 0, 1), 1, "bad_stream_id"),
            ("6.5: SETTINGS of 5", frame(Type.settings, 0, 0, [0, 0, 0, 0, 0]), 6, "bad_frame_size"),
            ("6.5: ACK with a payload", frame(Type.settings, Flag.ack, 0, setting(1, 1)), 6, "bad_frame_size"),
            ("6.5: ACK of nothing", frame(Type.settings, Flag.ack, 0), 1, "unexpected_settings_ack"),
            ("6.5.2: ENABLE_PUSH of 2", settings((2, 2)), 1, "bad_setting"),
            ("6.5.2: a window above 2^31-1", settings((4, 1 << 31)), 3, "bad_setting"),
            ("6.5.2: frames below 16,384", settings((5, 16_383)), 1, "bad_setting"),
            ("6.5.2: frames above 2^24-1", settings((5, 1 << 24)), 1, "bad_setting"),
            ("RFC 8441, 3: neither 0 nor 1", settings((8, 2)), 1, "bad_setting"),
            ("RFC 8441, 3: taken back", settings((8, 1)) + settings((8, 0)), 1, "bad_setting"),
            ("6.6 and 8.4: PUSH_PROMISE", opened + frame(Type.push, 4, 1, number(2)), 1, "push_refused"),
            ("6.7: PING on a stream", frame(Type.ping, 0, 1, Array(repeating: 0, count: 8)), 1, "bad_stream_id"),
            ("6.7: PING of 7", frame(Type.ping, 0, 0, Array(repeating: 0, count: 7)), 6, "bad_frame_size"),
            ("6.8: GOAWAY on a stream", frame(Type.goAway, 0, 1, number(0) + number(0)), 1, "bad_stream_id"),
            ("6.8: GOAWAY of 7", frame(Type.goAway, 0, 0, Array(repeating: 0, count: 7)), 6, "bad_frame_size"),
            ("6.9: WINDOW_UPDATE of 5", frame(Type.window, 0, 0, [0, 0, 0, 0, 1]), 6, "bad_frame_size"),
            ("6.9: WINDOW_UPDATE on an idle stream", window(1, 1), 1, "unexpected_frame"),
            ("6.9: the connection's by nothing", window(0, 0), 1, "zero_window_increment"),
            ("6.9.1: the connection's above 2^31-1", window(0, 0x7fff_ffff), 3, "window_overflow"),
            ("6.10: CONTINUATION of nothing", frame(Type.continuation, 4, 1), 1, "unexpected_continuation"),
            (
                "6.10: CONTINUATION on stream 0", frame(Type.headers, 0, 1) + frame(Type.continuation, 4, 0), 1,
                "continuation_expected"
            ),
            (
                "6.10: of another stream", frame(Type.headers, 0, 1) + frame(Type.continuation, 4, 3), 1,
                "continuation_expected"
            ),
            ("6.2: DATA before END_HEADERS", frame(Type.headers, 0, 1) + data(1, "x"), 1, "continuation_expected"),
            (
                "5.5: an unknown frame before END_HEADERS", frame(Type.headers, 0, 1) + frame(0x42, 0, 1), 1,
                "continuation_expected"
            ),
            ("4.3: a block that is none", frame(Type.headers, 5, 1, [0xff]), 9, "bad_header_block"),
            ("RFC 7541, 2.3.3: an index of nothing", frame(Type.headers, 5, 1, [0xbe]), 9, "bad_header_block"),
        ] as [(String, [UInt8], UInt32, String)])
    func connectionErrors(_ name: String, _ bytes: [UInt8], _ code: UInt32, _ kind: String) {
        // Whole, and byte by byte.
        for isWhole in [true, false] {
            let server = Endpoint.started(.server)
            let events = isWhole ? server.receive(bytes) : bytes.flatMap { server.receive([$0]) }
            #expect(events.last == "violated \(code) \(kind)")
            #expect(server.sent().last?.hasPrefix("GOAWAY") == true && server.isFinished)
            #expect(server.receive(headers(101, get)) == [] && server.sent() == [])
        }
    }

    @Test(
        "RFC 9113, 5 and 6: errors of a stream",
        arguments: [
            ("5.1: DATA behind END_STREAM", headers(1, get) + data(1, "x"), 5, "frame_on_closed_stream"),
            ("5.1: HEADERS behind END_STREAM", headers(1, get) + headers(1, get), 5, "frame_on_closed_stream"),
            ("6.3: PRIORITY of 6", opened + frame(Type.priority, 0, 1, [0, 0, 0, 0, 0, 0]), 6, "bad_frame_size"),
            ("6.9: a stream's window by nothing", opened + window(1, 0), 1, "zero_window_increment"),
            ("6.9.1: a stream's window above 2^31-1", opened + window(1, 0x7fff_ffff), 3, "window_overflow"),
            ("8.1: trailers that do not end", opened + headers(1, end: false, [("a", "b")]), 1, "bad_trailers"),
            ("8.1: pseudo-fields in trailers", opened + headers(1, [(":path", "/")]), 1, "bad_pseudo_field"),
            (
                "8.1.1: more data than said", headers(1, end: false, post + [("content-length", "1")]) + data(1, "xy"),
                1,
                "content_length_and_data"
            ),
            (
                "8.1.1: less data than said",
                headers(1, end: false, post + [("content-length", "2")]) + data(1, "x", end: true),
                1, "content_length_and_data"
            ),
            (
                "8.1.1: trailers too early",
                headers(1, end: false, post + [("content-length", "2")]) + headers(1, [("a", "b")]),
                1, "content_length_and_data"
            ),
        ] as [(String, [UInt8], UInt32, String)])
    func streamErrors(_ name: String, _ bytes: [UInt8], _ code: UInt32, _ kind: String) {
        let server = Endpoint.started(.server)
        #expect(server.receive(bytes).last == "failed 1 \(code) \(kind)")
        #expect(server.sent() == ["RST_STREAM 1 \(code)"])
        // No other stream suffers.
        #expect(server.receive(headers(3, get)) == ["head 3 last"] && server.streamCount == 1)
    }

    @Test("RFC 9113, 3.4: a preface, then SETTINGS") func prefaces() {
        #expect(Endpoint(.server).receive(Array(preface.prefix(20))) == [])
        #expect(Endpoint(.server).receive(Array("GET / HTTP/1.1\r\n\r\n".utf8)) == ["violated 1 bad_preface"])
        #expect(Endpoint(.server).receive(preface + window(0, 1)) == ["violated 1 settings_expected"])
        #expect(Endpoint(.client).receive(frame(Type.settings, Flag.ack, 0)) == ["violated 1 settings_expected"])
        let server = Endpoint(.server)
        #expect(server.receive(preface + settings()) == ["settings"])
        #expect(server.sent() == ["SETTINGS", "WINDOW_UPDATE 0 983041", "SETTINGS ACK"])
        let client = Endpoint(.client)
        #expect(client.takeOutput().starts(with: preface))
        #expect(client.receive(settings((2, 0))) == ["settings"])
        // 6.5.2: a server that says that it pushes.
        #expect(client.receive(settings((2, 1))) == ["violated 1 bad_setting"])
    }

    @Test("RFC 9113, 4.1 and 5.5: what is unknown is ignored") func unknownIsIgnored() {
        let server = Endpoint.started(.server)
        #expect(server.receive(frame(0x42, 0xff, 7, Array(repeating: 1, count: 3000))) == [])
        #expect(server.receive(settings((0x99, 5))) == ["settings"])
        #expect(server.receive(frame(Type.priority, 0, 9, [0, 0, 0, 0, 0])) == [])
        // Flags and the reserved bit that mean nothing here.
        #expect(server.receive(frame(Type.ping, 0xfe, 1 << 31, Array(repeating: 1, count: 8))) == [])
        #expect(server.sent() == ["SETTINGS ACK", "PING ACK"])
    }

    @Test("RFC 9113, 6.1 and 6.2: padding and priority are taken away, whatever the pieces") func paddedFrames() {
        let head = [5, 0, 0, 0, 9, 1] + block(post) + [0, 0, 0, 0, 0]
        let bytes =
            frame(Type.headers, Flag.endHeaders | Flag.padded | Flag.priority, 1, head)
            + frame(Type.data, Flag.padded, 1, [4] + Array("hello".utf8) + [0, 0, 0, 0])
            + frame(Type.data, Flag.padded | Flag.end, 1, [0])
        for split in 0...bytes.count {
            let server = Endpoint.started(.server)
            let events = server.receive(Array(bytes[..<split])) + server.receive(Array(bytes[split...]))
            #expect(events.first == "head 1" && events.last == "data 1 0 last", "split at \(split)")
            #expect(server.received[1] == Array("hello".utf8))
        }
    }

    @Test("RFC 9113, 4.3 and 6.10: a block in pieces is one block") func continuations() {
        let whole = block(get + [("x-long", String(repeating: "a", count: 300))])
        let bytes =
            frame(Type.headers, Flag.end, 1, Array(whole[..<3])) + frame(Type.continuation, 0, 1)
            + frame(Type.continuation, 0, 1, Array(whole[3..<50]))
            + frame(Type.continuation, Flag.endHeaders, 1, Array(whole[50...]))
        for split in 0...bytes.count {
            let server = Endpoint.started(.server)
            let events = server.receive(Array(bytes[..<split])) + server.receive(Array(bytes[split...]))
            #expect(events == ["head 1 last"] && server.lastFields.count == 5)
        }
    }

    @Test("RFC 9113, 4.3: long heads go out in frames that the peer takes") func longHeadsAreDivided() throws {
        let client = Endpoint.started(.client)
        let server = Endpoint.started(.server)
        let long = get + [("x-long", String(repeating: "~", count: 50_000))]
        _ = try client.open(long)
        let bytes = client.takeOutput()
        #expect(bytes.count > 3 * 16_384 && server.receive(bytes) == ["head 1 last"])
        #expect(server.lastFields.last?.value.utf8.count == 50_000)
    }
}
