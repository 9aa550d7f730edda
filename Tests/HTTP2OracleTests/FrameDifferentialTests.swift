/// Whole connections, our machine beside swift-nio-http2's: random frames in any order, some of them mutated, for a
/// server and for a client. Frame by frame both must tell the same and send the same, or the difference is one of those
/// that are explained here.
import HTTP2Wire
import NIOCore
import NIOEmbedded
import NIOHPACK
import NIOHTTP2
import TestSupport
import Testing

@Suite struct FrameDifferentialTests {
    @Test(arguments: [HTTP2Machine.Role.server, .client]) func bothSayTheSame(_ role: HTTP2Machine.Role) throws {
        var generator = SeededGenerator()
        var (same, different) = (0, 0)
        for _ in 0..<1000 {
            let ours = OurSide(role)
            let theirs = try TheirSide(role)
            defer { theirs.close() }
            var statuses: [UInt32: String] = [:]
            for frame in FrameSource.connection(role, &generator) {
                let step = Step(frame, ours: ours.step(frame), theirs: try theirs.step(frame), theirs.lastError)
                // Its first bit is reserved, and may be mutated.
                let stream = frame.stream & 0x7fff_ffff
                if let status = step.status { statuses[stream] = status }
                if step.ours == step.theirs { same += 1 } else { different += 1 }
                if step.ours != step.theirs, !step.isSameButForItsCode {
                    #expect(step.explanation(role, statuses[stream]) != nil, "\(step)")
                    // The two are in different states from here on.
                    break
                }
                if step.ours.contains(where: { $0.hasPrefix("GOAWAY") }) { break }
            }
        }
        #expect(same > 2000 && different < same / 2, "\(same) \(different)")
    }
}

/// What both made of one frame.
private struct Step: CustomStringConvertible {
    let frame: WireFrame
    let ours: [String]
    let theirs: [String]
    let error: String

    init(_ frame: WireFrame, ours: [String], theirs: [String], _ error: String) {
        (self.frame, self.ours, self.theirs, self.error) = (frame, ours, theirs, error)
    }
    var description: String { "\(frame), ours \(ours), theirs \(theirs) \(error)" }

    /// Of the head that either took.
    var status: String? {
        let head = (ours + theirs).first { $0.contains(" :status=") }
        return head?.split(separator: " ")[2].split(separator: ";").first.map { String($0.dropFirst(8)) }
    }

    /// "GOAWAY 1" as "GOAWAY", "RST_STREAM 1 5" as "RST_STREAM 1".
    private func withoutCodes(_ list: [String]) -> [String] {
        list.map { text in
            let isEnd = text.hasPrefix("GOAWAY") || text.hasPrefix("RST_STREAM")
            return isEnd ? text.split(separator: " ").dropLast().joined(separator: " ") : text
        }
    }

    /// The end of the same stream, or of the connection, with another code. RFC 9113, 5.1, asks for STREAM_CLOSED where
    /// a stream has ended, and 8.1 for PROTOCOL_ERROR where its head is missing; NIO says it the other way round. Two
    /// mistakes in one frame (mutated, or two settings) are found in another order.
    var isSameButForItsCode: Bool { withoutCodes(ours) == withoutCodes(theirs) }

    /// Why the two may part here; nil: they must not.
    func explanation(_ role: HTTP2Machine.Role, _ status: String?) -> String? {
        let ends = { (list: [String], text: String) in list.count == 1 && list[0].hasPrefix(text) }
        if error.hasPrefix("PriorityCycle") { return "NIO keeps RFC 7540's priorities, which RFC 9113 has given up" }
        if error.hasPrefix("IOOnClosedConnection") { return "NIO ends at a GOAWAY when no stream is open" }
        switch frame.type {
        case 7 where ours.filter({ !$0.hasSuffix(" 7") || !$0.hasPrefix("reset") }) == theirs:
            return "NIO tells in another way which streams were not begun"
        case 7 where error.hasPrefix("InvalidStreamIDForPeer"):
            return "a GOAWAY of a stream that cannot be: NIO looks at its number, and we only compare"
        case 2 where ends(ours, "RST_STREAM") && ends(theirs, "GOAWAY 6"):
            return "RFC 9113, 6.3: a PRIORITY of another length is an error of the stream"
        case 10, 12: return "NIO knows ALTSVC and ORIGIN, and looks into them"
        case 5 where ends(ours, "GOAWAY 1"): return "we refuse PUSH_PROMISE without waiting for all of it"
        case 4 where ends(ours, "GOAWAY 3") && theirs.first == "settings":
            return "RFC 9113, 6.9.2: windows are checked also where nothing is to be sent any more"
        case 4 where role == .client && ends(ours, "GOAWAY 1") && theirs.first == "settings":
            return "RFC 9113, 6.5.2: a server that sets ENABLE_PUSH to 1"
        case 8 where theirs.isEmpty && ends(ours, "RST_STREAM"):
            return "RFC 9113, 6.9.1: windows are checked also where nothing is to be sent any more"
        case 1 where frame.flags & 4 == 0 && theirs.isEmpty && ends(ours, "GOAWAY"):
            return "NIO waits for the whole block before it looks"
        case 0, 1, 9: return explanationOfMessages(status)
        default: return nil
        }
    }

    private func explanationOfMessages(_ status: String?) -> String? {
        let hasNoBody = status == "204" || status == "304"
        switch (ours.first ?? "", theirs.first ?? "") {
        case ("GOAWAY 5", ""): return "RFC 9113, 5.1: on a closed stream; NIO remembers some and ignores what comes"
        case ("", let end) where end == "GOAWAY 1" && error.hasPrefix("StreamIDTooSmall"):
            return "RFC 9113, 5.1: on a stream that we have just reset, as malformed; NIO has not kept it"
        case ("", let end) where end.hasPrefix("RST_STREAM") && end.hasSuffix(" 7"):
            return "on a stream that a GOAWAY has ended: NIO resets it, we say nothing more"
        case ("GOAWAY 5", let end) where end.hasPrefix("RST_STREAM") && end.hasSuffix(" 7"):
            return "on a closed stream behind a GOAWAY, which NIO takes for a new one"
        case ("", "GOAWAY 5") where error.hasPrefix("NoSuchStream"):
            return "on a stream that the peer's GOAWAY has ended: we let what comes late pass"
        case (let end, let head) where end.hasPrefix("RST_STREAM") && head.hasPrefix("head") && status == "103":
            return "RFC 9113, 8.1: END_STREAM at an interim response"
        case (let end, let data) where end.hasPrefix("RST_STREAM") && data.hasPrefix("data") && hasNoBody:
            return "RFC 9110, 6.4.1: DATA behind 204 and 304"
        case (_, let end) where end.hasPrefix("RST_STREAM") && error.hasPrefix("ContentLengthViolated") && hasNoBody:
            return "RFC 9113, 8.1.1: 204 and 304 may tell the length of what they do not carry"
        case (let end, let head) where end.hasPrefix("RST_STREAM") && isOdd(head):
            return "we are stricter about what methods, paths, authorities, lengths and values are made of"
        case (let end, "GOAWAY 9") where end.isEmpty || end.hasPrefix("RST_STREAM"):
            return "a field without a name: NIO's decoder refuses it, here the message is malformed"
        default: return nil
        }
    }

    /// A head with something that no head here has unless it was mutated.
    private func isOdd(_ head: String) -> Bool {
        let parts = head.split(separator: " ", maxSplits: 2)
        guard parts.count == 3, parts[0] == "head" else { return false }
        let fields = parts[2].split(separator: ";").map { $0.split(separator: "=", maxSplits: 1) }
        let values = [":path": "/", ":authority": "a", ":scheme": "http", "content-length": "5"]
        return !parts[2].utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f }
            || fields.contains { field in
                let name = String(field.first ?? "")
                let value = field.count == 2 ? String(field[1].prefix { $0 != " " }) : ""
                switch name {
                case ":method": return !["GET", "POST", "HEAD"].contains(value)
                case ":status": return value.count != 3 || !value.allSatisfy(\.isNumber)
                case "x-a", "x-b", "x-trailer": return false
                // Also fields that no frame here has before it is mutated.
                default: return values[name] != value
                }
            }
    }
}

// MARK: The two sides

/// Owners that answer nothing: a server that only listens, a client that has asked three things.
private final class OurSide {
    private var machine: HTTP2Machine
    private var list = FieldList()

    init(_ role: HTTP2Machine.Role) {
        var limits = HTTP2Limits()
        // NIO's handler gives no windows back by itself.
        (limits.connectionWindow, limits.unread) = (65_535, 0)
        machine = HTTP2Machine(role, limits: limits)
        if role == .client {
            for isLast in [true, true, false] {
                var request = FieldList()
                for (name, value) in FrameSource.get { request.append(name, value) }
                _ = try? machine.open(request, isLast: isLast)
            }
        }
        _ = step(bytes: FrameSource.start(role))
    }

    func step(_ frame: WireFrame) -> [String] { step(bytes: frame.bytes) }
    private func step(bytes: [UInt8]) -> [String] {
        var texts: [String] = []
        bytes.withUnsafeBytes { input in
            var at = 0
            while let event = machine.next(input, at: &at, into: &list) {
                switch event {
                case .head(let stream, _, let isLast): texts.append(head(stream, isLast))
                case .interim(let stream, _): texts.append(head(stream, false))
                case .trailers(let stream): texts.append(head(stream, true))
                case .data(let stream, let range, let isLast):
                    texts.append("data \(stream) \(range.count)" + (isLast ? " last" : ""))
                case .malformed(let stream, let fault): machine.reset(stream, fault.code)
                case .reset(let stream, let code): texts.append("reset \(stream) \(code.rawValue)")
                case .goAway(let last, let code): texts.append("goaway \(last) \(code.rawValue)")
                case .settings: texts.append("settings")
                case .pong: texts.append("pong")
                case .failed, .violated, .writable: break
                }
            }
        }
        defer { machine.outputWasTaken() }
        return texts + sentFrames(machine.output.bytes)
    }
    private func head(_ stream: UInt32, _ isLast: Bool) -> String {
        headText(stream, list.fields.map { (list.nameText($0), list.valueText($0)) }, isLast)
    }
}

private func headText(_ stream: UInt32, _ fields: [(String, String)], _ isLast: Bool) -> String {
    "head \(stream) \(fields.map { "\($0.0)=\($0.1)" }.joined(separator: ";"))" + (isLast ? " last" : "")
}

/// The answers among what is sent: acknowledgements, resets, the goodbye.
private func sentFrames(_ bytes: [UInt8]) -> [String] {
    var texts: [String] = []
    var at = 0
    while at + 9 <= bytes.count {
        let length = Int(bytes[at]) << 16 | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2])
        let word = { (offset: Int) in bytes[at + offset..<at + offset + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } }
        switch (bytes[at + 3], bytes[at + 4] & 1) {
        case (3, _): texts.append("RST_STREAM \(word(5)) \(word(9))")
        case (4, 1): texts.append("SETTINGS ACK")
        case (6, 1): texts.append("PING ACK")
        case (7, _): texts.append("GOAWAY \(word(13))")
        default: break
        }
        at += 9 + length
    }
    return texts
}

private final class TheirSide {
    private let channel = EmbeddedChannel()
    var lastError = ""

    init(_ role: HTTP2Machine.Role) throws {
        var connection = NIOHTTP2Handler.ConnectionConfiguration()
        connection.initialSettings = [
            HTTP2Setting(parameter: .maxConcurrentStreams, value: 100),
            HTTP2Setting(parameter: .maxHeaderListSize, value: 60 << 10),
        ]
        connection.maximumSequentialEmptyDataFrames = 8
        if role == .client { connection.initialSettings.append(HTTP2Setting(parameter: .enablePush, value: 0)) }
        try channel.pipeline.syncOperations.addHandler(
            NIOHTTP2Handler(
                mode: role == .server ? .server : .client, connectionConfiguration: connection,
                streamConfiguration: .init()))
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        if role == .client {
            for (index, isLast) in [true, true, false].enumerated() {
                let payload = HTTP2Frame.FramePayload.Headers(headers: HPACKHeaders(FrameSource.get), endStream: isLast)
                try channel.writeOutbound(
                    HTTP2Frame(streamID: HTTP2StreamID(index * 2 + 1), payload: .headers(payload)))
            }
        }
        _ = try step(bytes: FrameSource.start(role))
    }
    func close() { _ = try? channel.finish(acceptAlreadyClosed: true) }

    func step(_ frame: WireFrame) throws -> [String] { try step(bytes: frame.bytes) }
    private func step(bytes: [UInt8]) throws -> [String] {
        lastError = ""
        do { try channel.writeInbound(ByteBuffer(bytes: bytes)) } catch { lastError = "\(error)" }
        channel.embeddedEventLoop.run()
        var texts: [String] = []
        while let frame = try channel.readInbound(as: HTTP2Frame.self) {
            if let text = text(frame) { texts.append(text) }
        }
        var output: [UInt8] = []
        while let buffer = try channel.readOutbound(as: ByteBuffer.self) { output += Array(buffer.readableBytesView) }
        if output.starts(with: FrameSource.preface) { output = Array(output.dropFirst(FrameSource.preface.count)) }
        return texts + sentFrames(output)
    }

    private func text(_ frame: HTTP2Frame) -> String? {
        let stream = UInt32(Int(frame.streamID))
        switch frame.payload {
        case .headers(let payload):
            return headText(stream, payload.headers.map { ($0.name, $0.value) }, payload.endStream)
        case .data(let payload):
            // A frame without data and without an end says nothing.
            if payload.data.readableBytes == 0, !payload.endStream { return nil }
            return "data \(stream) \(payload.data.readableBytes)" + (payload.endStream ? " last" : "")
        case .rstStream(let code): return "reset \(stream) \(code.networkCode)"
        case .goAway(let last, let code, _): return "goaway \(UInt32(Int(last))) \(code.networkCode)"
        case .settings(.settings): return "settings"
        case .ping(_, ack: true): return "pong"
        default: return nil
        }
    }
}
