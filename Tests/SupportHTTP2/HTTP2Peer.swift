/// HTTP/2 frame by frame over a blocking socket, so that a test decides each of them. Only header decompression is
/// borrowed; header blocks are written as plain literals.
package import Addressing
import Glibc
import struct NIOCore.ByteBuffer
import struct NIOCore.ByteBufferAllocator
import NIOHPACK
import Synchronization
package import TestSupport

package struct HTTP2TestFrame {
    package var type: UInt8
    package var flags: UInt8
    package var stream: UInt32
    package var payload: [UInt8]
    package var isLast: Bool { flags & 1 != 0 }
}

package final class HTTP2Peer {
    package static let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    package static let data: UInt8 = 0
    package static let headers: UInt8 = 1
    package static let reset: UInt8 = 3
    package static let settings: UInt8 = 4
    package static let ping: UInt8 = 6
    package static let goAway: UInt8 = 7
    package static let windowUpdate: UInt8 = 8
    package static let continuation: UInt8 = 9

    package let descriptor: Int32
    private var buffer: [UInt8] = []
    private var decoder = HPACKDecoder(
        allocator: ByteBufferAllocator(), maxDynamicTableSize: HPACKDecoder.maxDynamicTableSize,
        maxHeaderListSize: 64 << 10)
    /// Gives back the window of what comes.
    package var acknowledges = true

    package init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// The client's preface, which a server reads first.
    package func readPreface() -> Bool {
        while buffer.count < 24 { guard readMore(descriptor, &buffer) else { return false } }
        buffer.removeFirst(24)
        return true
    }

    // MARK: Sending

    package func send(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) {
        deliver(descriptor, frame(type, flags: flags, stream: stream, payload))
    }
    package func frame(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
        let length = payload.count
        return [UInt8(length >> 16), UInt8(length >> 8 & 0xff), UInt8(length & 0xff), type, flags] + word(stream)
            + payload
    }
    package func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }

    /// Literals without indexing and without Huffman's code (RFC 7541, 6.2.2).
    package func block(_ fields: [(String, String)]) -> [UInt8] {
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
    package func sendHeaders(_ stream: UInt32, _ fields: [(String, String)], end: Bool = false) {
        send(Self.headers, flags: end ? 5 : 4, stream: stream, block(fields))
    }
    package func sendData(_ stream: UInt32, _ bytes: [UInt8], end: Bool = false) {
        send(Self.data, flags: end ? 1 : 0, stream: stream, bytes)
    }
    package func sendMaxHeaderList(_ size: UInt32) { send(Self.settings, [0, 6] + word(size)) }
    package func sendReset(_ stream: UInt32, _ code: UInt32) { send(Self.reset, stream: stream, word(code)) }

    // MARK: Receiving

    private func read() -> HTTP2TestFrame? {
        while buffer.count < 9 { guard readMore(descriptor, &buffer) else { return nil } }
        let length = Int(buffer[0]) << 16 | Int(buffer[1]) << 8 | Int(buffer[2])
        while buffer.count < 9 + length { guard readMore(descriptor, &buffer) else { return nil } }
        defer { buffer.removeFirst(9 + length) }
        return HTTP2TestFrame(
            type: buffer[3], flags: buffer[4],
            stream: buffer[5..<9].reduce(0) { $0 << 8 | UInt32($1) } & 0x7fff_ffff,
            payload: Array(buffer[9..<9 + length]))
    }

    /// The next frame that is not housekeeping, which is answered here; nil: the connection has ended. A head comes as
    /// one frame.
    package func next() -> HTTP2TestFrame? {
        while true {
            guard var frame = read() else { return nil }
            let length = frame.payload.count
            switch frame.type {
            case Self.headers:
                while frame.flags & 4 == 0 {
                    guard let more = read(), more.type == Self.continuation else { return nil }
                    frame.payload += more.payload
                    frame.flags |= more.flags & 4
                }
                return frame
            case Self.settings: if frame.flags & 1 == 0 { send(Self.settings, flags: 1) }
            case Self.ping:
                if frame.flags & 1 != 0 { return frame }
                send(Self.ping, flags: 1, frame.payload)
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
    package func fields(_ frame: HTTP2TestFrame) -> [(String, String)] {
        var bytes = ByteBuffer(bytes: frame.payload)
        return (try? decoder.decodeHeaders(from: &bytes))?.map { ($0.name, $0.value) } ?? []
    }
}

/// A backend that speaks HTTP/2 by prior knowledge.
package final class HTTP2TestBackend: Sendable {
    package struct Request: Sendable {
        package var headers: [(String, String)] = []
        package var body: [UInt8] = []
        package var trailers: [(String, String)] = []
        package var connection: Int

        package func header(_ name: String) -> String? { headers.first { $0.0 == name }?.1 }
        package var target: String { header(":path") ?? "" }
    }
    package enum Action: Sendable {
        case reply(Int, [(String, String)] = [], body: String? = nil, trailers: [(String, String)] = [])
        case reset(UInt32)
        /// Nothing more on this connection: streams from this one on were not looked at.
        case goAway
        case silence
    }

    package let name: String
    package var address: SocketAddress { listener.address }
    private let listener: TestListener
    private let respond: @Sendable (Request) -> Action
    private struct State {
        var requests: [Request] = []
        var resets: [UInt32] = []
        var received = 0
    }
    private let state = Mutex(State())
    /// Whether windows are given back: false is a backend that does not read.
    private let acknowledges: Bool
    /// Its SETTINGS_MAX_HEADER_LIST_SIZE.
    private let maxHeaderList: UInt32?

    package var requests: [Request] { state.withLock(\.requests) }
    package var connections: Int { listener.connections }
    /// Codes of the resets that came.
    package var resets: [UInt32] { state.withLock(\.resets) }
    /// Bytes of all bodies.
    package var received: Int { state.withLock(\.received) }

    package init(
        _ name: String, at address: SocketAddress = SocketAddress(IPAddress(v4: 0x7f00_0001), 0),
        acknowledges: Bool = true, maxHeaderList: UInt32? = nil, _ respond: @escaping @Sendable (Request) -> Action
    ) throws {
        self.name = name
        self.respond = respond
        self.acknowledges = acknowledges
        self.maxHeaderList = maxHeaderList
        listener = try TestListener(at: address)
        try listener.start { self.serve($0, $1) }
    }
    /// Says who it is and what it got.
    package convenience init(_ name: String, maxHeaderList: UInt32? = nil) throws {
        try self.init(name, maxHeaderList: maxHeaderList) { request in
            .reply(
                200, [("x-backend", name), ("content-type", "text/plain")],
                body: "\(request.target) \(request.body.count)")
        }
    }
    package func stop() { listener.stop() }
    package func hangUp() { listener.hangUp() }

    private func serve(_ descriptor: Int32, _ connection: Int) {
        let peer = HTTP2Peer(descriptor)
        peer.acknowledges = acknowledges
        guard peer.readPreface() else { return }
        if let maxHeaderList { peer.sendMaxHeaderList(maxHeaderList) } else { peer.send(HTTP2Peer.settings) }
        var requests: [UInt32: Request] = [:]
        while let frame = peer.next() {
            var request = requests[frame.stream] ?? Request(connection: connection)
            switch frame.type {
            case HTTP2Peer.headers:
                let fields = peer.fields(frame)
                if request.headers.isEmpty { request.headers = fields } else { request.trailers = fields }
                if !frame.isLast, request.body.isEmpty, request.header("expect") == "100-continue" {
                    peer.sendHeaders(frame.stream, [(":status", "100")])
                }
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

extension TestListener {
    /// On loopback; every answer is the test's, which gets the head of each request, and its connection's number.
    package static func http2(
        at address: SocketAddress = SocketAddress(IPAddress(v4: 0x7f00_0001), 0),
        settings: @escaping @Sendable (HTTP2Peer, Int) -> [UInt8] = { _, _ in [] },
        _ answer: @escaping @Sendable (HTTP2Peer, HTTP2TestFrame, Int) -> Void
    ) throws -> TestListener {
        let listener = try TestListener(at: address)
        try listener.start { descriptor, connection in
            let peer = HTTP2Peer(descriptor)
            guard peer.readPreface() else { return }
            peer.send(HTTP2Peer.settings, settings(peer, connection))
            while let frame = peer.next() {
                if frame.type == HTTP2Peer.headers { answer(peer, frame, connection) }
            }
        }
        return listener
    }
}
