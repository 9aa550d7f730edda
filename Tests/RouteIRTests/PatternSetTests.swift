/// All patterns of a table at once, against each pattern by itself; and what a request may cost.
import TestSupport
import Testing

@testable import RouteIR

@Suite struct PatternSetTests {
    private func matches(_ patterns: [Pattern], _ texts: [String]) -> [[Int]] {
        let automaton = PatternAutomaton(PatternSet(patterns))
        return texts.map { text in
            var budget = MatchBudget.unlimited
            return automaton.matches(Array(text.utf8).span, &budget)
        }
    }
    private func oneByOne(_ patterns: [Pattern], _ text: String) -> [Int] {
        patterns.indices.filter { patterns[$0].matches(Array(text.utf8).span) }
    }

    @Test func agreesWithEachPatternByItself() throws {
        var samples = Samples(generator: SeededGenerator())
        let parts = [
            "a", "b", "/", ".", "[ab]", "[^a]", "(a|b)", "(ab)*", "a{2,3}", "^", "$", #"\b"#, #"\B"#, "(?m)^", "(?m)$",
            ".*", "(a*)*", "(?s).", "\n", "x?", #"\w+"#, "(?i)AB", "ü",
        ]
        for _ in 0..<300 {
            let patterns = try (0..<samples.number(1...12)).map { _ in
                try Pattern((0..<samples.number(0...5)).map { _ in samples.pick(parts) }.joined())
            }
            let texts = (0..<20).map { _ in
                (0..<samples.number(0...8)).map { _ in samples.pick(["a", "b", "/", "\n", "x", "ü", "A", "ab"]) }
                    .joined()
            }
            for (text, found) in zip(texts, matches(patterns, texts)) {
                #expect(found == oneByOne(patterns, text), "\(patterns) on \(text.debugDescription)")
            }
        }
    }

    /// More states than an automaton remembers at a time.
    @Test func forgettingChangesNothing() throws {
        let patterns = try (0..<40).map { try Pattern("(a|b)*a(a|b){\($0 % 12)}x\($0)?") }
        var samples = Samples(generator: SeededGenerator())
        let texts = (0..<60).map { _ in
            (0..<samples.number(0...40)).map { _ in samples.pick(["a", "b"]) }.joined() + samples.pick(["x", "x1", ""])
        }
        for (text, found) in zip(texts, matches(patterns, texts)) { #expect(found == oneByOne(patterns, text)) }
    }

    // MARK: What it costs

    private func steps(_ patterns: [Pattern], _ text: String, _ cache: PatternCache, _ set: PatternSet) -> Int {
        var budget = MatchBudget()
        _ = cache.automaton(for: set).matches(Array(text.utf8).span, &budget)
        return MatchBudget.stepsPerRequest - budget.stepsLeft
    }

    /// What was met before costs one step a byte, with one pattern and with a hundred.
    @Test func manyPatternsCostWhatOneDoes() throws {
        let patterns = try (0..<100).map { try Pattern("/api/v[0-9]+/.*/thing\($0)") }
        let (cache, set) = (PatternCache(), PatternSet(patterns))
        let text = "/api/v1/" + String(repeating: "some/where/", count: 50) + "thing77"
        #expect(steps(patterns, text, cache, set) < MatchBudget.stepsPerRequest)
        #expect(steps(patterns, text, cache, set) == text.utf8.count)
    }

    /// The attack: as many states as a table may have, a path as long as one may be.
    @Test(arguments: ["(.*x){60}", "(a?){400}b", "([a-z]{1,50}){1,18}Z", "(a|b)*a(a|b){300}"])
    func noRequestCostsMoreThanItsBudget(evil: String) throws {
        var patterns: [Pattern] = []
        var states = 0
        while true {
            let pattern = try Pattern("/" + evil + "\(patterns.count)")
            states += pattern.states
            guard states <= Pattern.maximumTableStates else { break }
            patterns.append(pattern)
        }
        let (cache, set) = (PatternCache(), PatternSet(patterns))
        var generator = SeededGenerator()
        for _ in 0..<4 {
            let letters = (0..<15_000).map { _ in Bool.random(using: &generator) ? "a" : "b" }.joined()
            // One closure more than the budget at most.
            #expect(steps(patterns, "/" + letters, cache, set) <= MatchBudget.stepsPerRequest + 1 + 4 * states)
        }
    }

    @Test func matchesByFieldsCostTheirShare() throws {
        let rules = try (0..<2000).map { index in
            RouteRule(
                name: "\(index)",
                matches: [
                    RouteMatch(
                        headers: [FieldMatch("x", .regex(try Pattern("(a|b)*\(index)")))],
                        query: [FieldMatch("q", .exact("\(index)"))])
                ])
        }
        let matcher = RouteMatcher(rules)
        var budget = MatchBudget()
        let long = TextRequest(headers: [("x", String(repeating: "ab", count: 7000))])
        _ = matcher.match(long, PatternCache(), &budget)
        #expect(budget.isExhausted)
        budget = MatchBudget()
        _ = matcher.match(
            TextRequest(queryText: String(repeating: "z&", count: 7000), headers: [("x", "ab1999")]), PatternCache(),
            &budget)
        #expect(matcher.match(TextRequest(queryText: "q=7", headers: [("x", "ab7")])) == 7)
    }

    @Test func whatStandsForAPatternMatchesAllItDoes() throws {
        for source in ["/api/v[0-9]+", "a.b|c", "/ü/x", #"\Qa.(b\E+"#, "/" + String(repeating: "a", count: 100)] {
            let pattern = try Pattern(source)
            #expect(pattern.simplified.states < 100)
            for text in ["/api/v12", "c", "a.b", "/ü/x", "a.(bb", "/" + String(repeating: "a", count: 100)] {
                let bytes = Array(text.utf8)
                #expect(!pattern.matches(bytes.span) || pattern.simplified.matches(bytes.span), "\(source)")
            }
        }
        #expect(Pattern.anything?.matches(Array("\nx".utf8).span) == true)
    }
}
