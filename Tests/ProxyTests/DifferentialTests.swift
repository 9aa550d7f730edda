/// Our head parser against NIO's (llhttp): what we accept, it reads the same; what it refuses, we refuse. That we are
/// stricter is meant, so the other direction is only checked on valid heads.
import HTTPWire
import NIOCore
import NIOEmbedded
import NIOHTTP1
import Testing
import TestSupport

@Suite struct DifferentialTests {
    private struct Reading: Equatable {
        var method = ""
        var target = ""
        var headers: [String] = []
        var body: [UInt8] = []
    }

    private func ours(_ bytes: [UInt8]) -> Reading? {
        var parser = HeadParser(.request)
        guard (try? parser.parse(bytes.span)) == true else { return nil }
        let head = parser.head
        let text = { (range: ByteRange) in String(decoding: bytes[range.range], as: UTF8.self) }
        var reading = Reading(method: text(head.methodText), target: text(head.target))
        reading.headers = head.headers.map { "\(text($0.name)):\(text($0.value))" }
        var body = BodyReader(head.requestBody)
        let rest = Array(bytes[head.end...])
        let isRead = rest.withUnsafeBytes { raw in
            (try? body.read(raw) { reading.body += raw[$0] }) != nil
        }
        return isRead && body.isComplete ? reading : nil
    }

    private func nios(_ bytes: [UInt8]) -> Reading? {
        let channel = EmbeddedChannel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        do {
            try channel.pipeline.syncOperations.addHandler(ByteToMessageHandler(HTTPRequestDecoder()))
            // What follows the first request may be no request; that is an error of its own.
            _ = try? channel.writeInbound(ByteBuffer(bytes: bytes))
            guard case .head(let head)? = try channel.readInbound(as: HTTPServerRequestPart.self) else { return nil }
            var reading = Reading(method: head.method.rawValue, target: head.uri)
            // llhttp leaves blanks at a value's end in place.
            reading.headers = head.headers.map { name, value in
                "\(name):\(value.trimmingSuffix(while: { $0 == " " || $0 == "\t" }))"
            }
            while let part = try channel.readInbound(as: HTTPServerRequestPart.self) {
                switch part {
                case .body(let bytes): reading.body += bytes.readableBytesView
                case .end: return reading
                case .head: return nil
                }
            }
        } catch {
            return nil
        }
        return nil
    }

    private func randomRequest(_ generator: inout SeededGenerator) -> [UInt8] {
        let pick = { (choices: [String], generator: inout SeededGenerator) in
            choices.randomElement(using: &generator) ?? ""
        }
        var text = pick(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"], &generator) + " "
        text += pick(["/", "/a/b?c=d", "/%20", "/x?y", "/a;b=c,d"], &generator) + " HTTP/1.1\r\nHost: a\r\n"
        for _ in 0..<Int.random(in: 0..<6, using: &generator) {
            text += pick(["X-A", "accept", "Cookie", "x-b3-traceid", "User-Agent"], &generator) + ":"
            text += pick(["", " ", "\t "], &generator) + pick(["1", "a b", "", "q=0.5, *", "\"x\""], &generator)
            text += pick(["", " ", "\t"], &generator) + "\r\n"
        }
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: text += "Content-Length: 5\r\n\r\nhello"
        case 1: text += "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
        default: text += "\r\n"
        }
        return Array(text.utf8)
    }

    @Test func validRequestsReadTheSame() {
        var generator = SeededGenerator()
        for _ in 0..<2000 {
            let bytes = randomRequest(&generator)
            let mine = ours(bytes)
            #expect(mine != nil && mine == nios(bytes), "\(String(decoding: bytes, as: UTF8.self))")
        }
    }

    @Test func whatWeAcceptOfMutatedRequestsReadsTheSame() {
        var generator = SeededGenerator()
        var accepted = 0
        for _ in 0..<20_000 {
            var bytes = randomRequest(&generator)
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes.remove(at: at)
                case 1: bytes[at] = UInt8.random(in: 0...255, using: &generator)
                case 2:
                    bytes.insert([0x20, 0x0a, 0x0d, 0x3a, 0x2c, 0x30].randomElement(using: &generator) ?? 0, at: at)
                default: bytes.insert(bytes[at], at: at)
                }
                if bytes.isEmpty { bytes = [0x47] }
            }
            guard let mine = ours(bytes) else { continue }
            accepted += 1
            guard let theirs = nios(bytes) else {
                // llhttp knows a fixed set of methods; any token is one.
                let knowsMethod = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"].contains(mine.method)
                #expect(!knowsMethod, "NIO refuses: \(String(decoding: bytes, as: UTF8.self).debugDescription)")
                continue
            }
            #expect(mine == theirs, "\(String(decoding: bytes, as: UTF8.self).debugDescription)")
        }
        #expect(accepted > 1000)
    }
}

extension String {
    fileprivate func trimmingSuffix(while isBlank: (Character) -> Bool) -> Substring {
        var rest = self[...]
        while let last = rest.last, isBlank(last) { rest.removeLast() }
        return rest
    }
}
