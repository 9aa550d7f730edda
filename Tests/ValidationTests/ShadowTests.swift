/// A match that is said to be unreachable really never gets a request: the proxy's own matcher is asked.
import RouteIR
import TestSupport
import Testing

@testable import Validation

@Suite struct ShadowTests {
    /// The rule that is hidden, and by which.
    private func shadows(_ matches: [RouteMatch]) -> [[Int]] {
        ShadowSearch(matches.enumerated().map { RouteRule(name: "r \($0)", matches: [$1]) }).shadows
            .map { [$0.hidden.rule, $0.by.rule] }
    }

    @Test func aCatchAllHidesWhatStandsBehindIt() throws {
        let png = RouteMatch(path: .regex(try Pattern(".*[.]png")))
        #expect(shadows([RouteMatch(), png]) == [[1, 0]])
        // Put first it gets its requests.
        #expect(shadows([png, RouteMatch()]).isEmpty)
    }
    @Test func anExpressionForAHeaderHidesItsValues() throws {
        let any = RouteMatch(headers: [FieldMatch("version", .regex(try Pattern("v[0-9]")))])
        let two = RouteMatch(headers: [FieldMatch("version", .exact("v2"))])
        #expect(shadows([any, two]) == [[1, 0]])
        #expect(shadows([two, any]).isEmpty)
        #expect(shadows([any, RouteMatch(headers: [FieldMatch("version", .exact("beta"))])]).isEmpty)
    }
    @Test func aSlashAtTheEndMakesNoOtherPrefix() {
        #expect(shadows([RouteMatch(path: .prefix("/a")), RouteMatch(path: .prefix("/a/"))]) == [[1, 0]])
        #expect(shadows([RouteMatch(path: .exact("/a")), RouteMatch(path: .exact("/a/"))]).isEmpty)
    }

    @Test(arguments: 0..<10) func whatIsHiddenNeverGetsARequest(_ seed: UInt64) throws {
        var samples = Samples(generator: SeededGenerator(seed: seed))
        for _ in 0..<5 {
            let rules = try (0..<12).map { try samples.rule($0) }
            let hidden = ShadowSearch(rules).shadows.map(\.hidden)
            // Each match a rule of its own, in the same order: which match it was is then seen.
            let positions = RouteMatcher(rules).order.sorted { ($0.rule, $0.match) < ($1.rule, $1.match) }
            let matcher = RouteMatcher(
                positions.map { RouteRule(name: "m", matches: [rules[$0.rule].matches[$0.match]]) })
            for _ in 0..<100 {
                guard let chosen = matcher.match(samples.request()) else { continue }
                #expect(!hidden.contains(positions[chosen]), "\(rules[positions[chosen].rule])")
            }
        }
    }
    @Test func costGrowsAsTheRulesDo() {
        func comparisons(_ count: Int) -> Int {
            let rules = (0..<count).map {
                RouteRule(name: "r", matches: [RouteMatch(headers: [FieldMatch("x", .exact("\($0)"))])])
            }
            return ShadowSearch(rules).comparisons
        }
        #expect(comparisons(10_000) <= 10 * comparisons(1000) + 100)
    }
}
