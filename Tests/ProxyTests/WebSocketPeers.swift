/// Both ends of a WebSocket's tunnel in either version of HTTP, so that a test is written once for all pairs of them.
import Addressing
import Glibc
import HTTP2TestSupport
import HTTPWire
import RouteIR
import Synchronization
import TestSupport

@testable import Proxy

enum WebSocketVersion: CaseIterable, CustomStringConvertible, Sendable {
    case http1, http2
    var description: String { self == .http1 ? "HTTP/1.1" : "HTTP/2" }
}

/// Client and backend.
struct WebSocketPair: CustomStringConvertible, Sendable {
    let client: WebSocketVersion
    let backend: WebSocketVersion
    var description: String { "\(client) to \(backend)" }

    static let all = WebSocketVersion.allCases.flatMap { client in
        WebSocketVersion.allCases.map { WebSocketPair(client: client, backend: $0) }
    }
    static let mixed = all.filter { $0.client == .http2 || $0.backend == .http2 }
}

/// A client's side.
final class WebSocketClient {
    private enum Side {
        case http1(TestClient)
        case http2(HTTP2TestClient, stream: UInt32)
    }
    private let side: Side
    private var taken = 0
    private(set) var status = 0
    private var head: (String) -> String? = { _ in nil }

    /// The example of RFC 6455, 1.3.
    static let key = "dGhlIHNhbXBsZSBub25jZQ=="
    static let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

    /// `early`: behind the head, before there is an answer.
    init(
        _ rig: ProxyRig, _ version: WebSocketVersion, _ path: String = "/echo", early: String = "",
        _ headers: [(String, String)] = [], on shared: HTTP2TestClient? = nil
    ) throws {
        let headers = [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")] + headers
        switch version {
        case .http1:
            let client = try rig.connect()
            side = .http1(client)
            let lines = headers.map { "\($0.0): \($0.1)\r\n" }.joined()
            client.send(
                "GET \(path) HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    + "Sec-WebSocket-Key: \(Self.key)\r\n\(lines)\r\n" + early)
        case .http2:
            let client = try shared ?? rig.connectHTTP2()
            let stream = client.begin(path, method: "CONNECT", [(":protocol", "websocket")] + headers, end: false)
            side = .http2(client, stream: stream)
            if !early.isEmpty { client.peer.sendData(stream, Array(early.utf8)) }
        }
    }

    /// Waits for the head of the answer; its status. 101 and 200 both say that the tunnel is there.
    @discardableResult func open() -> Int {
        switch side {
        case .http1(let client):
            let answer = client.answer()
            status = answer?.status ?? 0
            head = { answer?.header($0) }
        case .http2(let client, let stream):
            let answer = client.partial(stream)
            status = answer?.status ?? 0
            head = { answer?.header($0) }
        }
        return status
    }
    var isOpen: Bool { if case .http1 = side { status == 101 } else { status == 200 } }
    func header(_ name: String) -> String? { head(name) }
    /// Of an answer that opens no tunnel, which is not `open`ed.
    func refusal() -> (status: Int, text: String)? {
        switch side {
        case .http1(let client): client.answer().map { ($0.status, $0.text) }
        case .http2(let client, let stream): client.answer(stream).map { ($0.status, $0.text) }
        }
    }

    func send(_ text: String) {
        switch side {
        case .http1(let client): client.send(text)
        case .http2(let client, let stream): client.peer.sendData(stream, Array(text.utf8))
        }
    }
    func receive(_ count: Int) -> String? {
        switch side {
        case .http1(let client): return client.bytes(count)
        case .http2(let client, let stream):
            guard let answer = client.partial(stream, bytes: taken + count), answer.body.count >= taken + count else {
                return nil
            }
            defer { taken += count }
            return String(decoding: answer.body[taken..<taken + count], as: UTF8.self)
        }
    }
    func endOutput() {
        switch side {
        case .http1(let client): client.endOutput()
        case .http2(let client, let stream): client.peer.sendData(stream, [], end: true)
        }
    }
    func reset() {
        switch side {
        case .http1(let client): client.reset()
        case .http2(let client, let stream): client.peer.sendReset(stream, 8)
        }
    }
    func hangUp() {
        switch side {
        case .http1(let client): client.hangUp()
        case .http2(let client, _): client.hangUp()
        }
    }
    /// What still comes, and how it ends: nil in order, else the code of the reset (of TCP: 0).
    func rest() -> (text: String, reset: UInt32?) {
        switch side {
        case .http1(let client):
            let text = client.rest()
            return (text, errno == ECONNRESET ? 0 : nil)
        case .http2(let client, let stream):
            let answer = client.answer(stream)
            return (String(decoding: answer?.body.dropFirst(taken) ?? [], as: UTF8.self), answer?.reset)
        }
    }
}

/// A backend's side: what it does depends on the path.
final class WebSocketBackend: Sendable {
    struct Seen: Sendable {
        var head = ""
        var received: [UInt8] = []
        /// In order, or by a reset.
        var ended = false
        var wasReset = false
        func header(_ name: String) -> String? {
            head.split(separator: "\r\n").first { $0.lowercased().hasPrefix(name + ":") }
                .map { String($0.dropFirst(name.count + 1).trimmed) }
        }
    }
    let version: WebSocketVersion
    private let listener: TestListener
    private let state = Mutex<[Seen]>([])
    /// What `/gate` waits for.
    let gate = LoopGate(1)
    /// Of HTTP/2: what its SETTINGS say; nil: it has none.
    private let settings: [UInt8]?
    static let offer: [UInt8] = [0, 8, 0, 0, 0, 1]
    /// What `/talk` sends before it ends: within the windows that the proxy begins with.
    static let speech = String(repeating: "0123456789abcdef", count: 12_500)

    var seen: [Seen] { state.withLock { $0 } }
    var connections: Int { listener.connections }
    var upstream: Upstream {
        Upstream(
            id: upstreamID("cart"), wire: version == .http1 ? .http1 : .h2c, endpoints: [Endpoint(listener.address)])
    }

    init(_ version: WebSocketVersion, settings: [UInt8]? = WebSocketBackend.offer) throws {
        self.version = version
        self.settings = settings
        listener = try TestListener(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        try listener.start { descriptor, _ in
            version == .http1 ? self.serveHTTP1(descriptor) : self.serveHTTP2(descriptor)
        }
    }
    func stop() { listener.stop() }

    private func add(_ head: String) -> Int {
        state.withLock { seen in
            seen.append(Seen(head: head))
            return seen.count - 1
        }
    }
    private func note(_ index: Int, _ change: (inout Seen) -> Void) { state.withLock { change(&$0[index]) } }

    // MARK: HTTP/1.1

    private func serveHTTP1(_ descriptor: Int32) {
        var buffer: [UInt8] = []
        guard let (head, _) = readMessage(descriptor, &buffer) else { return }
        let index = add(head)
        let path = String(head.split(separator: " ")[1])
        switch path {
        case "/refuse": return deliver(descriptor, "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        case "/plain": return deliver(descriptor, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        case "/silent": return _ = readMore(descriptor, &buffer)
        case "/gate": gate.wait()
        default: break
        }
        let key = seen[index].header("sec-websocket-key") ?? ""
        let accept = path == "/wrong" ? key : WebSocketHandshake.accept(for: key)
        deliver(
            descriptor,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                + "Sec-WebSocket-Accept: \(accept)\r\nSec-WebSocket-Protocol: chat\r\nX-Backend: one\r\n\r\n")
        switch path {
        case "/talk":
            deliver(descriptor, Self.speech)
            shutdown(descriptor, Int32(SHUT_WR))
        case "/deaf":
            gate.wait()
        default: break
        }
        var chunk = buffer
        while true {
            if !chunk.isEmpty {
                note(index) { $0.received += chunk }
                if path == "/reset" {
                    var now = linger(l_onoff: 1, l_linger: 0)
                    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
                    return
                }
                if path != "/talk" { deliver(descriptor, chunk) }
            }
            chunk = [UInt8](repeating: 0, count: 65536)
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { return note(index) { count == 0 ? ($0.ended = true) : ($0.wasReset = true) } }
            chunk = Array(chunk[..<count])
        }
    }

    // MARK: HTTP/2

    private func serveHTTP2(_ descriptor: Int32) {
        let peer = HTTP2Peer(descriptor)
        // Of each stream for itself: see below.
        peer.acknowledges = false
        guard peer.readPreface() else { return }
        guard let settings else {
            var nothing: [UInt8] = []
            while readMore(descriptor, &nothing) {}
            return
        }
        peer.send(HTTP2Peer.settings, settings)
        var streams: [UInt32: (index: Int, path: String)] = [:]
        while let frame = peer.next() {
            switch frame.type {
            case HTTP2Peer.headers:
                let fields = peer.fields(frame)
                let path = fields.first { $0.0 == ":path" }?.1 ?? ""
                streams[frame.stream] = (add(fields.map { "\($0.0): \($0.1)\r\n" }.joined()), path)
                answer(frame, path, fields, peer)
            case HTTP2Peer.data:
                guard let (index, path) = streams[frame.stream] else { continue }
                let window = peer.word(UInt32(frame.payload.count))
                if !frame.payload.isEmpty {
                    peer.send(HTTP2Peer.windowUpdate, window)
                    if !frame.isLast, path != "/deaf", path != "/mute" {
                        peer.send(HTTP2Peer.windowUpdate, stream: frame.stream, window)
                    }
                }
                note(index) {
                    $0.received += frame.payload
                    if frame.isLast { $0.ended = true }
                }
                switch path {
                case "/reset": peer.sendReset(frame.stream, 8)
                case "/talk", "/mute", "/silent", "/plain", "/refuse", "/deaf": break
                default: peer.sendData(frame.stream, frame.payload, end: frame.isLast)
                }
            case HTTP2Peer.reset:
                if let (index, _) = streams[frame.stream] { note(index) { $0.wasReset = true } }
            default: break
            }
        }
    }
    private func answer(_ frame: HTTP2TestFrame, _ path: String, _ fields: [(String, String)], _ peer: HTTP2Peer) {
        let stream = frame.stream
        if path == "/refuse" || !fields.contains(where: { $0 == (":protocol", "websocket") }) {
            peer.sendHeaders(stream, [(":status", path == "/refuse" ? "403" : "200")])
            return peer.sendData(stream, Array("no".utf8), end: true)
        }
        switch path {
        case "/silent": return
        case "/gate": gate.wait()
        default: break
        }
        peer.sendHeaders(
            stream, [(":status", "200"), ("sec-websocket-protocol", "chat"), ("x-backend", "one")], end: false)
        guard path == "/talk" || path == "/mute" else { return }
        let speech = Array(Self.speech.utf8)
        for start in stride(from: 0, to: speech.count, by: 16384) {
            let end = min(start + 16384, speech.count)
            peer.sendData(stream, Array(speech[start..<end]), end: end == speech.count)
        }
    }
}
