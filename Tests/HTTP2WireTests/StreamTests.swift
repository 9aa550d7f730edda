/// The life of streams (RFC 9113, 5.1), of settings and of connections.
@testable import HTTP2Wire
import Testing

@Suite struct StreamTests {
    @Test("RFC 9113, 5.1: both sides end, and nothing is left") func streamsEnd() throws {
        let server = Endpoint.started(.server)
        #expect(server.receive(headers(1, end: false, post)) == ["head 1"])
        #expect(server.receive(data(1, "a") + data(1, "", end: true)) == ["data 1 1", "data 1 0 last"])
        try server.respond(1, isLast: false)
        #expect(try server.send(1, Array("abc".utf8), isLast: true) == 3)
        #expect(server.sent() == ["HEADERS 1", "DATA 1 3 end"] && server.streamCount == 0)
        // What may still come from a peer that has not seen the end.
        #expect(server.receive(window(1, 5) + reset(1)) == [] && server.sent() == [])
        #expect(throws: SendRefusal.closed) { try server.respond(1) }
        // And what may not.
        #expect(server.receive(data(1, "x")) == ["violated 5 frame_on_closed_stream"])
        #expect(server.sent() == ["GOAWAY 1 5"])
    }

    @Test("RFC 9113, 5.1: a response before the request's end") func earlyResponses() throws {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, end: false, post))
        try server.respond(1)
        #expect(server.streamCount == 1 && server.receive(data(1, "x")) == ["data 1 1"])
        server.machine.reset(1, .noError)
        #expect(server.sent() == ["HEADERS 1 end", "RST_STREAM 1 0"])
        #expect(server.receive(data(1, "y") + headers(1, [("a", "b")]) + data(1, "z")) == [])
        #expect(server.receive(headers(3, get)) == ["head 3 last"])
    }

    @Test("RFC 9113, 5.1.1: lower numbers are used up, also those that were left out") func lowerStreamsAreClosed() {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(5, get))
        #expect(server.receive(window(3, 1) + reset(3)) == [])
        #expect(server.receive(headers(3, get)) == ["violated 1 bad_stream_id"])
        // Of those that were used, in contrast, it is known that they are over.
        let other = Endpoint.started(.server)
        _ = other.receive(headers(5, get) + headers(7, get))
        try? other.respond(5)
        #expect(other.receive(headers(5, get)) == ["violated 5 frame_on_closed_stream"])
    }

    @Test("RFC 9113, 5.1: HEADERS behind the peer's own RST_STREAM") func framesBehindAReset() {
        let server = Endpoint.started(.server)
        #expect(server.receive(headers(1, end: false, post) + reset(1)) == ["head 1", "reset 1 8"])
        #expect(server.receive(headers(1, [("a", "b")])) == ["violated 5 frame_on_closed_stream"])
    }

    @Test("RFC 9113, 4.3 and 5.1: heads on streams we have reset keep the table in order") func lateHeadsAreDecoded() {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, end: false, post))
        server.machine.reset(1, .cancel)
        let indexed = hex("4001 6101 62")
        #expect(server.receive(frame(Type.headers, 5, 1, indexed)) == [])
        #expect(server.receive(frame(Type.headers, 5, 3, block(get) + hex("be"))) == ["head 3 last"])
        #expect(server.lastFields.last == TextField("a", "b"))
    }

    @Test("RFC 9113, 5.1: so many resets are remembered, and no more") func resetsAreRemembered() {
        var limits = HTTP2Limits()
        limits.rememberedResets = 2
        let server = Endpoint.started(.server, limits: limits)
        for stream in [1, 3, 5] as [UInt32] {
            _ = server.receive(headers(stream, end: false, post))
            server.machine.reset(stream, .cancel)
        }
        #expect(server.receive(data(3, "x") + data(5, "x")) == [])
        #expect(server.receive(data(1, "x")) == ["violated 5 frame_on_closed_stream"])
    }

    @Test("a client that has reset more streams than it remembers takes what comes late for harmless")
    func aSharedConnectionOutlivesManyResets() throws {
        var limits = HTTP2Limits()
        limits.rememberedResets = 2
        let client = Endpoint.started(.client, limits: limits)
        for _ in 0..<3 { client.machine.reset(try client.open(), .cancel) }
        #expect(client.receive(headers(1, [(":status", "200")]) + data(1, "x")) == [])
        #expect(try client.open() == 7)
    }

    @Test("RFC 9113, 5.1.2: more streams than we allow are refused, and no harm is done") func streamsAreLimited()
        throws
    {
        var limits = HTTP2Limits()
        limits.streams = 2
        let server = Endpoint.started(.server, limits: limits)
        #expect(
            server.receive(headers(1, get) + headers(3, get) + headers(5, end: false, post) + data(5, "x"))
                == ["head 1 last", "head 3 last", "failed 5 7 too_many_streams"])
        #expect(server.sent() == ["RST_STREAM 5 7"])
        try server.respond(1)
        #expect(server.receive(headers(7, get)) == ["head 7 last"])
        let client = Endpoint.started(.client)
        #expect(client.receive(settings((3, 1))) == ["settings"])
        _ = try client.open()
        #expect(throws: SendRefusal.tooManyStreams) { try client.open() }
        #expect(client.receive(headers(1, [(":status", "200")])) == ["head 1 200 last"])
        #expect(try client.open() == 3)
    }

    @Test("RFC 9113, 6.5.3: settings are acknowledged, and hold from then on") func settingsAreAcknowledged() throws {
        var limits = HTTP2Limits()
        limits.headerTable = 0
        let server = Endpoint(.server, limits: limits)
        let indexed = frame(Type.headers, 5, 1, block(get) + hex("4001 6101 62"))
        #expect(server.receive(preface + settings() + indexed) == ["settings", "head 1 last"])
        // RFC 7541, 4.2: the first block afterwards says that the table is smaller.
        #expect(server.receive(frame(Type.settings, Flag.ack, 0)) == [])
        #expect(server.receive(frame(Type.headers, 5, 3, hex("20") + block(get))) == ["head 3 last"])
        let other = Endpoint(.server, limits: limits)
        _ = other.receive(preface + settings() + frame(Type.settings, Flag.ack, 0))
        #expect(other.receive(headers(1, get)) == ["violated 9 bad_header_block"])
        // The peer's limit on our table.
        let client = Endpoint.started(.client)
        _ = client.receive(settings((1, 0)))
        _ = client.sent()
        _ = try client.open()
        #expect(client.takeOutput()[9] == 0x20)
    }

    @Test("RFC 9113, 6.7: PING is answered with what it says") func pings() {
        let server = Endpoint.started(.server)
        #expect(server.receive(frame(Type.ping, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8])) == [])
        #expect(server.takeOutput() == frame(Type.ping, Flag.ack, 0, [1, 2, 3, 4, 5, 6, 7, 8]))
        server.machine.ping(7)
        #expect(server.takeOutput() == frame(Type.ping, 0, 0, [0, 0, 0, 0, 0, 0, 0, 7]))
        #expect(server.receive(frame(Type.ping, Flag.ack, 0, [0, 0, 0, 0, 0, 0, 0, 7])) == ["pong 7"])
    }

    @Test("RFC 9113, 6.8: a goodbye in two steps loses no request") func goodbyeInTwoSteps() throws {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, get))
        server.machine.beginShutdown()
        #expect(server.sent() == ["GOAWAY 2147483647 0"] && !server.isFinished)
        // Under way when we said so.
        #expect(server.receive(headers(3, get)) == ["head 3 last"])
        server.machine.finishShutdown()
        #expect(server.sent() == ["GOAWAY 3 0"])
        #expect(server.receive(headers(5, end: false, post) + data(5, "x")) == [] && server.streamCount == 2)
        try server.respond(1)
        try server.respond(3)
        #expect(server.sent() == ["HEADERS 1 end", "HEADERS 3 end"] && server.isFinished)
    }

    @Test("RFC 9113, 6.8: requests behind a GOAWAY were not looked at") func goodbyeOfAServer() throws {
        let client = Endpoint.started(.client)
        for _ in 0..<3 { _ = try client.open() }
        #expect(client.receive(frame(Type.goAway, 0, 0, number(0x7fff_ffff) + number(0))) == ["goAway 2147483647 0"])
        #expect(throws: SendRefusal.goingAway) { try client.open() }
        #expect(
            client.receive(frame(Type.goAway, 0, 0, number(1) + number(0) + [1, 2, 3]))
                == ["goAway 1 0", "reset 3 7", "reset 5 7"])
        // What a server says of streams that it has not begun, as it says, is nobody's, and harms no other.
        #expect(client.receive(headers(3, end: false, [(":status", "200")]) + data(3, "x") + reset(5)) == [])
        #expect(!client.isFinished)
        #expect(client.receive(headers(1, [(":status", "200")])) == ["head 1 200 last"] && client.isFinished)
        #expect(client.receive(frame(Type.goAway, 0, 0, number(3) + number(0))) == ["violated 1 goaway_raised"])
    }

    @Test("RFC 9113, 5.1 and 8.4: a client opens streams, and its server does not") func onlyClientsOpen() throws {
        let client = Endpoint.started(.client)
        #expect(client.receive(headers(2, [(":status", "200")])) == ["violated 1 bad_stream_id"])
        let other = Endpoint.started(.client)
        #expect(other.receive(headers(1, [(":status", "200")])) == ["violated 1 bad_stream_id"])
        let server = Endpoint.started(.server)
        #expect(throws: SendRefusal.goingAway) { try server.open() }
    }

    @Test("RFC 9113, 5.1.1: numbers run out, and then another connection is needed") func numbersRunOut() throws {
        let client = Endpoint.started(.client)
        client.machine.lastOwnStream = 0x7fff_fffd
        #expect(try client.open() == 0x7fff_ffff)
        #expect(!client.acceptsStreams)
        #expect(throws: SendRefusal.goingAway) { try client.open() }
        #expect(client.receive(headers(0x7fff_ffff, [(":status", "200")])) == ["head 2147483647 200 last"])
    }

    @Test func whatIsMalformedIsNotSent() throws {
        let client = Endpoint.started(.client)
        #expect(throws: SendRefusal.malformed(.badPath)) { try client.open([(":method", "GET"), (":scheme", "http")]) }
        #expect(throws: SendRefusal.malformed(.connectionField)) { try client.open(get + [("upgrade", "x")]) }
        #expect(client.sent() == [] && client.streamCount == 0)
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, get))
        #expect(throws: SendRefusal.malformed(.badStatus)) { try server.respond(1, [("a", "b")]) }
        #expect(throws: SendRefusal.malformed(.badStatus)) { try server.respond(1, [(":status", "103")]) }
        #expect(throws: SendRefusal.wrongState) { try server.send(1, [1]) }
        #expect(throws: SendRefusal.wrongState) { try server.machine.sendTrailers(1, fields([("a", "b")])) }
        try server.respond(1, [(":status", "103")], isLast: false)
        try server.respond(1, isLast: false)
        #expect(throws: SendRefusal.wrongState) { try server.respond(1) }
        try server.machine.sendTrailers(1, fields([("a", "b")]))
        #expect(server.sent() == ["HEADERS 1", "HEADERS 1", "HEADERS 1 end"])
    }
}
