/// HTTP/2 frame by frame over a blocking socket, so that a test decides each of them. Only header decompression is
/// borrowed; header blocks are written as plain literals.
import Addressing
import Glibc
import struct NIOCore.ByteBuffer
import struct NIOCore.ByteBufferAllocator
import NIOHPACK
import Synchronization
import TestSupport

struct HTTP2TestFrame {
    var type: UInt8
    var flags: UInt8
    var stream: UInt32
    var payload: [UInt8]
    var isLast: Bool { flags & 1 != 0 }
}

final class HTTP2Peer {
    static let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    static let data: UInt8 = 0
    static let headers: UInt8 = 1
    static let reset: UInt8 = 3
    static let settings: UInt8 = 4
    static let ping: UInt8 = 6
    static let goAway: UInt8 = 7
    static let windowUpdate: UInt8 = 8
    static let continuation: UInt8 = 9

    let descriptor: Int32
    private var buffer: [UInt8] = []
    private var decoder = HPACKDecoder(allocator: ByteBufferAllocator())
    /// Gives back the window of what comes.
    var acknowledges = true

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// The client's preface, which a server reads first.
    func readPreface() -> Bool {
        while buffer.count < 24 { guard readMore(descriptor, &buffer) else { return false } }
        buffer.removeFirst(24)
        return true
    }

    // MARK: Sending

    func send(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) {
        deliver(descriptor, frame(type, flags: flags, stream: stream, payload))
    }
    func frame(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
        let length = payload.count
        return [UInt8(length >> 16), UInt8(length >> 8 & 0xff), UInt8(length & 0xff), type, flags] + word(stream)
            + payload
    }
    func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }

    /// Literals without indexing and without Huffman's code (RFC 7541, 6.2.2).
    func block(_ fields: [(String, String)]) -> [UInt8] {
        fields.flatMap { [0] + text($0.0) + text($0.1) }
    }
    private func text(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        guard bytes.count >= 127 else { return [UInt8(bytes.count)] + bytes }
        var rest = bytes.count - 127
        var length: [UInt8] = [127]
        while rest >= 128 {
            length.append(UInt8(rest & 127 | 128))
            rest >>= 7
        }
        return length + [UInt8(rest)] + bytes
    }
    func sendHeaders(_ stream: UInt32, _ fields: [(String, String)], end: Bool = false) {
        send(Self.headers, flags: end ? 5 : 4, stream: stream, block(fields))
    }
    func sendData(_ stream: UInt32, _ bytes: [UInt8], end: Bool = false) {
        send(Self.data, flags: end ? 1 : 0, stream: stream, bytes)
    }
    func sendReset(_ stream: UInt32, _ code: UInt32) { send(Self.reset, stream: stream, word(code)) }

    // MARK: Receiving

    /// The next frame that is not housekeeping, which is answered here; nil: the connection has ended.
    func next() -> HTTP2TestFrame? {
        while true {
            while buffer.count < 9 { guard readMore(descriptor, &buffer) else { return nil } }
            let length = Int(buffer[0]) << 16 | Int(buffer[1]) << 8 | Int(buffer[2])
            while buffer.count < 9 + length { guard readMore(descriptor, &buffer) else { return nil } }
            let frame = HTTP2TestFrame(
                type: buffer[3], flags: buffer[4],
                stream: buffer[5..<9].reduce(0) { $0 << 8 | UInt32($1) } & 0x7fff_ffff,
                payload: Array(buffer[9..<9 + length]))
            buffer.removeFirst(9 + length)
            switch frame.type {
            case Self.settings: if frame.flags & 1 == 0 { send(Self.settings, flags: 1) }
            case Self.ping: if frame.flags & 1 == 0 { send(Self.ping, flags: 1, frame.payload) }
            case Self.windowUpdate: break
            case Self.data:
                if acknowledges, length > 0 {
                    send(Self.windowUpdate, word(UInt32(length)))
                    if !frame.isLast { send(Self.windowUpdate, stream: frame.stream, word(UInt32(length))) }
                }
                return frame
            default: return frame
            }
        }
    }
    func fields(_ frame: HTTP2TestFrame) -> [(String, String)] {
        var bytes = ByteBuffer(bytes: frame.payload)
        return (try? decoder.decodeHeaders(from: &bytes))?.map { ($0.name, $0.value) } ?? []
    }
}

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
    /// Code of the goodbye.
    private(set) var goAway: UInt32?

    init(_ to: SocketAddress) throws {
        socket = try TestClient(to)
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
            if !ended.contains(frame.stream) { answer.reset = frame.payload.reduce(0) { $0 << 8 | UInt32($1) } }
            ended.insert(frame.stream)
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

/// A backend that speaks HTTP/2 by prior knowledge.
final class HTTP2TestBackend: Sendable {
    struct Request: Sendable {
        var headers: [(String, String)] = []
        var body: [UInt8] = []
        var trailers: [(String, String)] = []
        var connection: Int

        func header(_ name: String) -> String? { headers.first { $0.0 == name }?.1 }
        var target: String { header(":path") ?? "" }
    }
    enum Action: Sendable {
        case reply(Int, [(String, String)] = [], body: String? = nil, trailers: [(String, String)] = [])
        case reset(UInt32)
        /// Nothing more on this connection: streams from this one on were not looked at.
        case goAway
        case silence
    }

    let name: String
    let address: SocketAddress
    private let listener: Int32
    private let respond: @Sendable (Request) -> Action
    private struct State {
        var requests: [Request] = []
        var connections = 0
        var resets: [UInt32] = []
        var open: [Int32] = []
        var received = 0
    }
    private let state = Mutex(State())
    /// Whether windows are given back: false is a backend that does not read.
    private let acknowledges: Bool

    var requests: [Request] { state.withLock(\.requests) }
    var connections: Int { state.withLock(\.connections) }
    /// Codes of the resets that came.
    var resets: [UInt32] { state.withLock(\.resets) }
    /// Bytes of all bodies.
    var received: Int { state.withLock(\.received) }

    init(
        _ name: String, acknowledges: Bool = true, _ respond: @escaping @Sendable (Request) -> Action
    ) throws {
        self.name = name
        self.respond = respond
        self.acknowledges = acknowledges
        (listener, address) = try listen(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        try startThread { self.accept() }
    }
    /// Says who it is and what it got.
    convenience init(_ name: String) throws {
        try self.init(name) { request in
            .reply(
                200, [("x-backend", name), ("content-type", "text/plain")],
                body: "\(request.target) \(request.body.count)")
        }
    }
    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        hangUp()
        close(listener)
    }
    func hangUp() { for descriptor in state.withLock(\.open) { shutdown(descriptor, Int32(SHUT_RDWR)) } }

    private func accept() {
        while true {
            let descriptor = Glibc.accept(listener, nil, nil)
            guard descriptor >= 0 else { return }
            let number = state.withLock { state in
                state.connections += 1
                state.open.append(descriptor)
                return state.connections
            }
            do { try startThread { self.serve(descriptor, number) } } catch { return }
        }
    }

    private func serve(_ descriptor: Int32, _ connection: Int) {
        defer {
            state.withLock { $0.open.removeAll { $0 == descriptor } }
            close(descriptor)
        }
        let peer = HTTP2Peer(descriptor)
        peer.acknowledges = acknowledges
        guard peer.readPreface() else { return }
        peer.send(HTTP2Peer.settings)
        var requests: [UInt32: Request] = [:]
        while let frame = peer.next() {
            var request = requests[frame.stream] ?? Request(connection: connection)
            switch frame.type {
            case HTTP2Peer.headers:
                let fields = peer.fields(frame)
                if request.headers.isEmpty { request.headers = fields } else { request.trailers = fields }
            case HTTP2Peer.data:
                request.body += frame.payload
                state.withLock { $0.received += frame.payload.count }
            case HTTP2Peer.reset:
                state.withLock { $0.resets.append(frame.payload.reduce(0) { $0 << 8 | UInt32($1) }) }
                continue
            default: continue
            }
            requests[frame.stream] = request
            guard frame.isLast else { continue }
            state.withLock { $0.requests.append(request) }
            answer(request, frame.stream, peer)
        }
    }

    private func answer(_ request: Request, _ stream: UInt32, _ peer: HTTP2Peer) {
        switch respond(request) {
        case .reply(let status, let headers, let body, let trailers):
            let isShort = body == nil && trailers.isEmpty
            peer.sendHeaders(stream, [(":status", "\(status)")] + headers, end: isShort)
            if let body {
                let bytes = Array(body.utf8)
                // Within the frame size every peer takes.
                for start in stride(from: 0, to: bytes.count, by: 16384) {
                    let end = min(start + 16384, bytes.count)
                    peer.sendData(stream, Array(bytes[start..<end]), end: end == bytes.count && trailers.isEmpty)
                }
                if bytes.isEmpty, trailers.isEmpty { peer.sendData(stream, [], end: true) }
            }
            if !trailers.isEmpty { peer.sendHeaders(stream, trailers, end: true) }
        case .reset(let code): peer.sendReset(stream, code)
        case .goAway: peer.send(HTTP2Peer.goAway, peer.word(stream > 1 ? stream - 2 : 0) + peer.word(0))
        case .silence: break
        }
    }
}
