/// What a peer may do how often: each flood has its end, its code and its label; honest work is not taken for one.
import HTTP2Wire
import Testing

@Suite struct LimitTests {
    /// Repeats until the machine has enough: how often, and what it said.
    private func flood(
        _ server: Endpoint, upTo count: Int = 3000, _ bytes: (UInt32) -> [UInt8]
    ) -> (count: Int, event: String) {
        for round in 0..<count {
            let events = server.receive(bytes(UInt32(round)))
            if let last = events.last, last.hasPrefix("violated") { return (round, last) }
            _ = server.sent()
        }
        return (count, "")
    }

    @Test func rapidResets() {
        let server = Endpoint.started(.server)
        let end = flood(server) { headers($0 * 2 + 1, get) + reset($0 * 2 + 1) }
        #expect(end == (1000, "violated 11 reset_flood"))
        #expect(server.sent().last == "GOAWAY 2001 11")
    }

    @Test("mistakes that make us reset are counted with them", arguments: [0, 1, 2]) func resetsThatAreProvoked(
        _ kind: Int
    ) {
        let server = Endpoint.started(.server)
        let end = flood(server) { round in
            let stream = round * 2 + 1
            switch kind {
            case 0: return headers(stream, end: false, post) + window(stream, 0)
            case 1: return headers(stream, get) + headers(stream, get)
            default: return headers(stream, end: false, post) + headers(stream, end: false, post)
            }
        }
        #expect(end == (1000, "violated 11 reset_flood"))
    }

    @Test func resetsAtAnHonestPaceAreNoFlood() {
        let server = Endpoint.started(.server)
        let end = flood(server, upTo: 5000) { round in
            server.machine.now = round / 30
            return headers(round * 2 + 1, get) + reset(round * 2 + 1)
        }
        #expect(end == (5000, ""))
    }

    @Test(arguments: [
        frame(Type.ping, 0, 0, Array(repeating: 0, count: 8)), settings(), frame(Type.priority, 0, 1, [0, 0, 0, 0, 0]),
        frame(0x42, 0, 0), window(0, 1),
    ]) func controlFrames(_ bytes: [UInt8]) {
        let server = Endpoint.started(.server)
        let end = flood(server) { _ in bytes }
        #expect(end.event == "violated 11 control_frame_flood" && (998...1000).contains(end.count))
        #expect(server.sent().last == "GOAWAY 0 11")
    }

    @Test("a window opened for each frame we send, a PING for each that comes, are no flood") func workExcuses() throws
    {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, end: false, post))
        try server.respond(1, isLast: false)
        for _ in 0..<5000 {
            #expect(try server.send(1, [1]) == 1)
            let ping = frame(Type.ping, 0, 0, Array(repeating: 0, count: 8))
            #expect(server.receive(window(0, 1) + window(1, 1) + data(1, "x") + ping) == ["data 1 1"])
            _ = server.sent()
        }
    }

    /// As gRPC does to measure the path, and as readers do that return the window for each few kilobytes.
    @Test("a PING and many WINDOW_UPDATEs for each frame that a peer only receives are no flood") func honestReceivers()
        throws
    {
        let server = Endpoint.started(.server)
        _ = server.receive(settings((4, 1 << 30)) + window(0, 1 << 30) + headers(1, get))
        try server.respond(1, isLast: false)
        let ping = frame(Type.ping, 0, 0, Array(repeating: 0, count: 8))
        let bytes = Array(repeating: UInt8(0), count: 16_384)
        for _ in 0..<500 {
            #expect(try server.send(1, bytes) == bytes.count)
            let updates = (0..<4).flatMap { _ in window(0, 4096) + window(1, 4096) }
            #expect(server.receive(updates + ping) == [])
            _ = server.sent()
        }
        // All at once, long after: the window that a large answer has used, and its stream is over.
        _ = try server.send(1, Array(repeating: 0, count: 4 << 20), isLast: true)
        #expect(server.streamCount == 0)
        for _ in 0..<1024 { #expect(server.receive(window(0, 4096) + window(1, 4096)) == []) }
    }

    @Test("a window opened byte by byte costs a frame for each; small windows are another thing") func dribble() throws
    {
        func server(_ window: UInt32) throws -> Endpoint {
            let server = Endpoint.started(.server)
            _ = server.receive(settings((4, window)) + headers(1, get))
            try server.respond(1, isLast: false)
            server.whenWritable = { stream in
                _ = try? server.send(stream, Array(repeating: 0, count: 10_000))
            }
            _ = try server.send(1, Array(repeating: 0, count: 10_000))
            _ = server.sent()
            return server
        }
        let end = flood(try server(0)) { _ in window(1, 1) + window(0, 1) }
        #expect(end.event == "violated 11 control_frame_flood" && end.count < 1000)
        #expect(flood(try server(1023)) { _ in window(1, 511) + window(0, 511) } == (3000, ""))
    }

    @Test("a server ends streams as often as we open them") func resetsByAServer() throws {
        let client = Endpoint.started(.client)
        for round in 0..<3000 as Range<UInt32> {
            let stream = try client.open(post, isLast: false)
            let answer = headers(stream, [(":status", "200")]) + reset(stream, 0)
            #expect(client.receive(answer) == ["head \(stream) 200 last", "reset \(stream) 0"], "\(round)")
        }
        #expect(client.streamCount == 0)
        // Also those that we end when its answer has come, while its own end is under way.
        for _ in 0..<3000 {
            let stream = try client.open(post, isLast: false)
            #expect(client.receive(headers(stream, [(":status", "200")])) == ["head \(stream) 200 last"])
            client.machine.reset(stream, .cancel)
            #expect(client.receive(reset(stream, 0)) == [])
        }
        // But not the same one again and again.
        #expect(flood(client, upTo: 20_000) { _ in reset(1) }.event == "violated 11 control_frame_flood")
    }

    @Test("heads of streams that are reset, or behind our GOAWAY, cost us their decoding") func lateHeads() throws {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, end: false, post))
        server.machine.reset(1, .cancel)
        let trailers = flood(server) { _ in headers(1, [("a", "b")]) }
        #expect((1000...1004).contains(trailers.count) && trailers.event == "violated 11 control_frame_flood")
        let other = Endpoint.started(.server)
        other.machine.beginShutdown()
        other.machine.finishShutdown()
        let requests = flood(other) { headers($0 * 2 + 1, get) }
        #expect((998...1000).contains(requests.count) && requests.event == "violated 11 control_frame_flood")
        // What is under way when we end streams is no flood.
        let client = Endpoint.started(.client)
        for _ in 0..<3000 {
            let stream = try client.open()
            client.machine.reset(stream, .cancel)
            let late = headers(stream, end: false, [(":status", "200")]) + headers(stream, [("a", "b")])
            #expect(client.receive(late) == [])
        }
    }

    @Test("RFC 9113, 10.5.1: a block that means far more than we take is not read to its end") func bombs() {
        let server = Endpoint.started(.server)
        let large = [0x40, 1, 0x61, 0x7f, 0xa1, 0x1e] + Array(repeating: UInt8(0x62), count: 4000)
        #expect(server.receive(frame(Type.headers, 5, 1, block(get) + large)) == ["head 1 last"])
        // Four times the limit are read: one that is somewhat too long is only malformed.
        let indices = { (count: Int) in Array(repeating: UInt8(0xbe), count: count) }
        #expect(server.receive(frame(Type.headers, 5, 3, indices(55))) == ["malformed 3 head_too_long"])
        #expect(server.receive(frame(Type.headers, 5, 5, indices(70))) == ["violated 11 header_block_too_long"])
        // Names from the table are copied, too, and inserted again.
        let other = Endpoint.started(.server)
        let name = [0x40, 0x7f, 0xa1, 0x1e] + Array(repeating: UInt8(0x62), count: 4000) + [0]
        _ = other.receive(frame(Type.headers, 5, 1, block(get) + name))
        #expect(
            other.receive(frame(Type.headers, 5, 3, (0..<5000).flatMap { _ in [0x7e, 0] as [UInt8] }))
                == ["violated 11 header_block_too_long"])
    }

    @Test func emptyData() {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, end: false, post))
        let end = flood(server) { _ in data(1, "") }
        #expect(end == (8, "violated 11 empty_data_flood"))
        let other = Endpoint.started(.server)
        _ = other.receive(headers(1, end: false, post))
        #expect(flood(other) { _ in data(1, "") + data(1, "x") } == (3000, ""))
    }

    @Test func continuations() {
        let server = Endpoint.started(.server)
        _ = server.receive(frame(Type.headers, Flag.end, 1, block(get)))
        #expect(flood(server) { _ in frame(Type.continuation, 0, 1) } == (16, "violated 11 continuation_flood"))
        let other = Endpoint.started(.server)
        _ = other.receive(frame(Type.headers, Flag.end, 1, block(get)))
        let long = Array(repeating: UInt8(0x82), count: 16_384)
        #expect(flood(other) { _ in frame(Type.continuation, 0, 1, long) } == (4, "violated 11 header_block_too_long"))
    }

    @Test func interimAnswers() throws {
        let client = Endpoint.started(.client)
        _ = try client.open()
        let interim = headers(1, end: false, [(":status", "103")])
        let events = (0..<17).flatMap { _ in client.receive(interim) }
        #expect(events.last == "failed 1 11 interim_answer_flood" && events.count == 17)
    }

    @Test func aPeerThatDoesNotRead() {
        var limits = HTTP2Limits()
        limits.controlFrames = 100_000
        let server = Endpoint.started(.server, limits: limits)
        let ping = frame(Type.ping, 0, 0, Array(repeating: 0, count: 8))
        for _ in 0..<1024 { #expect(server.receive(ping) == []) }
        #expect(server.receive(ping) == ["violated 11 peer_does_not_read"])
        // One that reads is not.
        let other = Endpoint.started(.server, limits: limits)
        for _ in 0..<5000 {
            #expect(other.receive(ping) == [])
            _ = other.takeOutput()
        }
    }

    @Test func aConnectionAtRestIsSmall() {
        #expect(MemoryLayout<HTTP2Machine>.size <= 768)
        let server = Endpoint.started(.server)
        _ = server.takeOutput()
        #expect(server.machine.output.capacity <= 256)
    }
}
