/// The reader against hand-picked texts, and against the oracle on random and damaged ones.
@testable import PullJSON
import TestSupport
import Testing

@Suite struct JSONReaderTests {
    @Test(arguments: [
        "{}", "[]", " [ 1 , -0 , 9223372036854775807 , -9223372036854775808 ] ", "1.5e-3", "9223372036854775808",
        #"{"a":{"b":[{"c":null}]},"a":true}"#, #""\u00e9\ud83d\ude00\/\"\\\b\f\n\r\t""#, "\"\u{2028}\u{85}é😀\"",
        #"{"long key with \u0061n escape":"and a value of more than eight bytes"}"#, "\"\u{7f}\"",
    ])
    func reads(text: String) throws {
        #expect(try readAll(Array(text.utf8)) == #require(JSONOracle.parse(Array(text.utf8))))
        try expectSkippable(Array(text.utf8))
    }

    @Test(arguments: [
        "", " ", "{", "[", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "[1 2]", "01", "-", "1.", ".5", "1e", "+1",
        "tru",
        "nulL", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", #""\ud800""#, #""\udc00""#, #""\ud800\u0041""#,
        #""\ud800\ud800""#, "\"a\nb\"", "{}{}", "[]]", "]", "}", "{]", "[}", "{\"a\":}", "{,}", "[,]", "\u{feff}{}",
        "\u{0}", "NaN", "[1],", "1 x", "{\"a\":1 \"b\":2}",
    ])
    func refuses(text: String) { expectRefused(Array(text.utf8)) }

    @Test("Bytes that are not UTF-8 are refused, also in what is skipped")
    func refusesBadUTF8() {
        let broken: [[UInt8]] = [
            [0x80], [0xc0, 0x80], [0xc1, 0xbf], [0xc2], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80],
            [0xf0, 0x80, 0x80, 0x80],
            [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xff], [0xe2, 0x82], [0xe2, 0x82, 0x22],
        ]
        for bytes in broken { expectRefused([0x22] + bytes + [0x22]) }
    }

    @Test("Nesting is bounded, for reading as for skipping")
    func boundsDepth() throws {
        let deepest = JSONReader.maximumDepth
        let allowed = Array((String(repeating: "[", count: deepest) + String(repeating: "]", count: deepest)).utf8)
        _ = try readAll(allowed)
        try expectSkippable(allowed)
        expectRefused(Array(String(repeating: "[", count: deepest + 1).utf8))
        expectRefused(Array((String(repeating: #"{"a":"#, count: 100_000)).utf8))
    }

    @Test("Skipping mixes objects and lists at every level")
    func skipsDeepMixtures() throws {
        var text = "1"
        for level in 0..<JSONReader.maximumDepth { text = level % 3 == 0 ? "[\(text),2]" : #"{"k":\#(text),"l":{}}"# }
        try expectSkippable(Array(text.utf8))
        expectRefused(Array(text.dropLast().utf8))
    }

    @Test("Random texts, whole and damaged, are judged as the oracle judges them")
    func agreesWithOracle() throws {
        var random = SeededGenerator()
        for _ in 0..<4000 {
            var bytes = Array(randomText(&random, depth: 0).utf8)
            #expect(
                try readAll(bytes) == #require(JSONOracle.parse(bytes)), "\(String(decoding: bytes, as: UTF8.self))")
            for _ in 0..<Int.random(in: 1...3, using: &random) { damage(&bytes, &random) }
            let expected = JSONOracle.parse(bytes)
            #expect((try? readAll(bytes)) == expected, "\(bytes)")
            #expect(isSkippable(bytes) == (expected != nil), "\(bytes)")
        }
    }

    @Test("Keys and strings with escapes are compared by what they say")
    func comparesUnescaped() throws {
        let bytes = Array(#"{"\u006eame":"x"}"#.utf8)
        var reader = JSONReader(bytes.span)
        try reader.enterObject()
        let key = try #require(try reader.nextKey())
        #expect(key.isEscaped)
        #expect(reader.unescapedBytes(of: key) == Array("name".utf8))
        #expect(reader.text(of: key) == "name")
    }
}

private func expectRefused(_ bytes: [UInt8]) {
    #expect(throws: JSONError.self) { try readAll(bytes) }
    #expect(!isSkippable(bytes))
    #expect(JSONOracle.parse(bytes) == nil)
}
private func skipAll(_ bytes: [UInt8]) throws(JSONError) {
    var reader = JSONReader(bytes.span)
    try reader.skipValue()
    try reader.finish()
}
private func expectSkippable(_ bytes: [UInt8]) throws { #expect(throws: Never.self) { try skipAll(bytes) } }
private func isSkippable(_ bytes: [UInt8]) -> Bool { (try? skipAll(bytes)) != nil }

private func randomText(_ random: inout SeededGenerator, depth: Int) -> String {
    func space() -> String {
        String((0..<Int.random(in: 0...2, using: &random)).map { _ in " \n\t\r".randomElement(using: &random)! })
    }
    func list(_ element: () -> String) -> String {
        (0..<Int.random(in: 0...4, using: &random)).map { _ in element() }.joined(separator: space() + ",")
    }
    let body: String
    switch Int.random(in: 0...(depth < 6 ? 8 : 5), using: &random) {
    case 0: body = "null"
    case 1: body = Bool.random(using: &random) ? "true" : "false"
    case 2: body = "\(Int64.random(in: .min ... .max, using: &random))"
    case 3: body = ["0", "-0", "1.25", "-3e7", "2E+4", "12345678901234567890"].randomElement(using: &random)!
    case 4, 5: body = randomString(&random)
    case 6: body = "[" + list { randomText(&random, depth: depth + 1) } + space() + "]"
    default:
        body =
            "{" + list { space() + randomString(&random) + space() + ":" + randomText(&random, depth: depth + 1) }
            + space() + "}"
    }
    return space() + body + space()
}
private func randomString(_ random: inout SeededGenerator) -> String {
    let pieces = [
        "a", "name", "é", "😀", "\u{2028}", #"\n"#, #"\""#, #"\\"#, #"\u0041"#, #"\ud83d\ude00"#, "12345678", " ",
        "kubernetes.io/",
    ]
    return "\""
        + (0..<Int.random(in: 0...6, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined() + "\""
}
private func damage(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
    guard let at = bytes.indices.randomElement(using: &random) else { return }
    switch Int.random(in: 0...3, using: &random) {
    case 0: bytes.remove(at: at)
    case 1: bytes[at] = UInt8.random(in: 0...255, using: &random)
    case 2: bytes.insert(Array("{}[],:\"\\0e.u".utf8).randomElement(using: &random)!, at: at)
    default: bytes.removeSubrange(at...)
    }
}
