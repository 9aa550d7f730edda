/// The tricks by which two parsers are brought to see different messages in the same bytes. Each must be refused, with
/// a status and thereby with the end of the connection; none may pass as something harmless.
import HTTPWire
import Testing

@Suite struct SmugglingTests {
    private static let post = "POST / HTTP/1.1\nHost: a\n"

    @Test(arguments: [
        ("CL and TE", post + "Content-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        ("TE and CL", post + "Transfer-Encoding: chunked\nContent-Length: 4\n\n0\n\n", 400),
        ("TE twice", post + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        ("TE chunked, identity", post + "Transfer-Encoding: chunked, identity\n\n0\n\n", 400),
        ("TE identity", post + "Transfer-Encoding: identity\n\n", 400),
        ("TE xchunked", post + "Transfer-Encoding: xchunked\n\n0\n\n", 400),
        ("TE quoted", post + "Transfer-Encoding: \"chunked\"\n\n0\n\n", 400),
        ("TE with parameter", post + "Transfer-Encoding: chunked;q=1\n\n0\n\n", 400),
        ("TE empty", post + "Transfer-Encoding:\n\n", 400),
        ("TE comma before", post + "Transfer-Encoding: ,chunked\n\n0\n\n", 400),
        ("TE comma behind", post + "Transfer-Encoding: chunked,\n\n0\n\n", 400),
        ("TE with vertical tab", post + "Transfer-Encoding: \u{b}chunked\n\n0\n\n", 400),
        ("TE with NUL", post + "Transfer-Encoding: chunked\0\n\n0\n\n", 400),
        ("TE folded", post + "Transfer-Encoding:\n chunked\n\n0\n\n", 400),
        ("TE space before colon", post + "Transfer-Encoding : chunked\n\n0\n\n", 400),
        ("TE tab before colon", post + "Transfer-Encoding\t: chunked\n\n0\n\n", 400),
        ("TE hidden behind a fold", post + "X: y\n Transfer-Encoding: chunked\n\n0\n\n", 400),
        ("TE on HTTP/1.0", "POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        ("TE gzip, chunked", post + "Transfer-Encoding: gzip, chunked\n\n0\n\n", 501),
        ("CL twice, same", post + "Content-Length: 4\nContent-Length: 4\n\nabcd", 400),
        ("CL twice, different", post + "Content-Length: 4\nContent-Length: 5\n\nabcd", 400),
        ("CL as list", post + "Content-Length: 4, 4\n\nabcd", 400),
        ("CL with plus", post + "Content-Length: +4\n\nabcd", 400),
        ("CL with minus", post + "Content-Length: -4\n\nabcd", 400),
        ("CL hexadecimal", post + "Content-Length: 0x4\n\nabcd", 400),
        ("CL with space inside", post + "Content-Length: 4 4\n\nabcd", 400),
        ("CL empty", post + "Content-Length:\n\n", 400),
        ("CL too large", post + "Content-Length: 99999999999999999999\n\n", 400),
        ("CL with underscore in Python's manner", post + "Content-Length: 1_0\n\nabcdefghij", 400),
        ("CL space before colon", post + "Content-Length : 4\n\nabcd", 400),
        ("fold in first header", "GET / HTTP/1.1\n Host: a\n\n", 400),
        ("no colon", post + "Content-Length\n\n", 400),
        ("empty name", post + ": 4\n\n", 400),
        ("name with bracket", post + "Content[Length: 4\n\n", 400),
        ("NUL in value", post + "X: a\0b\n\n", 400),
        ("DEL in value", post + "X: a\u{7f}b\n\n", 400),
        ("control in a long value", post + "X: abcdefghijklm\u{1}opqrstuvwxyz\n\n", 400),
        ("no Host", "GET / HTTP/1.1\n\n", 400),
        ("Host twice", "GET / HTTP/1.1\nHost: a\nHost: a\n\n", 400),
        ("Host empty", "GET / HTTP/1.1\nHost:\n\n", 400),
        ("Host with path", "GET / HTTP/1.1\nHost: a/b\n\n", 400),
        ("Host with user", "GET / HTTP/1.1\nHost: u@a\n\n", 400),
        ("Host with space", "GET / HTTP/1.1\nHost: a b\n\n", 400),
        ("two Hosts behind a target", "GET http://a/ HTTP/1.1\nHost: a\nHost: b\n\n", 400),
        ("no Host behind a target", "GET http://a/ HTTP/1.1\n\n", 400),
        ("user in target", "GET http://u@a/ HTTP/1.1\nHost: a\n\n", 400),
        ("Connection names Host", "GET / HTTP/1.1\nHost: a\nConnection: host\n\n", 400),
        ("Connection names CL", post + "Connection: Content-Length\nContent-Length: 4\n\nabcd", 400),
        ("Connection names TE", post + "Connection: transfer-encoding\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        ("method with brace", "GE{T / HTTP/1.1\nHost: a\n\n", 400),
        ("two spaces", "GET  / HTTP/1.1\nHost: a\n\n", 400),
        ("tab for space", "GET\t/ HTTP/1.1\nHost: a\n\n", 400),
        ("space in target", "GET /a b HTTP/1.1\nHost: a\n\n", 400),
        ("fragment in target", "GET /a#b HTTP/1.1\nHost: a\n\n", 400),
        ("asterisk with GET", "GET * HTTP/1.1\nHost: a\n\n", 400),
        ("no slash", "GET a HTTP/1.1\nHost: a\n\n", 400),
        ("HTTP/0.9", "GET /\n\n", 400),
        ("HTTP/2.0", "GET / HTTP/2.0\nHost: a\n\n", 505),
        ("HTTP/1.2", "GET / HTTP/1.2\nHost: a\n\n", 505),
        ("lower-case http", "GET / http/1.1\nHost: a\n\n", 400),
        ("version with space behind", "GET / HTTP/1.1 \nHost: a\n\n", 400),
        ("unknown expectation", post + "Expect: 200-ok\nContent-Length: 1\n\na", 417),
        ("chunk size empty", post + "Transfer-Encoding: chunked\n\n\n\n", 400),
        ("chunk size 0x", post + "Transfer-Encoding: chunked\n\n0x4\nabcd\n0\n\n", 400),
        ("chunk size with plus", post + "Transfer-Encoding: chunked\n\n+4\nabcd\n0\n\n", 400),
        ("chunk size with minus", post + "Transfer-Encoding: chunked\n\n-4\nabcd\n0\n\n", 400),
        ("chunk size with space", post + "Transfer-Encoding: chunked\n\n4 \nabcd\n0\n\n", 400),
        ("chunk size too long", post + "Transfer-Encoding: chunked\n\n10000000000000004\nabcd\n0\n\n", 400),
        ("chunk longer than said", post + "Transfer-Encoding: chunked\n\n3\nabcd\n0\n\n", 400),
        ("chunk extension with NUL", post + "Transfer-Encoding: chunked\n\n4;a=\0\nabcd\n0\n\n", 400),
        ("trailer names CL", post + "Transfer-Encoding: chunked\n\n0\nContent-Length: 4\n\n", 400),
        ("trailer folded", post + "Transfer-Encoding: chunked\n\n0\nX: y\n z\n\n", 400),
        ("trailer without colon", post + "Transfer-Encoding: chunked\n\n0\nX\n\n", 400),
    ]) func isRefused(_ name: String, _ request: String, _ status: Int) {
        #expect(verdict(onRequest: crlf(request)) == UInt16(status), "\(name)")
    }

    @Test(arguments: [
        ("line feed ends request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("line feed ends header", "GET / HTTP/1.1\r\nHost: a\n\r\n"),
        ("line feed ends head", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("line feed only", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("return in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n"),
        ("return in name", "GET / HTTP/1.1\r\nHost: a\r\nX\r: a\r\n\r\n"),
        ("two returns", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        ("return before value", "GET / HTTP/1.1\r\nHost:\ra\r\n\r\n"),
        (
            "line feed ends chunk size",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n"
        ),
        (
            "line feed ends chunk extension",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n"
        ),
        (
            "line feed ends chunk",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\n0\r\n\r\n"
        ),
        (
            "line feed ends trailer",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n"
        ),
        (
            "return in chunk extension",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;a\rb\r\nabcd\r\n0\r\n\r\n"
        ),
    ]) func lineEndsAreStrict(_ name: String, _ request: String) {
        #expect(verdict(onRequest: Array(request.utf8)) == 400, "\(name)")
    }

    @Test(arguments: [
        "HTTP/1.1 200 OK\nContent-Length: 4\nTransfer-Encoding: chunked\n\n",
        "HTTP/1.1 200 OK\nContent-Length: 4\nContent-Length: 5\n\n",
        "HTTP/1.1 20 OK\n\n", "HTTP/1.1 2000\n\n", "HTTP/2 200 OK\n\n", "<html>", "HTTP/1.1 099 No\n\n",
        "HTTP/1.1 200 OK\nTransfer-Encoding: gzip\n\n", "HTTP/1.1 200 OK\n folded\n\n",
        "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n",
    ]) func badAnswersAreRefused(_ answer: String) {
        #expect(throws: WireViolation.self) { try parse(crlf(answer), as: .response) }
    }

    @Test func whatCannotBeARequestIsRefusedAtItsFirstByte() {
        for byte in [UInt8(0x16), 0x80, 0x00, UInt8(ascii: "(")] {
            #expect(verdict(onRequest: [byte]) == 400)
        }
        #expect(verdict(onRequest: [UInt8(ascii: "G")]) == nil)
    }
}
