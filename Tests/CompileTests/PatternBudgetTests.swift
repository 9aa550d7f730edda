/// What regular expressions of routes may need together, and what becomes of those beyond it.
import Cluster
import Compile
import RouteIR
import Testing

@Suite struct PatternBudgetTests {
    /// A tenant's own rules suffer, and say so; another table, here that of another namespace's clients, does not.
    @Test func tooManyPatternsAreAnswered500() throws {
        var shop = Shop()
        shop.addService("web")
        for number in 0..<3 {
            shop.add(
                route("r\(number)", age: Int64(number)) { rule in
                    rule.matches = (0..<64).map { index in
                        var match = Route.Match()
                        match.path = .regularExpression("/(.*x){60}\(index)-\(number)")
                        return match
                    }
                })
        }
        shop.add(
            route("r", in: "elsewhere") { rule in
                var match = Route.Match()
                match.path = .regularExpression("/v[0-9]+")
                rule.matches = [match]
            })
        shop.compile()
        let web = try #require(shop.service("web"))
        let rules = try #require(web.producerRoutes)
        let states = rules.flatMap(\.matches).reduce(0) { sum, match in
            if case .regex(let pattern) = match.path { sum + pattern.states } else { sum }
        }
        #expect(rules.count == 3 && states < 2 * Pattern.maximumTableStates)
        #expect(rules[0].filters.isEmpty)
        // What its patterns match still falls to it.
        let refused = rules[2]
        #expect(refused.filters.contains { if case .unresolved = $0 { true } else { false } })
        #expect(RouteMatcher([refused]).match(PathOnly(text: "/" + String(repeating: "x", count: 60) + "0-2")) == 0)
        let findings = shop.compiler.findings.filter { $0.reason == "too-many-patterns" }
        #expect(findings.map(\.object.description).contains { $0.contains("shop/r2") })
        #expect(findings.allSatisfy { $0.field == "spec.rules[0].matches" && $0.message.contains("PathPrefix") })
        #expect(!shop.reasons.contains("route-conflict"))
        #expect(web.consumerRoutes["elsewhere"]?[0].filters.isEmpty == true)
    }
}
