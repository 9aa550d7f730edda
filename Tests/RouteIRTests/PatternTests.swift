/// The regular expressions: what they mean, that they stay cheap, and what is refused.
import RouteIR
import TestSupport
import Testing

@Suite struct PatternTests {
    private func matches(_ pattern: String, _ text: String) throws -> Bool {
        try Pattern(pattern).matches(Array(text.utf8).span)
    }

    @Test(arguments: [
        ("abc", ["abc"], ["ab", "abcd", "", "xabc"]),
        ("", [""], ["a"]),
        ("a|bc|", ["a", "bc", ""], ["b", "abc"]),
        ("a*b+c?", ["b", "aabbc"], ["a", "ac", "bcc"]),
        ("(ab){2,3}", ["abab", "ababab"], ["ab", "abababab"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaaa"], ["a"]),
        ("a{,2}", ["a{,2}"], ["aa"]),
        ("[a-c-]x", ["ax", "-x"], ["dx"]),
        ("[^/]+", ["abc"], ["a/b", ""]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[[:digit:][:alpha:]]+", ["a1"], ["_"]),
        (#"/v\d+/\w+\.html"#, ["/v12/a_b.html"], ["/v/a.html", "/v1/axhtml"]),
        (".", ["x"], ["\n", "xy"]),
        ("(?s).", ["\n"], [""]),
        ("(?i)AbC", ["abc", "ABC"], ["abd"]),
        ("(?i:a)b", ["Ab", "ab"], ["AB"]),
        ("^/a$", ["/a"], ["/ab"]),
        ("(^|x)a", ["a", "xa"], ["ya"]),
        (#"a\b.*"#, ["a b", "a"], ["ab"]),
        (#"\Qa.b\E+"#, ["a.b", "a.ba.b"], ["axb"]),
        (#"\x2f\x{61}"#, ["/a"], ["/b"]),
        ("(?P<name>a)+", ["aa"], [""]),
        ("(a*)*", ["", "aaa"], ["b"]),
        ("(a|b)*?c", ["abac", "c"], ["ab"]),
        ("ü+", ["ü", "üü"], ["u"]),
    ])
    func meaning(pattern: String, yes: [String], no: [String]) throws {
        for text in yes { #expect(try matches(pattern, text), "\(pattern) must match \(text)") }
        for text in no { #expect(try !matches(pattern, text), "\(pattern) must not match \(text)") }
    }

    @Test(arguments: [
        "(", ")", "a)", "[a", "[b-a]", "*a", "a**", "a{2}{3}", #"\"#, #"\1"#, #"\pL"#, "(?=a)", "(?<!a)", "a{1001}",
        "[ü]", #"\xz"#, #"\x{ff}"#, "(?Pa)", "((a{1000}){1000})", String(repeating: "(", count: 200), "(?i",
        String(repeating: "a", count: 5000),
    ])
    func whatItDoesNotKnowItRefuses(pattern: String) {
        let error = #expect(throws: PatternError.self) { try Pattern(pattern) }
        #expect(error?.description.isEmpty == false)
    }

    @Test func nothingRepeatedIsNothing() throws { #expect(try matches("((((){1000}){1000}){1000}){1000}", "")) }

    /// Where backtracking takes 2^n steps this takes n; the test would not end.
    @Test func evilPatternsStayCheap() throws {
        let text = String(repeating: "a", count: 50_000) + "!"
        for pattern in ["(a+)+", "(a|aa)*", "(a|a?)+", "(.*)*x"] { #expect(try !matches(pattern, text)) }
    }

    @Test func literalBeginningsAreFound() throws {
        #expect(try Pattern("/api/v[0-9]").literalPrefix == Array("/api/v".utf8))
        #expect(try Pattern("^ab?c").literalPrefix == Array("a".utf8))
        #expect(try Pattern("a|b").literalPrefix.isEmpty)
        #expect(try Pattern("(?i)abc").literalPrefix.isEmpty)
    }

    /// Against a matcher that follows the definition: for every way to split the text.
    @Test func agreesWithTheDefinition() throws {
        var samples = Samples(generator: SeededGenerator())
        for _ in 0..<300 {
            let tree = Tree.random(&samples, depth: 3)
            let pattern = try Pattern(tree.source)
            for _ in 0..<10 {
                let text = (0..<samples.number(0...6)).map { _ in samples.pick(["a", "b"]) }.joined()
                let expected = tree.ends(Array(text), from: 0).contains(text.count)
                #expect(pattern.matches(Array(text.utf8).span) == expected, "\(tree.source) on \(text)")
            }
        }
    }
}

private indirect enum Tree {
    case letter(Character)
    case sequence([Tree])
    case choice([Tree])
    case star(Tree)
    case counted(Tree, Int, Int)

    static func random(_ samples: inout Samples, depth: Int) -> Tree {
        guard depth > 0 else { return .letter(samples.pick(["a", "b"])) }
        var parts: [Tree] = []
        for _ in 0..<samples.number(0...3) { parts.append(random(&samples, depth: depth - 1)) }
        switch samples.number(0...4) {
        case 0: return .choice(parts)
        case 1: return .star(.sequence(parts))
        case 2:
            let minimum = samples.number(0...2)
            return .counted(.sequence(parts), minimum, minimum + samples.number(0...2))
        case 3: return .letter(samples.pick(["a", "b"]))
        default: return .sequence(parts)
        }
    }
    var source: String {
        switch self {
        case .letter(let letter): String(letter)
        case .sequence(let parts): parts.map(\.source).joined()
        case .choice(let parts): "(" + parts.map(\.source).joined(separator: "|") + ")"
        case .star(let part): "(\(part.source))*"
        case .counted(let part, let minimum, let maximum): "(?:\(part.source)){\(minimum),\(maximum)}"
        }
    }
    func ends(_ text: [Character], from start: Int) -> Set<Int> {
        switch self {
        case .letter(let letter): return start < text.count && text[start] == letter ? [start + 1] : []
        case .sequence(let parts):
            return parts.reduce([start]) { starts, part in
                Set(starts.flatMap { part.ends(text, from: $0) })
            }
        case .choice(let parts):
            return parts.isEmpty ? [start] : Set(parts.flatMap { $0.ends(text, from: start) })
        case .star(let part):
            var all: Set<Int> = [start]
            var size = 0
            while all.count > size {
                size = all.count
                all.formUnion(all.flatMap { part.ends(text, from: $0) })
            }
            return all
        case .counted(let part, let minimum, let maximum):
            var all: Set<Int> = []
            var reached: Set<Int> = [start]
            for count in 0...maximum {
                if count >= minimum { all.formUnion(reached) }
                reached = Set(reached.flatMap { part.ends(text, from: $0) })
            }
            return all
        }
    }
}
