/// One side of a connection for tests: a machine whose events are texts, and frames written and read by hand.
import HTTP2Wire
import Testing

enum Type {
    static let data: UInt8 = 0
    static let headers: UInt8 = 1
    static let priority: UInt8 = 2
    static let reset: UInt8 = 3
    static let settings: UInt8 = 4
    static let push: UInt8 = 5
    static let ping: UInt8 = 6
    static let goAway: UInt8 = 7
    static let window: UInt8 = 8
    static let continuation: UInt8 = 9
}
enum Flag {
    static let end: UInt8 = 1
    static let ack: UInt8 = 1
    static let endHeaders: UInt8 = 4
    static let padded: UInt8 = 8
    static let priority: UInt8 = 0x20
}

func number(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(24 - 8 * $0)) } }

func frame(_ type: UInt8, _ flags: UInt8 = 0, _ stream: UInt32, _ payload: [UInt8] = []) -> [UInt8] {
    number(UInt32(payload.count)).dropFirst() + [type, flags] + number(stream) + payload
}
func setting(_ name: UInt8, _ value: UInt32) -> [UInt8] { [0, name] + number(value) }
func settings(_ list: (UInt8, UInt32)...) -> [UInt8] {
    frame(Type.settings, 0, 0, list.flatMap { setting($0.0, $0.1) })
}
func window(_ stream: UInt32, _ increment: UInt32) -> [UInt8] { frame(Type.window, 0, stream, number(increment)) }
func reset(_ stream: UInt32, _ code: UInt32 = 8) -> [UInt8] { frame(Type.reset, 0, stream, number(code)) }
func data(_ stream: UInt32, _ text: String, end: Bool = false) -> [UInt8] {
    frame(Type.data, end ? Flag.end : 0, stream, Array(text.utf8))
}
let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

/// A block that leaves the table alone.
func block(_ fields: [(String, String)]) -> [UInt8] {
    var encoder = HPACKEncoder()
    return encoder.block(of: fields.map { TextField($0.0, $0.1) })
}
func headers(_ stream: UInt32, end: Bool = true, _ fields: [(String, String)]) -> [UInt8] {
    frame(Type.headers, Flag.endHeaders | (end ? Flag.end : 0), stream, block(fields))
}
let get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
let post = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
func fields(_ list: [(String, String)]) -> FieldList { FieldList(list.map { TextField($0.0, $0.1) }) }

final class Endpoint {
    var machine: HTTP2Machine
    var list = FieldList()
    /// Fields of the last head or trailers.
    var lastFields: [TextField] = []
    var received: [UInt32: [UInt8]] = [:]
    /// Each byte of data is consumed as it comes, but for these streams.
    var consumes = true
    var unreadStreams: Set<UInt32> = []
    var whenWritable: (UInt32) -> Void = { _ in }

    init(_ role: HTTP2Machine.Role, limits: HTTP2Limits = HTTP2Limits()) {
        machine = HTTP2Machine(role, limits: limits)
    }

    /// A server that has seen a client's beginning, or a client that has seen a server's; what they said is taken.
    static func started(_ role: HTTP2Machine.Role, limits: HTTP2Limits = HTTP2Limits()) -> Endpoint {
        let endpoint = Endpoint(role, limits: limits)
        _ = endpoint.receive((role == .server ? preface : []) + settings() + frame(Type.settings, Flag.ack, 0))
        _ = endpoint.sent()
        return endpoint
    }

    func receive(_ bytes: [UInt8]) -> [String] {
        var events: [String] = []
        bytes.withUnsafeBytes { input in
            var at = 0
            while let event = machine.next(input, at: &at, into: &list) {
                switch event {
                case .head, .interim, .trailers, .malformed: lastFields = list.texts
                case .data(let stream, let range, _):
                    received[stream, default: []] += Array(input[range])
                    if consumes, !unreadStreams.contains(stream) { machine.consumed(stream, range.count) }
                case .writable(let stream): whenWritable(stream)
                default: break
                }
                events.append(text(event))
            }
            #expect(at == bytes.count)
        }
        return events
    }

    private func text(_ event: HTTP2Event) -> String {
        switch event {
        case .head(let stream, let facts, let isLast):
            "head \(stream)" + (facts.status > 0 ? " \(facts.status)" : "") + (isLast ? " last" : "")
        case .interim(let stream, let facts): "interim \(stream) \(facts.status)"
        case .data(let stream, let range, let isLast): "data \(stream) \(range.count)" + (isLast ? " last" : "")
        case .trailers(let stream): "trailers \(stream)"
        case .malformed(let stream, let fault): "malformed \(stream) \(fault.kind.rawValue)"
        case .reset(let stream, let code): "reset \(stream) \(code.rawValue)"
        case .failed(let stream, let fault): "failed \(stream) \(fault.code.rawValue) \(fault.kind.rawValue)"
        case .writable(let stream): "writable \(stream)"
        case .settings: "settings"
        case .goAway(let last, let code): "goAway \(last) \(code.rawValue)"
        case .pong(let data): "pong \(data)"
        case .violated(let fault): "violated \(fault.code.rawValue) \(fault.kind.rawValue)"
        }
    }

    // `#expect` takes no values that cannot be copied.
    var isFinished: Bool { machine.isFinished }
    var acceptsStreams: Bool { machine.acceptsStreams }
    var streamCount: Int { machine.streamCount }
    var unread: Int { machine.unread }

    func takeOutput() -> [UInt8] {
        defer { machine.outputWasTaken() }
        return machine.output.bytes
    }

    /// The frames that wait in the output, as texts.
    func sent() -> [String] {
        var bytes = takeOutput()[...]
        if bytes.starts(with: preface) { bytes = bytes.dropFirst(preface.count) }
        var frames: [String] = []
        while bytes.count >= 9 {
            let head = Array(bytes.prefix(9))
            let length = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
            let payload = Array(bytes.dropFirst(9).prefix(length))
            bytes = bytes.dropFirst(9 + length)
            let stream = head[5...8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let word = { (at: Int) in payload[at..<at + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } }
            let end = head[4] & Flag.end != 0 ? " end" : ""
            switch head[3] {
            case Type.data: frames.append("DATA \(stream) \(length)" + end)
            case Type.headers: frames.append("HEADERS \(stream)" + end)
            case Type.continuation: frames.append("CONTINUATION \(stream)")
            case Type.reset: frames.append("RST_STREAM \(stream) \(word(0))")
            case Type.settings: frames.append(head[4] & Flag.ack != 0 ? "SETTINGS ACK" : "SETTINGS")
            case Type.ping: frames.append(head[4] & Flag.ack != 0 ? "PING ACK" : "PING")
            case Type.goAway: frames.append("GOAWAY \(word(0)) \(word(4))")
            case Type.window: frames.append("WINDOW_UPDATE \(stream) \(word(0))")
            default: frames.append("type \(head[3])")
            }
        }
        #expect(bytes.isEmpty)
        return frames
    }

    func open(_ list: [(String, String)] = get, isLast: Bool = true) throws -> UInt32 {
        try machine.open(fields(list), isLast: isLast)
    }
    func respond(_ stream: UInt32, _ list: [(String, String)] = [(":status", "200")], isLast: Bool = true) throws {
        try machine.sendHead(stream, fields(list), isLast: isLast)
    }
    func send(_ stream: UInt32, _ bytes: [UInt8], isLast: Bool = false) throws -> Int {
        var refusal: SendRefusal?
        let sent = bytes.withUnsafeBytes { raw in
            do throws(SendRefusal) { return try machine.sendData(stream, raw, isLast: isLast) } catch {
                refusal = error
                return 0
            }
        }
        if let refusal { throw refusal }
        return sent
    }
}
