/// Answers that go wrong after their beginning: the client must see that what it has is not the whole.
import Addressing
import Glibc
import HTTP2TestSupport
import RouteIR
import Synchronization
import Testing
import TestSupport

@testable import Proxy

/// A backend that answers any request with these bytes, and resets the connection once it may.
private final class RawBackend: Sendable {
    let listener: TestListener
    private let allowedResets = Mutex(0)

    init(_ answer: String) throws {
        listener = try TestListener(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        try listener.start { descriptor, number in
            var buffer: [UInt8] = []
            while readMessage(descriptor, &buffer) != nil {
                deliver(descriptor, answer)
                try? eventually("the permission") { self.allowedResets.withLock { $0 } >= number }
                var now = linger(l_onoff: 1, l_linger: 0)
                setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
                return
            }
        }
    }
    var upstream: Upstream {
        Upstream(id: upstreamID("cart"), endpoints: [Endpoint(listener.address)])
    }
    /// The connection that came last has carried what it should.
    func reset() { allowedResets.withLock { $0 = listener.connections } }
}

@Suite struct BrokenAnswerTests {
    private static let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    private static let open = "HTTP/1.1 200 OK\r\n\r\nabc"

    /// Reads to the end: the bytes, and whether it was a reset. `body`: called once some of it has come.
    private func readToEnd(_ client: TestClient, _ body: () -> Void = {}) -> (text: String, isReset: Bool) {
        var bytes: [UInt8] = []
        errno = 0
        while readMore(client.descriptor, &bytes) {
            if bytes.firstRange(of: Array("abc".utf8)) != nil { body() }
            errno = 0
        }
        let isReset = errno == ECONNRESET
        #expect(errno != EAGAIN, "the connection goes on")
        return (String(decoding: bytes, as: UTF8.self), isReset)
    }

    @Test(arguments: [
        (chunked + "zz\r\n", false), (chunked + "3\r\nabcd\r\n", false), (chunked + "3\r\nab", true),
        (chunked + "0\r\nX\r\n\r\n", false), (chunked + "0\r\nContent-Length: 3\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", true), (open, true),
    ]) func isCutVisibly(_ answer: String, _ resets: Bool) async throws {
        let backend = try RawBackend(answer)
        defer { backend.listener.stop() }
        let reset = { if resets { backend.reset() } }
        try await ProxyRig.with(nil, [backend.upstream]) { rig in
            // HTTP/1.1: the head came and the end did not; where only the connection's end would tell, it is a reset.
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let (text, isReset) = readToEnd(client, reset)
            #expect(text.hasPrefix("HTTP/1.1 200 OK\r\n"), "\(text)")
            #expect(!text.hasSuffix("0\r\n\r\n"), "\(text)")
            if answer.hasPrefix(Self.open) { #expect(isReset) }
            // HTTP/1.0 has but the connection's end.
            if answer.contains("chunked") {
                let old = try rig.connect()
                old.send("GET / HTTP/1.0\r\n\r\n")
                #expect(readToEnd(old, reset).isReset)
            }
            let modern = try rig.connectHTTP2()
            defer { modern.hangUp() }
            let stream = modern.begin("/")
            if resets { #expect(modern.partial(stream, bytes: 3)?.status == 200) }
            reset()
            let cut = modern.answer(stream)
            #expect(cut?.status == 200 && cut?.reset == 2, "\(String(describing: cut))")
            try eventually("the records") {
                !rig.log.records.isEmpty
                    && rig.log.records.allSatisfy { $0.flags == .upstreamProtocolError || $0.flags == .upstreamReset }
            }
        }
    }

    @Test func anOrderlyEndIsTheEnd() async throws {
        let backend = try TestBackend("one") { _ in .raw(Self.open, closes: true) }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let (text, isReset) = readToEnd(client)
            #expect(text.hasSuffix("\r\n\r\nabc") && !isReset)
            let modern = try rig.connectHTTP2()
            defer { modern.hangUp() }
            let answer = try modern.ask("/")
            #expect(answer.text == "abc" && answer.reset == nil)
        }
    }

    @Test func theProxysOwnEndIsNotTheAnswers() async throws {
        let backend = try RawBackend(Self.open)
        defer { backend.listener.stop() }
        let rig = try await ProxyRig(nil, [backend.upstream])
        let client = try rig.connect()
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        var bytes: [UInt8] = []
        while bytes.firstRange(of: Array("abc".utf8)) == nil, readMore(client.descriptor, &bytes) {}
        await rig.engine.shutdown()
        #expect(readToEnd(client).isReset)
    }

    /// Of HTTP/2: a body without a head, pseudo-fields behind it, a second head, a length that does not hold, a reset.
    @Test(arguments: 0..<5) func brokenStreamsAreNoticed(_ fault: Int) async throws {
        let listener = try TestListener.http2 { peer, frame, _ in
            if fault > 0 {
                let length = fault == 3 ? [("content-length", "9")] : []
                peer.sendHeaders(frame.stream, [(":status", "200")] + length)
            }
            peer.sendData(frame.stream, Array("abc".utf8), end: fault == 3)
            switch fault {
            case 1: peer.sendHeaders(frame.stream, [(":status", "200")], end: true)
            case 2: peer.sendHeaders(frame.stream, [(":status", "200")])
            case 4: peer.sendReset(frame.stream, 2)
            default: break
            }
        }
        defer { listener.stop() }
        var broken = Upstream(id: upstreamID("cart"), endpoints: [Endpoint(listener.address)])
        broken.wire = .h2c
        try await ProxyRig.with(nil, [broken]) { rig in
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            let text = readToEnd(client).text
            let isCut = text.hasPrefix("HTTP/1.1 200 OK\r\n") && !text.hasSuffix("0\r\n\r\n") && text != ""
            #expect(fault == 0 ? text.hasPrefix("HTTP/1.1 50") : isCut, "\(text)")
            let modern = try rig.connectHTTP2()
            defer { modern.hangUp() }
            let answer = try modern.ask("/")
            #expect(fault == 0 ? answer.status >= 500 : answer.status == 200 && answer.reset == 2, "\(answer)")
        }
    }
}
