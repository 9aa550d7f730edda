/// Cutting bytes into events and objects, wherever the network cuts them.
import TestSupport
import Testing

@testable import PullJSON

@Suite struct FramerTests {
    private func lines(_ text: String, piece: Int, limit: Int = 1000) throws -> (lines: [String], isInside: Bool) {
        var framer = LineFramer(limit: limit)
        var lines: [String] = []
        try push(text, piece) { chunk in
            try framer.push(chunk) { line in
                lines.append(line.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) })
            }
        }
        return (lines, framer.isInsideEvent)
    }
    private func list(_ text: String, piece: Int, limit: Int = 1000) throws -> (pieces: [String], isComplete: Bool) {
        var framer = ListFramer(limit: limit)
        var pieces: [String] = []
        try push(text, piece) { chunk in
            try framer.push(chunk) { kind, bytes in
                let text = bytes.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
                pieces.append((kind == .item ? "item " : "metadata ") + text)
            }
        }
        return (pieces, framer.isComplete)
    }
    private func push(_ text: String, _ piece: Int, _ body: (Span<UInt8>) throws -> Void) throws {
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: piece) {
            try body(Array(bytes[start..<min(start + piece, bytes.count)]).span)
        }
    }

    @Test(arguments: 1...12) func linesInPiecesOfAnySize(piece: Int) throws {
        let (found, isInside) = try lines("one\n\ntwo\u{2028}\u{85}\r\nthree", piece: piece)
        #expect(found == ["one", "two\u{2028}\u{85}\r"])
        #expect(isInside)
    }

    @Test func tooLongLine() throws {
        #expect(try lines(String(repeating: "x", count: 10) + "\n", piece: 3, limit: 10).lines.count == 1)
        #expect(throws: LineFramer.TooLong.self) { try lines(String(repeating: "x", count: 11), piece: 3, limit: 10) }
    }

    @Test(arguments: 1...20) func listsInPiecesOfAnySize(piece: Int) throws {
        let text =
            #" {"kind":"ServiceList", "n":-1.5e3,"b":true ,"metadata":{"resourceVersion":"7","x":["]}"]},"items":"#
            + #"[{"a":"}\"]"}, {"b":[1,{"c":{}}]} ,{}],"after":null} "# + "\n"
        let (pieces, isComplete) = try list(text, piece: piece)
        #expect(
            pieces == [
                #"metadata {"resourceVersion":"7","x":["]}"]}"#, #"item {"a":"}\"]"}"#, #"item {"b":[1,{"c":{}}]}"#,
                "item {}",
            ])
        #expect(isComplete)
        #expect(try !list(String(text.dropLast(3)), piece: piece).isComplete)
        #expect(try list(#"{"items":[],"metadata":{}}"#, piece: piece).pieces == ["metadata {}"])
    }

    @Test("Go writes no items as null", arguments: [1, 100]) func nullItems(piece: Int) throws {
        let (pieces, isComplete) = try list(#"{"metadata":{},"items":null}"#, piece: piece)
        #expect(pieces == ["metadata {}"])
        #expect(isComplete)
    }

    @Test(arguments: [
        "[]", "x", "\"\"", "<html>", "{]", #"{"items":[1]}"#, #"{"items":[{}{}]}"#, #"{"items":[{},]}"#,
        #"{"items":[]"a":1}"#, #"{"items":}"#, #"{"a":1,}"#, #"{"a" 1}"#, "{}x", #"{"\u0061":1}"#,
    ])
    func noLists(text: String) { #expect(throws: ListFramer.Malformed.self) { try list(text, piece: 1) } }

    @Test func aLongKeyIsNoReasonToRefuseAList() throws {
        let text = #"{"items":[{"a":1}],""# + String(repeating: "x", count: 5000) + #"":null,"metadata":{}}"#
        var framer = ListFramer()
        var pieces: [ListFramer.Piece] = []
        try framer.push(Array(text.utf8).span) { piece, _ in pieces.append(piece) }
        #expect(framer.isComplete && pieces == [.item, .metadata])
    }

    @Test func tooLargeItem() {
        let text = #"{"items":[{"a":""# + String(repeating: "x", count: 100) + #""}]}"#
        #expect(throws: ListFramer.Malformed.self) { try list(text, piece: 7, limit: 50) }
    }

    @Test("Random bytes never trap, and a valid list survives any cut") func randomBytes() throws {
        var random = SeededGenerator()
        for _ in 0..<3000 {
            let alphabet = Array(#"{}[]",:\ items0n"#)
            let text = #"{"items":["# + String((0..<40).map { _ in alphabet.randomElement(using: &random) ?? "{" })
            _ = try? list(text, piece: Int.random(in: 1...9, using: &random))
        }
    }
}
