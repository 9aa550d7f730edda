/// The frames of a connection for a differential test: mostly such as a peer would send, in any order, some mutated.
import HTTP2Wire
import TestSupport

/// A frame's bytes as they go over the wire.
struct WireFrame: CustomStringConvertible {
    var type: UInt8
    var flags: UInt8 = 0
    var stream: UInt32
    var payload: [UInt8] = []

    var bytes: [UInt8] {
        let length = payload.count
        return [UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), type, flags]
            + big(stream) + payload
    }
    var description: String { "type \(type) flags \(flags) stream \(stream) \(payload.prefix(40))" }
}

func big(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(24 - 8 * $0)) } }

enum FrameSource {
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    static let get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]

    /// The peer's beginning, and its acknowledgement of our SETTINGS.
    static func start(_ role: HTTP2Machine.Role) -> [UInt8] {
        (role == .server ? preface : []) + [0, 0, 0, 4, 0, 0, 0, 0, 0] + [0, 0, 0, 4, 1, 0, 0, 0, 0]
    }

    static func connection(_ role: HTTP2Machine.Role, _ generator: inout SeededGenerator) -> [WireFrame] {
        var frames: [WireFrame] = []
        var next: UInt32 = 1
        for _ in 0..<Int.random(in: 3...14, using: &generator) {
            frames += role == .server ? forServer(&next, &generator) : forClient(&generator)
        }
        for index in frames.indices where Int.random(in: 0..<25, using: &generator) == 0 {
            mutate(&frames[index], &generator)
        }
        if Int.random(in: 0..<6, using: &generator) == 0, frames.count > 2 {
            let at = Int.random(in: 1..<frames.count, using: &generator)
            frames.swapAt(at, Int.random(in: 0..<frames.count, using: &generator))
        }
        return frames
    }

    private static func pick<Value>(_ values: [Value], _ generator: inout SeededGenerator) -> Value {
        values[Int.random(in: 0..<values.count, using: &generator)]
    }

    /// A stream that is open, may be, or was.
    private static func any(_ next: UInt32, _ generator: inout SeededGenerator) -> UInt32 {
        UInt32.random(in: 0...max(1, next / 2), using: &generator) * 2 + 1
    }

    private static func forServer(_ next: inout UInt32, _ generator: inout SeededGenerator) -> [WireFrame] {
        switch Int.random(in: 0..<10, using: &generator) {
        case 0...3:
            let stream = next
            next += pick([2, 2, 2, 4], &generator)
            let fields =
                get.dropFirst() + pick([[], [("content-length", "5")], [("x-a", "b")], [("te", "x")]], &generator)
            let method = pick(["GET", "POST", "HEAD"], &generator)
            return headers(stream, [(":method", method)] + fields, isLast: Bool.random(using: &generator), &generator)
        case 4: return headers(any(next - 1, &generator), [("x-trailer", "a")], isLast: true, &generator)
        case 5...7: return [data(any(next - 1, &generator), &generator)]
        default: return [control(any(next - 1, &generator), &generator)]
        }
    }

    private static func forClient(_ generator: inout SeededGenerator) -> [WireFrame] {
        let stream = pick([1, 3, 5] as [UInt32], &generator)
        switch Int.random(in: 0..<10, using: &generator) {
        case 0...3:
            let status = pick(["200", "200", "200", "204", "304", "103", "404"], &generator)
            let fields = pick([[], [("content-length", "5")], [("x-a", "b")], [("x-b", "")]], &generator)
            return headers(
                stream, [(":status", status)] + fields, isLast: pick([false, false, true], &generator), &generator)
        case 4: return headers(stream, [("x-trailer", "a")], isLast: true, &generator)
        case 5...7: return [data(stream, &generator)]
        default: return [control(stream, &generator)]
        }
    }

    /// HEADERS whole, padded, with a priority, or with CONTINUATION.
    private static func headers(
        _ stream: UInt32, _ fields: [(String, String)], isLast: Bool, _ generator: inout SeededGenerator
    ) -> [WireFrame] {
        // Each block by a new encoder, which indexes nothing: mutations do not spoil the blocks behind them.
        var list = FieldList()
        for (name, value) in fields { list.append(name, value) }
        var encoder = HTTP2Wire.HPACKEncoder()
        var output = ByteStore()
        encoder.encode(list, to: &output)
        let block = output.bytes
        let end: UInt8 = isLast ? 1 : 0
        switch Int.random(in: 0..<8, using: &generator) {
        case 0: return [WireFrame(type: 1, flags: end | 4 | 8, stream: stream, payload: [3] + block + [0, 0, 0])]
        case 1:
            return [WireFrame(type: 1, flags: end | 4 | 0x20, stream: stream, payload: [0, 0, 0, 0, 9] + block)]
        case 2:
            let cut = Int.random(in: 0...block.count, using: &generator)
            return [
                WireFrame(type: 1, flags: end, stream: stream, payload: Array(block[..<cut])),
                WireFrame(type: 9, flags: 4, stream: stream, payload: Array(block[cut...])),
            ]
        default: return [WireFrame(type: 1, flags: end | 4, stream: stream, payload: block)]
        }
    }

    private static func data(_ stream: UInt32, _ generator: inout SeededGenerator) -> WireFrame {
        let count = pick([0, 1, 2, 5, 5, 100, 16_384], &generator)
        let end: UInt8 = Bool.random(using: &generator) ? 1 : 0
        let body = [UInt8](repeating: 0x61, count: count)
        guard count < 200, Int.random(in: 0..<3, using: &generator) == 0 else {
            return WireFrame(type: 0, flags: end, stream: stream, payload: body)
        }
        return WireFrame(type: 0, flags: end | 8, stream: stream, payload: [2] + body + [0, 0])
    }

    private static func control(_ stream: UInt32, _ generator: inout SeededGenerator) -> WireFrame {
        switch Int.random(in: 0..<8, using: &generator) {
        case 0: return WireFrame(type: 2, stream: stream, payload: [0, 0, 0, 0, 7])
        case 1: return WireFrame(type: 3, stream: stream, payload: big(pick([0, 7, 8, 99], &generator)))
        case 2:
            let settings: [(UInt8, UInt32)] = [
                (1, 0), (1, 4096), (1, 1 << 31), (2, 0), (2, 1), (2, 2), (3, 5), (4, 0), (4, 70_000), (4, 0x7fff_ffff),
                (4, 1 << 31), (5, 16_384), (5, 1), (5, 1 << 24), (6, 100), (8, 1), (8, 2), (9, 9),
            ]
            let chosen = (0..<Int.random(in: 0...2, using: &generator)).map { _ in pick(settings, &generator) }
            return WireFrame(type: 4, stream: 0, payload: chosen.flatMap { [0, $0.0] + big($0.1) })
        case 3:
            return WireFrame(
                type: 6, flags: pick([0, 0, 1], &generator), stream: 0, payload: [1, 2, 3, 4, 5, 6, 7, 8])
        case 4:
            return WireFrame(type: 7, stream: 0, payload: big(pick([0, 1, 3, 0x7fff_ffff], &generator)) + big(0))
        case 5, 6:
            return WireFrame(
                type: 8, stream: pick([0, stream], &generator),
                payload: big(pick([0, 1, 1000, 0x7fff_ffff, 0x8000_0001], &generator)))
        default:
            return WireFrame(type: pick([5, 9, 0x42], &generator), flags: 4, stream: stream, payload: [0, 0, 0, 2])
        }
    }

    private static func mutate(_ frame: inout WireFrame, _ generator: inout SeededGenerator) {
        switch Int.random(in: 0..<6, using: &generator) {
        case 0: frame.flags ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 1: frame.stream = pick([0, 1, 2, 3, 5, 9, 0x8000_0001], &generator)
        case 2: frame.type = UInt8.random(in: 0...10, using: &generator)
        case 3: if !frame.payload.isEmpty { frame.payload.removeLast() }
        case 4: frame.payload.append(UInt8.random(in: 0...255, using: &generator))
        default:
            guard !frame.payload.isEmpty else { return }
            let at = Int.random(in: 0..<frame.payload.count, using: &generator)
            frame.payload[at] = UInt8.random(in: 0...255, using: &generator)
        }
    }
}
