/// Rules of HTTP/2 that a client breaks: the RFC's error, and a name for it in the metrics and in a line of the log.
import Addressing
import HTTP2TestSupport
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct HTTP2FaultTests {
    struct Mistake: CustomStringConvertible, Sendable {
        let frame: @Sendable (HTTP2Peer) -> [UInt8]
        let code: UInt32
        let fault: String
        var description: String { fault }
    }
    static let mistakes = [
        Mistake(frame: { $0.frame(HTTP2Peer.windowUpdate, $0.word(0)) }, code: 1, fault: "zero_window_increment"),
        Mistake(
            frame: { $0.frame(HTTP2Peer.windowUpdate, $0.word(0x7fff_ffff)) }, code: 3, fault: "window_overflow"),
        Mistake(frame: { $0.frame(HTTP2Peer.data) }, code: 1, fault: "bad_stream_id"),
        Mistake(frame: { $0.frame(HTTP2Peer.data, stream: 99) }, code: 1, fault: "unexpected_frame"),
        Mistake(frame: { $0.frame(5, flags: 4, stream: 1, [0, 0, 0, 2]) }, code: 1, fault: "push_refused"),
        Mistake(frame: { $0.frame(HTTP2Peer.settings, [0]) }, code: 6, fault: "bad_frame_size"),
        Mistake(frame: { $0.frame(HTTP2Peer.settings, [0, 4, 0xff, 0, 0, 0]) }, code: 3, fault: "bad_setting"),
        Mistake(
            frame: { $0.frame(HTTP2Peer.headers, flags: 5, stream: 7, [0xff, 0xff, 0xff, 0xff]) }, code: 9,
            fault: "bad_header_block"),
        Mistake(
            frame: { $0.frame(HTTP2Peer.continuation, flags: 4, stream: 7) }, code: 1,
            fault: "unexpected_continuation"),
    ]

    @Test(arguments: mistakes) func mistakesOnTheConnectionAreNamed(_ mistake: Mistake) async throws {
        let backend = try TestBackend("one") { $0.target == "/silent" ? .silence : .reply(200, body: "x") }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            #expect(try client.ask("/").status == 200)
            deliver(client.peer.descriptor, mistake.frame(client.peer))
            client.readToEnd()
            #expect(client.goAway == mistake.code)
            #expect(rig.engine.stats.violations[mistake.fault] == 1, "\(rig.engine.stats.violations)")
            try eventually("the line") { rig.log.records.count == 2 }
            let line = try #require(rig.log.records.last)
            #expect(line.flags == .downstreamProtocolError && line.failure == mistake.fault)
            #expect(line.client.address == IPAddress(v4: 0x7f00_0001))
            // A request under way says it in its own line.
            let other = try rig.connectHTTP2()
            defer { other.hangUp() }
            other.begin("/silent")
            try eventually("the request") { backend.requests.count == 2 }
            deliver(other.peer.descriptor, mistake.frame(other.peer))
            other.readToEnd()
            try eventually("its line") { rig.log.records.count == 3 }
            let cut = try #require(rig.log.records.last)
            #expect(cut.flags == .downstreamProtocolError && cut.failure == mistake.fault)
            #expect(cut.path == "/silent")
        }
    }

    @Test func aMistakeOnAStreamHarmsNoOther() async throws {
        let gate = LoopGate(1)
        let backend = try TestBackend("one") { _ in
            gate.wait()
            return .reply(200, body: "late")
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            let good = client.begin("/good")
            try eventually("the request") { backend.requests.count == 1 }
            let bad = client.begin("/bad", method: "POST", [("content-length", "3")], end: false)
            client.peer.sendData(bad, [1, 2, 3, 4])
            #expect(client.answer(bad)?.reset == 1)
            gate.signal()
            #expect(client.answer(good)?.text == "late")
            try eventually("the lines") { rig.log.records.count == 2 }
            let line = try #require(rig.log.records.first)
            #expect(line.flags == .downstreamProtocolError && line.failure == "content_length_and_data")
            #expect(rig.engine.stats.violations == ["content_length_and_data": 1])
        }
    }

    /// A backend that takes nothing holds up its own request; what others send over the connection has no end.
    @Test func oneSlowBackendHoldsUpNoOtherStream() async throws {
        let slow = try HTTP2TestBackend("slow", acknowledges: false) { _ in .silence }
        let fast = try TestBackend("fast") { .reply(200, body: "\($0.body.count)") }
        defer {
            slow.stop()
            fast.stop()
        }
        let rules = [rule(RouteMatch(path: .prefix("/slow")), to: [("slow", 1)]), rule(to: [("fast", 1)])]
        try await ProxyRig.with(rules, [upstream("slow", [slow]), upstream("fast", [fast])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            // The proxy's windows hold once they are acknowledged, which the client does while it reads.
            #expect(try client.ask("/").status == 200)
            let window = [UInt8](repeating: 1, count: 16384)
            for stream in (0..<3).map({ _ in client.begin("/slow", method: "POST", end: false) }) {
                for _ in 0..<16 { client.peer.sendData(stream, window) }
            }
            for _ in 0..<16 {
                let stream = client.begin("/fast", method: "POST", end: false)
                for number in 1...16 { client.peer.sendData(stream, window, end: number == 16) }
                #expect(client.answer(stream)?.text == "262144")
            }
        }
    }
}
