/// Documents, their structure, line numbers and every refusal.
import Testing
import YAML

/// A document as Swift-like text, to compare whole structures at a glance.
private func describe(_ node: YAMLNode) -> String {
    switch node.kind {
    case .scalar:
        switch node.scalar {
        case .null?: "null"
        case .bool(let value)?: "\(value)"
        case .int(let value)?: "\(value)"
        case .number?: "number(\(node.text))"
        default: "\"\(node.text)\""
        }
    case .sequence: "[" + node.elements.map(describe).joined(separator: ", ") + "]"
    case .mapping: "{" + node.entries.map { "\($0.key.text): \(describe($0.value))" }.joined(separator: ", ") + "}"
    }
}
private func read(_ text: String, limits: YAMLLimits = YAMLLimits()) throws -> [String] {
    try YAMLStream.documents(in: Array(text.utf8), limits: limits).map { describe($0.root) }
}
private func failure(_ text: String, limits: YAMLLimits = YAMLLimits()) -> YAMLError? {
    do throws(YAMLError) {
        _ = try YAMLStream.documents(in: Array(text.utf8), limits: limits)
        return nil
    } catch {
        return error
    }
}

@Suite struct YAMLStreamTests {
    @Test(arguments: [
        ("a: 1\nb: [x, 'y', \"z\"]\n", ["{a: 1, b: [\"x\", \"y\", \"z\"]}"]),
        ("- a: {}\n- []\n-\n", ["[{a: {}}, [], null]"]),
        ("plain", ["\"plain\""]),
        ("k: |\n  one\n  --- not a marker\n  two\n", ["{k: \"one\n--- not a marker\ntwo\n\"}"]),
        ("k: >-\n  one\n  two\n", ["{k: \"one two\"}"]),
        ("a: &anchor 1\n", ["{a: 1}"]),
        ("\"quoted key\": 'it''s'\n", ["{quoted key: \"it's\"}"]),
        ("k: \"\\u00e9\\n\"\n", ["{k: \"é\n\"}"]),
    ])
    func structure(text: String, expected: [String]) throws {
        #expect(try read(text) == expected)
    }

    @Test(arguments: [
        ("", []), ("\n\n# only a comment\n", []), ("---\n---\n", []), ("--- a\n--- b\n", ["\"a\"", "\"b\""]),
        ("a: 1\n---\n---\nb: 2\n", ["{a: 1}", "{b: 2}"]), ("a: 1\n...\n---\nb: 2\n...\n", ["{a: 1}", "{b: 2}"]),
        ("%YAML 1.1\n---\na: 1\n", ["{a: 1}"]), ("# head\n\n---\na: 1\n---\n# tail\n", ["{a: 1}"]),
        ("a: 1\r\n---\r\nb: 2\r\n", ["{a: 1}", "{b: 2}"]), ("\u{feff}a: 1\n", ["{a: 1}"]),
        ("--- # x\na: 1", ["{a: 1}"]),
    ])
    func documents(text: String, expected: [String]) throws {
        #expect(try read(text) == expected)
    }

    @Test func jsonWithTabs() throws {
        let json = "\t{\n\t\"a\":1,\"b\" :\t[true,null,\"x\\ty\",\"\\/\"],\n\t\"c\":{\"d\":\"e\"}\n}\n"
        #expect(try read(json) == ["{a: 1, b: [true, null, \"x\ty\", \"/\"], c: {d: \"e\"}}"])
    }
    @Test func jsonSurrogatePairs() throws {
        #expect(try read(#"{"a":"\ud83d\ude00 \\ud83d"}"#) == [#"{a: "😀 \ud83d"}"#])
    }

    @Test(arguments: [
        ("null", "null"), ("~", "null"), ("true", "true"), ("False", "false"), ("yes", "\"yes\""), ("on", "\"on\""),
        ("0", "0"), ("-12", "-12"), ("+7", "7"), ("0x1F", "31"), ("0o17", "15"), ("007", "7"), ("\"80\"", "\"80\""),
        ("'true'", "\"true\""), ("1.5", "number(1.5)"), ("1e3", "number(1e3)"), (".5", "number(.5)"),
        ("99999999999999999999", "number(99999999999999999999)"), ("10.0.0.1", "\"10.0.0.1\""), ("-", "[null]"),
        ("12:30", "\"12:30\""), ("0x", "\"0x\""), ("0x-1", "\"0x-1\""), ("1e", "\"1e\""), ("fd00::1", "\"fd00::1\""),
        ("2026-01-01T00:00:00Z", "\"2026-01-01T00:00:00Z\""), (".inf", "number(.inf)"),
    ])
    func coreSchema(text: String, expected: String) throws {
        #expect(try read(text) == [expected])
    }

    @Test func linesCountFromTheStartOfTheText() throws {
        let text = "# one\na: 1\n---\nb:\n  c: |\n    x\n    y\n  d: 2\n"
        let documents = try YAMLStream.documents(in: Array(text.utf8))
        #expect(documents[0].root.line == 2)
        #expect(documents[1].root["b"]?["d"]?.line == 8)
        #expect(failure("a: 1\n---\nb: 2\nc: [\n")?.line == 5)
    }

    @Test func oneBadDocumentDoesNotHideTheNext() throws {
        var stream = try YAMLStream(Array("a: 1\n---\nb: [\n---\nc: 3\n".utf8))
        var seen: [String] = []
        while let next = stream.next() {
            switch next {
            case .success(let document): seen.append(describe(document.root))
            case .failure(let error): seen.append("line \(error.line)")
            }
        }
        #expect(seen == ["{a: 1}", "line 4", "{c: 3}"])
    }

    @Test(arguments: [
        ("a: 1\nb: 2\na: 3\n", 3, "\"a\" is there twice"), ("a: 1\nb: *x\n", 2, "no anchor &x"),
        ("a:\n  <<: *x\n", 2, "no anchor &x"), ("? [1]\n: 2\n", 1, "key must be plain text"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "tab character"), ("a: \"open\n", 2, "not valid YAML"),
        ("a: \u{1}\n", 1, "control characters"),
        ("x: 1\n\n\0\n", 3, "control characters"),
    ])
    func refusals(text: String, line: Int, message: String) throws {
        let error = try #require(failure(text))
        #expect(error.line == line)
        #expect(error.message.contains(message), "\(error.message)")
    }

    @Test func invalidUTF8NamesTheLine() {
        let error = #expect(throws: YAMLError.self) {
            try YAMLStream.documents(in: Array("a: 1\nb: ".utf8) + [0xff, 0xfe])
        }
        #expect(error?.line == 2)
    }
    @Test func manyKeysAreCheckedToo() throws {
        let keys = (0..<500).map { "k\($0): 1\n" }.joined()
        #expect(failure(keys) == nil)
        #expect(failure(keys + "k7: 2\n")?.line == 501)
    }
}
