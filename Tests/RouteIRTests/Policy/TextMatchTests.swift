/// What texts and paths of policies match.
import RouteIR
import Testing

@Suite struct TextMatchTests {
    private func holds(_ match: TextMatch?, _ value: String, ignoresCase: Bool = false) -> Bool? {
        match?.matches(value.utf8Span.span, ignoresCase: ignoresCase)
    }

    @Test(arguments: [
        ("abc", ["abc"], ["", "ab", "abcd", "ABC"]),
        ("abc*", ["abc", "abcd"], ["ab", "xabc"]),
        ("*abc", ["abc", "xabc"], ["abcd", "bc"]),
        ("*", ["a", "*"], [""]),
        ("a*c", ["a*c"], ["abc"]),
        ("*b*", ["xb*"], ["abc"]),
    ])
    func texts(pattern: String, yes: [String], no: [String]) {
        for value in yes { #expect(holds(TextMatch(pattern), value) == true, "\(value)") }
        for value in no { #expect(holds(TextMatch(pattern), value) == false, "\(value)") }
    }

    @Test(arguments: [
        ("/t/{*}/end", ["/t/1/end"], ["/t//end", "/t/1/2/end", "/t/end", "/t/1/end/", "/t/1/endx"]),
        ("/{*}", ["/a"], ["/", "/a/", "/a/b", ""]),
        ("/a/{**}", ["/a/", "/a/b", "/a/b/c/"], ["/a", "/ab"]),
        ("/a/{*}/{**}", ["/a/b/", "/a/b/c"], ["/a/b", "/a//c"]),
        ("/{**}/end", ["/x/end", "/x/y/end", "//end"], ["/end", "/x/end/"]),
        ("/plain", ["/plain"], ["/plain/"]),
        ("/in{brace}", ["/in{brace}"], ["/inx"]),
    ])
    func paths(pattern: String, yes: [String], no: [String]) {
        for value in yes { #expect(holds(TextMatch(path: pattern), value) == true, "\(value)") }
        for value in no { #expect(holds(TextMatch(path: pattern), value) == false, "\(value)") }
    }

    @Test(arguments: ["/a{*}", "a/{*}", "/{**}/{*}", "/{**}/{**}", "/{*}/b*", "/{*}/{x}"])
    func noTemplate(text: String) {
        #expect(TextMatch(path: text) == nil)
    }

    @Test func capitalsCountWhereTheyMean() {
        #expect(holds(TextMatch("shop.example"), "Shop.EXAMPLE", ignoresCase: true) == true)
        #expect(holds(TextMatch("shop.example"), "Shop.example") == false)
    }
}
