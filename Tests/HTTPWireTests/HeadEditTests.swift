/// Heads come out as they went in, except for what was changed.
import HTTPWire
import Testing

@Suite struct HeadEditTests {
    private func edited(
        _ text: String, _ change: (inout HeadEdit, MessageHead, UnsafeRawBufferPointer) -> Void
    ) throws -> [UInt8] {
        let bytes = crlf(text)
        let head = try #require(try parse(bytes))
        var edit = HeadEdit()
        var output: [UInt8] = []
        bytes.withUnsafeBytes {
            change(&edit, head, $0)
            edit.write(head, $0, to: &output)
        }
        return output
    }

    @Test func withoutChangesTheBytesStay() throws {
        let text = "GET /x HTTP/1.1\nhost:a\nODD-Case:   v  \n\n"
        #expect(try edited("\n" + text + "body") { _, _, _ in } == crlf(text))
    }

    @Test func linesAreDroppedAndAdded() throws {
        let text = "GET / HTTP/1.1\nA: 1\nHost: h\nB: 2\nb: 3\nC: 4\n\n"
        let output = try edited(text) { edit, head, bytes in
            edit.drop("B", in: head, bytes)
            edit.drop("a", in: head, bytes)
            edit.add("x-new", "1")
            edit.add("x-gone", "1")
            edit.drop("X-Gone", in: head, bytes)
            edit.add("x-last", "é".utf8)
        }
        #expect(output == crlf("GET / HTTP/1.1\nHost: h\nC: 4\nx-new: 1\nx-last: é\n\n"))
    }

    @Test func theStartLineIsReplaced() throws {
        let output = try edited("\nGET /old HTTP/1.0\nHost: h\n\n") { edit, _, _ in
            edit.replaceStartLine(Array("GET /new HTTP/1.1\r\n".utf8))
        }
        #expect(output == crlf("GET /new HTTP/1.1\nHost: h\n\n"))
    }

    @Test(arguments: [
        ("Connection: close\nKeep-Alive: 1\nX: 1\n", "X: 1\n"),
        ("Connection: X-Hop, keep-alive\nX-Hop: 1\nX-Stay: 1\n", "X-Stay: 1\n"),
        ("Proxy-Connection: close\nTE: trailers\n", "TE: trailers\n"),
        ("Connection: TE\nTE: gzip\nUpgrade: h2c\n", ""),
    ]) func hopByHopFieldsAreDropped(_ before: String, _ after: String) throws {
        let output = try edited("GET / HTTP/1.1\nHost: h\n" + before + "\n") { edit, head, bytes in
            edit.dropHopByHop(head, bytes, keepsUpgrade: false)
        }
        #expect(output == crlf("GET / HTTP/1.1\nHost: h\n" + after + "\n"))
    }

    @Test func anUpgradeIsHandedOn() throws {
        let text = "GET / HTTP/1.1\nHost: h\nConnection: keep-alive, Upgrade\nUpgrade: websocket\n\n"
        let output = try edited(text) { edit, head, bytes in
            edit.dropHopByHop(head, bytes, keepsUpgrade: true)
        }
        #expect(output == crlf("GET / HTTP/1.1\nHost: h\nUpgrade: websocket\nconnection: upgrade\n\n"))
    }
}
