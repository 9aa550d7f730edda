/// Our connection against swift-nio-http2's: a request that we accept it accepts too and reads the same, and valid ones
/// are accepted by both. That we are stricter about paths, authorities and blanks is meant.
import HTTP2Wire
import NIOCore
import NIOEmbedded
import NIOHPACK
import NIOHTTP2
import TestSupport
import Testing

@Suite struct HeadDifferentialTests {
    private typealias Fields = [(name: String, value: String)]

    private func ours(_ bytes: [UInt8]) -> [String]? {
        var machine = HTTP2Machine(.server)
        var list = FieldList()
        var texts: [String]?
        bytes.withUnsafeBytes { input in
            var at = 0
            while let event = machine.next(input, at: &at, into: &list) {
                if case .head = event { texts = list.fields.map { "\(list.nameText($0)): \(list.valueText($0))" } }
            }
        }
        return texts
    }

    private func nios(_ bytes: [UInt8]) throws -> [String]? {
        let channel = EmbeddedChannel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        try channel.pipeline.syncOperations.addHandler(NIOHTTP2Handler(mode: .server))
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        // A refusal is an error here, and no head below.
        _ = try? channel.writeInbound(ByteBuffer(bytes: bytes))
        while let frame = try channel.readInbound(as: HTTP2Frame.self) {
            if case .headers(let payload) = frame.payload { return payload.headers.map { "\($0.name): \($0.value)" } }
        }
        return nil
    }

    private func connection(_ fields: Fields, isLast: Bool) throws -> [UInt8] {
        var encoder = NIOHPACK.HPACKEncoder(allocator: ByteBufferAllocator())
        var block = ByteBuffer()
        try encoder.encode(headers: HPACKHeaders(fields.map { ($0.name, $0.value) }), to: &block)
        let length = block.readableBytes
        let head = [UInt8(length >> 16), UInt8(length >> 8 & 255), UInt8(length & 255), 1, isLast ? 5 : 4, 0, 0, 0, 1]
        return Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0] + head
            + Array(block.readableBytesView)
    }

    private func valid(_ generator: inout SeededGenerator) -> Fields {
        var fields: Fields = [
            (":method", ["GET", "POST", "PUT"].randomElement(using: &generator) ?? "GET"), (":scheme", "http"),
            (":path", ["/", "/a?b=c"].randomElement(using: &generator) ?? "/"), (":authority", "a:80"),
        ]
        fields.shuffle(using: &generator)
        let more: Fields = [
            ("te", "trailers"), ("cookie", "a=b"), ("x-a", ""), ("user-agent", "x y"), ("content-length", "0"),
            ("accept", "*/*"),
        ]
        for field in more where Bool.random(using: &generator) { fields.append(field) }
        return fields
    }

    @Test func validRequestsReadTheSame() throws {
        var generator = SeededGenerator()
        for _ in 0..<500 {
            let bytes = try connection(valid(&generator), isLast: true)
            let mine = ours(bytes)
            #expect(try mine != nil && mine == nios(bytes))
        }
    }

    @Test func whatWeAcceptOfMutatedRequestsReadsTheSame() throws {
        var generator = SeededGenerator()
        var accepted = 0
        var refused = 0
        for _ in 0..<3000 {
            var fields = valid(&generator)
            for _ in 0..<Int.random(in: 1...2, using: &generator) { mutate(&fields, &generator) }
            let bytes = try connection(fields, isLast: Bool.random(using: &generator))
            guard let mine = ours(bytes) else {
                refused += 1
                continue
            }
            accepted += 1
            #expect(try mine == nios(bytes), "\(fields)")
        }
        #expect(accepted > 300 && refused > 300)
    }

    private func mutate(_ fields: inout Fields, _ generator: inout SeededGenerator) {
        guard !fields.isEmpty else { return }
        let at = Int.random(in: 0..<fields.count, using: &generator)
        let odd: Fields = [
            ("connection", "close"), ("X-A", "b"), (":status", "200"), (":path", "/"), ("te", "gzip"), ("a b", "c"),
            ("upgrade", "h2c"), ("content-length", "3"), ("x", "a\nb"), (":x", "y"), ("x", "é"), ("x-ok", "ok"),
            ("keep-alive", "1"), ("transfer-encoding", "chunked"), ("host", "a:80"), ("", "x"),
        ]
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: fields.remove(at: at)
        case 1: fields.insert(fields[at], at: Int.random(in: 0...fields.count, using: &generator))
        case 2: fields[at].value = ["", " ", "*", "/\u{1}", "x", "CONNECT"].randomElement(using: &generator) ?? ""
        case 3: fields.swapAt(at, Int.random(in: 0..<fields.count, using: &generator))
        default: fields.insert(odd.randomElement(using: &generator) ?? ("x", "y"), at: at)
        }
    }
}
