/// A head of HTTP/2 on its way through the engine's form: what goes out is what came in.
import HTTP2Wire
import HTTPWire
import NIOCore
import Testing

@testable import Proxy

@Suite struct HTTP2HeadsTests {
    private struct Passed {
        let fields: FieldList
        let head: MessageHead
        let text: [UInt8]

        func value(_ name: String) -> [UInt8]? {
            fields.fields.first { fields.nameText($0) == name }.map { fields.withValue($0) { Array($0) } }
        }
        var names: [String] { fields.fields.map(fields.nameText) }
        var secret: [String] { fields.fields.filter { $0.marks.contains(.neverIndexed) }.map(fields.nameText) }
    }

    /// From a client's machine to a server's, and through `HTTP2Heads`.
    private func pass(
        _ extra: [(String, [UInt8], FieldMarks)], hasBody: Bool = false, _ edit: HeadEdit = HeadEdit(),
        secret: FieldName? = nil
    ) throws -> Passed {
        var client = HTTP2Machine(.client)
        var server = HTTP2Machine(.server)
        var fields = FieldList()
        for (name, value) in [(.method, "POST"), (.scheme, "http"), (.path, "/a?b=c")] as [(FieldName, String)] {
            fields.append(name, value, marks: name == secret ? .neverIndexed : [])
        }
        let isOfHost = secret == .host || secret == .authority
        fields.append(secret == .host ? .host : .authority, "cart", marks: isOfHost ? .neverIndexed : [])
        for (name, value, marks) in extra {
            Array(name.utf8).withUnsafeBytes { name in
                value.withUnsafeBytes { fields.append(name, $0, marks: marks) }
            }
        }
        _ = try client.open(fields, isLast: !hasBody)
        var heads = HTTP2Heads()
        var result: Passed?
        try client.output.bytes.withUnsafeBytes { bytes in
            var at = 0
            var received = FieldList()
            while let event = server.next(bytes, at: &at, into: &received) {
                guard case .head(_, let facts, let isLast) = event else { continue }
                let (head, text) = try heads.request(received, facts, hasBody: !isLast)
                let fields = heads.request(head, text, edit, scheme: "http")
                result = Passed(fields: fields, head: head, text: Array(text.readableBytesView))
            }
        }
        return try #require(result)
    }
    private func plain(_ name: String, _ value: String) -> (String, [UInt8], FieldMarks) {
        (name, Array(value.utf8), [])
    }

    @Test func fieldsComeOutAsTheyWentIn() throws {
        let odd: [UInt8] = [0x80, 0xff, 0x20, 0x09, 0xc3, 0x28]
        let passed = try pass([plain("x-one", "1"), ("x-odd", odd, []), plain("te", "trailers"), plain("x-one", "2")])
        #expect(
            passed.names == [":method", ":scheme", ":path", ":authority", "x-one", "x-odd", "te", "x-one"])
        #expect(passed.value("x-odd") == odd && passed.value(":path") == Array("/a?b=c".utf8))
        #expect(passed.value(":authority") == Array("cart".utf8))
    }

    @Test func theHeadSaysWhatItsTextSays() throws {
        for hasBody in [false, true] {
            let passed = try pass(
                [
                    plain("cookie", "a=1"), plain("accept", "*/*"), plain("cookie", "b=2"),
                    plain("content-type", "application/grpc"), plain("expect", "100-continue"),
                ], hasBody: hasBody)
            var parser = HeadParser(.request)
            #expect(try parser.parse(passed.text.span))
            let read = parser.head
            let places = passed.head.headers.map { line in
                var line = line
                line.isSecret = false
                return line
            }
            #expect(read.headers == places && read.end == passed.head.end)
            #expect(read.target == passed.head.target && read.path == passed.head.path)
            #expect(read.query == passed.head.query && read.authority == passed.head.authority)
            #expect(read.isChunked == hasBody && passed.head.isChunked == hasBody && passed.head.expectsContinue)
            #expect(read.method == .post && passed.head.method == .post)
            #expect(passed.value("cookie") == Array("a=1; b=2".utf8))
        }
    }

    /// RFC 7541, 7.1.3: further on as well.
    @Test func whatNoTableMayTakeInStaysSo() throws {
        let passed = try pass([
            ("x-key", Array("secret".utf8), .neverIndexed), plain("x-open", "1"),
            ("cookie", Array("a=1".utf8), .neverIndexed), plain("cookie", "b=2"),
        ])
        #expect(passed.secret == ["x-key", "cookie"])
        #expect(try pass([], secret: .path).secret == [":method", ":path"])
        #expect(try pass([], secret: .method).secret == [":method", ":path"])
        #expect(try pass([], secret: .authority).secret == [":authority"])
        #expect(try pass([], secret: .host).secret == [":authority"])
    }

    @Test func nothingOfAnAnswerThatNoTableMayTakeInLosesThat() throws {
        var client = HTTP2Machine(.client)
        var server = HTTP2Machine(.server)
        var (heads, list, received) = (HTTP2Heads(), FieldList(), FieldList())
        func secret(_ list: FieldList) -> [String] {
            list.fields.filter { $0.marks.contains(.neverIndexed) }.map(list.nameText)
        }
        for (name, value) in [(.method, "GET"), (.scheme, "http"), (.path, "/")] as [(FieldName, String)] {
            list.append(name, value)
        }
        _ = try client.open(list, isLast: true)
        client.output.bytes.withUnsafeBytes { bytes in
            var at = 0
            while server.next(bytes, at: &at, into: &received) != nil {}
        }
        list.removeAll()
        list.append(.status, "299", marks: .neverIndexed)
        list.append("x-open", "1")
        try server.sendHead(1, list, isLast: false)
        list.removeAll()
        list.append("x-open", "1")
        list.append("x-key", "secret", marks: .neverIndexed)
        try server.sendTrailers(1, list)
        var passed: [[String]] = []
        try server.output.bytes.withUnsafeBytes { bytes in
            var at = 0
            while let event = client.next(bytes, at: &at, into: &received) {
                switch event {
                case .head(_, let facts, _):
                    let (head, text) = try heads.response(received, facts, hasBody: true, addsLength: false)
                    heads.setResponse(head, text, HeadEdit())
                    passed.append(secret(heads.list))
                case .trailers:
                    heads.setTrailers(HTTP2Heads.trailers(received))
                    passed.append(secret(heads.list))
                    #expect(heads.list.fields.map(heads.list.valueText) == ["1", "secret"])
                default: break
                }
            }
        }
        #expect(passed == [[":status"], ["x-key"]])
    }

    @Test func editsAreOfBothForms() throws {
        var edit = HeadEdit()
        edit.add("X-New", "1")
        edit.replaceTarget(Array("/new".utf8))
        let passed = try pass([plain("x-one", "1")], edit)
        #expect(passed.names == [":method", ":scheme", ":path", ":authority", "x-one", "x-new"])
        #expect(passed.value(":path") == Array("/new".utf8))
        var text: [UInt8] = []
        passed.text.withUnsafeBytes { edit.write(passed.head, $0, to: &text) }
        #expect(
            String(decoding: text, as: UTF8.self)
                == "POST /new HTTP/1.1\r\nx-one: 1\r\nhost: cart\r\nX-New: 1\r\n\r\n")
    }
}
