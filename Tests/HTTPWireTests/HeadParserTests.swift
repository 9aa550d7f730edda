/// What the head parser finds in valid heads, in one piece and split at every byte.
import HTTPWire
import Testing

@Suite struct HeadParserTests {
    @Test func findsThePartsOfARequest() throws {
        let bytes = crlf("POST /a/b?x=1&y HTTP/1.1\nHost: web:80\nX-One:  two \nContent-Length: 5\n\nhello")
        let head = try #require(try parse(bytes))
        #expect(head.method == .post)
        #expect(text(head.methodText, in: bytes) == "POST")
        #expect(text(head.target, in: bytes) == "/a/b?x=1&y")
        #expect(text(head.path, in: bytes) == "/a/b")
        #expect(text(head.query, in: bytes) == "x=1&y")
        #expect(text(head.authority, in: bytes) == "web:80")
        #expect(head.requestBody == .length(5))
        #expect(head.headers.map { text($0.value, in: bytes) } == ["web:80", "two", "5"])
        #expect(head.headers.map(\.known) == [.host, .other, .contentLength])
        #expect(String(decoding: bytes[head.end...], as: UTF8.self) == "hello")
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\nHost: a\n\n", true), ("GET / HTTP/1.1\nHost: a\nConnection: close\n\n", false),
        ("GET / HTTP/1.0\n\n", false), ("GET / HTTP/1.0\nConnection: Keep-Alive\n\n", true),
        ("GET / HTTP/1.1\nHost: a\nConnection: keep-alive, Close\n\n", false),
        ("GET / HTTP/1.1\nHost: a\nConnection: x\nConnection: close\n\n", false),
    ]) func decidesWhetherTheConnectionIsKept(_ request: String, _ keeps: Bool) throws {
        #expect(try #require(try parse(crlf(request))).keepsAlive == keeps)
    }

    @Test(arguments: [
        ("GET http://web/p?q HTTP/1.1\nHost: web\n\n", "/p", "web"),
        ("GET http://WEB HTTP/1.1\nHost: web\n\n", "", "WEB"),
        ("GET http://web/ HTTP/1.1\nHost: other\n\n", "/", "web"),
        ("OPTIONS * HTTP/1.1\nHost: web\n\n", "*", "web"),
        ("CONNECT web:443 HTTP/1.1\nHost: web:443\n\n", "", "web:443"),
        ("\nGET / HTTP/1.1\nHost: [fd00::1]:80\n\n", "/", "[fd00::1]:80"),
    ]) func knowsEveryFormOfTarget(_ request: String, _ path: String, _ authority: String) throws {
        let bytes = crlf(request)
        let head = try #require(try parse(bytes))
        #expect(text(head.path, in: bytes) == path)
        #expect(text(head.authority, in: bytes) == authority)
    }

    @Test(arguments: [
        ("HTTP/1.1 200 OK\nContent-Length: 3\n\n", HTTPMethod.get, BodyFraming.length(3)),
        ("HTTP/1.1 200 OK\nContent-Length: 3\n\n", .head, .none),
        ("HTTP/1.1 200\nContent-Length: 0\n\n", .get, .none), ("HTTP/1.1 200 \n\n", .get, .untilClose),
        ("HTTP/1.1 204 No Content\n\n", .get, .none), ("HTTP/1.1 304 Not Modified\nContent-Length: 9\n\n", .get, .none),
        ("HTTP/1.1 100 Continue\n\n", .post, .none), ("HTTP/1.1 200 OK\n\n", .connect, .none),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n\n", .get, .chunked),
        ("HTTP/1.0 200 OK\n\n", .get, .untilClose),
    ]) func framesAnswers(_ answer: String, _ method: HTTPMethod, _ framing: BodyFraming) throws {
        #expect(try #require(try parse(crlf(answer), as: .response)).responseBody(to: method) == framing)
    }

    /// Long and short ones, the byte at each place.
    @Test(arguments: [1, 7, 8, 9, 16, 17]) func namesAreTokens(length: Int) {
        let others = Array("!#$%&'*+-.^_`|~".utf8)
        for byte in UInt8.min...(.max) {
            let letter = Unicode.Scalar(byte).properties
            let isToken = byte < 128 && (letter.isAlphabetic || letter.numericType == .decimal) || others.contains(byte)
            for place in 0..<length where byte != UInt8(ascii: ":") || place == 0 {
                var name = Array("X-aZ-Name-Of-Some-Field".utf8.prefix(length))
                name[place] = byte
                let bytes = Array("HTTP/1.1 200 OK\r\n".utf8) + name + Array(": value\r\n\r\n".utf8)
                var found: MessageHead?
                do throws(WireViolation) { found = try parse(bytes, as: .response) } catch {}
                #expect((found != nil) == isToken, "\(byte) at \(place)")
            }
        }
    }

    @Test func knowsEachNamedField() throws {
        for name in HeaderName.allCases where name != .other {
            for spelling in [name.text.description, name.text.description.uppercased()] {
                let bytes = crlf("HTTP/1.1 200 OK\n\(spelling)x: chunked\n\(spelling): 1\n\n")
                guard name != .transferEncoding else { continue }
                let head = try #require(try parse(bytes, as: .response))
                #expect(head.headers.map(\.known) == [.other, name], "\(spelling)")
                #expect(text(head.value(name), in: bytes) == "1")
            }
        }
        let bytes = crlf("HTTP/1.1 200 OK\nTRANSFER-ENCODING: chunked\n\n")
        #expect(try #require(try parse(bytes, as: .response)).isChunked)
    }

    @Test func everySplitReadsTheSame() throws {
        let requests = [
            "\nPUT /a?b HTTP/1.1\nHost: web\nUser-Agent: x y\nConnection: x-one, keep-alive\nX-One: 1\n"
                + "Transfer-Encoding: chunked\n\n4;e=1\nabcd\n0\nT: v\n\n",
            "GET / HTTP/1.0\n\n",
        ]
        for request in requests {
            let bytes = crlf(request)
            let whole = try #require(try parse(bytes))
            for split in 1..<whole.end {
                var parser = HeadParser(.request)
                #expect(try !parser.parse(Array(bytes[..<split]).span), "split at \(split)")
                #expect(try parser.parse(bytes.span))
                #expect(parser.head.headers == whole.headers && parser.head.end == whole.end)
            }
            var dribble = HeadParser(.request)
            for end in 1..<whole.end { #expect(try !dribble.parse(Array(bytes[..<end]).span)) }
            #expect(try dribble.parse(Array(bytes[..<whole.end]).span))
            #expect(dribble.head.headers == whole.headers)
        }
    }

    @Test func aParserIsUsedAgain() throws {
        var parser = HeadParser(.request)
        #expect(try parser.parse(crlf("POST /long HTTP/1.1\nHost: a\nContent-Length: 7\n\n").span))
        parser.reset()
        let second = crlf("GET / HTTP/1.1\nHost: b\n\n")
        #expect(try parser.parse(second.span))
        #expect(parser.head.requestBody == .none && text(parser.head.authority, in: second) == "b")
    }

    @Test func limitsAreKept() throws {
        let manyLines = "GET / HTTP/1.1\nHost: a\n" + String(repeating: "x: y\n", count: 100) + "\n"
        #expect(verdict(onRequest: crlf(manyLines)) == 431)
        let huge = crlf("GET / HTTP/1.1\nHost: a\nx: ") + Array(repeating: UInt8(ascii: "a"), count: 1 << 20)
        #expect(verdict(onRequest: huge) == 431)
        #expect(verdict(onRequest: crlf("GET /") + Array(repeating: UInt8(ascii: "a"), count: 20_000)) == 414)
        let names = Array(repeating: UInt8(ascii: "n"), count: 70_000)
        #expect(verdict(onRequest: crlf("GET / HTTP/1.1\nHost: a\n") + names) == 431)
    }
}
