/// A client of HTTP/2 whose every frame the test decides.
import Addressing
import HTTP2TestSupport
import TestSupport

/// A client's connection.
final class HTTP2TestClient {
    struct Answer {
        var headers: [(String, String)] = []
        var body: [UInt8] = []
        var trailers: [(String, String)] = []
        /// How the stream was reset, if it was.
        var reset: UInt32?

        var status: Int { Int(header(":status") ?? "") ?? 0 }
        var text: String { String(decoding: body, as: UTF8.self) }
        func header(_ name: String) -> String? { headers.first { $0.0 == name }?.1 }
        func trailer(_ name: String) -> String? { trailers.first { $0.0 == name }?.1 }
    }
    private let socket: TestClient
    let peer: HTTP2Peer
    private var nextStream: UInt32 = 1
    private var answers: [UInt32: Answer] = [:]
    private var ended: Set<UInt32> = []
    private var resets: [UInt32: UInt32] = [:]
    private var pongs = 0
    /// Code of the goodbye.
    private(set) var goAway: UInt32?

    init(_ to: SocketAddress, from: IPAddress? = nil) throws {
        socket = try TestClient(to, from: from)
        peer = HTTP2Peer(socket.descriptor)
        deliver(peer.descriptor, HTTP2Peer.preface)
        peer.send(HTTP2Peer.settings)
    }
    func hangUp() { socket.hangUp() }
    func reset() { socket.reset() }

    /// Begins a request; the stream's number.
    @discardableResult
    func begin(
        _ path: String, method: String = "GET", _ headers: [(String, String)] = [], end: Bool = true
    ) -> UInt32 {
        let stream = nextStream
        nextStream += 2
        let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "cart")]
        peer.sendHeaders(stream, pseudo + headers, end: end)
        return stream
    }

    /// Reads until this stream is over; nil: the connection ended before.
    func answer(_ stream: UInt32) -> Answer? {
        while !ended.contains(stream) { guard step() else { return nil } }
        return answers[stream]
    }
    /// Reads until this stream has got its headers, or so many bytes of a body.
    func partial(_ stream: UInt32, bytes: Int = 0) -> Answer? {
        while answers[stream].map({ $0.body.count < bytes || $0.headers.isEmpty }) ?? true, !ended.contains(stream) {
            guard step() else { return nil }
        }
        return answers[stream]
    }
    /// Reads until this stream is reset, also one that has ended.
    func reset(of stream: UInt32) -> UInt32? {
        while resets[stream] == nil { guard step() else { return nil } }
        return resets[stream]
    }
    /// The peer has seen all that was sent before. False: the connection ended first.
    func isAnswered(ping data: [UInt8]) -> Bool {
        let before = pongs
        peer.send(HTTP2Peer.ping, data)
        while pongs == before { guard step() else { return false } }
        return true
    }
    /// Until the connection is closed.
    func readToEnd() { while step() {} }

    private func step() -> Bool {
        guard let frame = peer.next() else { return false }
        var answer = answers[frame.stream] ?? Answer()
        switch frame.type {
        case HTTP2Peer.headers:
            let fields = peer.fields(frame)
            if answer.headers.isEmpty || answer.status < 200 {
                answer.headers = fields
            } else {
                answer.trailers = fields
            }
            if frame.isLast { ended.insert(frame.stream) }
        case HTTP2Peer.data:
            answer.body += frame.payload
            if frame.isLast { ended.insert(frame.stream) }
        case HTTP2Peer.reset:
            let code = frame.payload.reduce(0) { $0 << 8 | UInt32($1) }
            resets[frame.stream] = code
            if !ended.contains(frame.stream) { answer.reset = code }
            ended.insert(frame.stream)
        case HTTP2Peer.ping: pongs += 1
        case HTTP2Peer.goAway: goAway = frame.payload[4..<8].reduce(0) { $0 << 8 | UInt32($1) }
        default: break
        }
        if frame.stream != 0 { answers[frame.stream] = answer }
        return true
    }

    /// One request and its answer.
    func ask(
        _ path: String, method: String = "GET", _ headers: [(String, String)] = [], body: String? = nil,
        trailers: [(String, String)] = []
    ) throws -> Answer {
        let stream = begin(path, method: method, headers, end: body == nil)
        if let body { peer.sendData(stream, Array(body.utf8), end: trailers.isEmpty) }
        if !trailers.isEmpty { peer.sendHeaders(stream, trailers, end: true) }
        guard let answer = answer(stream) else { throw TestFailure("no answer to \(path)") }
        return answer
    }
}
