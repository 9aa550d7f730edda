/// The matcher against an oracle that tries every match of every rule, and the rows of the specification by hand.
import RouteIR
import TestSupport
import Testing

@Suite struct RouteMatcherTests {
    @Test func agreesWithTheOracle() throws {
        var samples = Samples(generator: SeededGenerator())
        for _ in 0..<150 {
            let rules = try (0..<samples.number(1...25)).map { try samples.rule($0) }
            let matcher = RouteMatcher(rules)
            for _ in 0..<40 {
                let request = samples.request()
                let expected = oracle(rules, request)
                #expect(matcher.match(request) == expected, "\(request)")
                // What `explain` prints is the same order and the same tests.
                let explained = matcher.order.indices.first { matcher.mismatch(at: $0, request) == nil }
                #expect(explained.map { matcher.order[$0].rule } == expected)
            }
        }
    }

    private func winner(_ matches: [RouteMatch], _ request: TextRequest) -> Int? {
        RouteMatcher(matches.map { RouteRule(name: "", matches: [$0]) }).match(request)
    }

    @Test(arguments: [
        ("/v2", "/v2", true), ("/v2", "/v2/", true), ("/v2", "/v2/example", true), ("/v2", "/v2example", false),
        ("/v2", "/foo/v2", false), ("/v2/", "/v2", true), ("/", "/anything", true), ("/v2", "/V2", false),
        ("/v2", "/v2//x", true), ("/", "*", true), ("/v2", "*", false),
    ])
    func prefixesGoByElement(prefix: String, path: String, holds: Bool) {
        #expect((winner([RouteMatch(path: .prefix(prefix))], TextRequest(pathText: path)) == 0) == holds)
    }

    @Test func exactBeatsPrefixBeatsMethodBeatsHeaders() throws {
        let request = TextRequest(pathText: "/a/b", headers: [("x", "1"), ("y", "2")])
        let order: [RouteMatch] = [
            RouteMatch(path: .exact("/a/b")), RouteMatch(path: .prefix("/a/b")),
            RouteMatch(path: .prefix("/a"), method: "GET"),
            RouteMatch(path: .prefix("/a"), headers: [FieldMatch("x", .exact("1")), FieldMatch("y", .exact("2"))]),
            RouteMatch(path: .prefix("/a"), headers: [FieldMatch("x", .exact("1"))]),
            RouteMatch(path: .prefix("/a")), RouteMatch(path: .regex(try Pattern("/.*"))), RouteMatch(),
        ]
        for first in order.indices {
            #expect(winner(order[first...].reversed(), request) == order[first...].count - 1)
        }
    }

    @Test func ofEqualMatchesTheFirstRuleWins() {
        #expect(winner([RouteMatch(method: "GET"), RouteMatch(method: "GET")], TextRequest()) == 0)
    }

    @Test func severalHeaderValuesCountJoined() {
        let request = TextRequest(headers: [("x", "1"), ("x", "2")])
        #expect(winner([RouteMatch(headers: [FieldMatch("x", .exact("1,2"))])], request) == 0)
        #expect(winner([RouteMatch(headers: [FieldMatch("x", .exact("1"))])], request) == nil)
    }

    @Test(arguments: [
        ("animal=whale", true), ("animal=whale&x", true), ("x=1&animal=whale", true), ("animal=w%68ale", true),
        ("animal=shark&animal=whale", false), ("animalx=whale", false), ("animal", false), ("", false),
        ("an%69mal=whale", true), ("animal=whale%", false),
    ])
    func theFirstQueryParameterCounts(query: String, holds: Bool) {
        let match = RouteMatch(query: [FieldMatch("animal", .exact("whale"))])
        #expect((winner([match], TextRequest(queryText: query)) == 0) == holds)
    }

    @Test func tenThousandRoutesAreFoundByIndex() {
        let rules = (0..<10_000).map { index in
            RouteRule(
                name: "\(index)",
                matches: [RouteMatch(path: index % 2 == 0 ? .exact("/e/\(index)") : .prefix("/p/\(index)"))])
        }
        let matcher = RouteMatcher(rules)
        for index in stride(from: 0, to: 10_000, by: 7) {
            let path = index % 2 == 0 ? "/e/\(index)" : "/p/\(index)/deep/below"
            #expect(matcher.match(TextRequest(pathText: path)) == index)
        }
    }
}

/// Every match of every rule, compared by the words of the specification.
private func oracle(_ rules: [RouteRule], _ request: TextRequest) -> Int? {
    var best: (key: [Int], rule: Int)?
    for (index, rule) in rules.enumerated() {
        for match in rule.matches where holds(match, request) {
            let trim = { (path: String) in path.hasSuffix("/") ? String(path.dropLast()) : path }
            let path =
                switch match.path {
                case .exact: [1, 0]
                case .prefix(let prefix): [0, trim(prefix).count]
                case .regex(let pattern): [0, pattern.literalPrefix.count]
                }
            let key = path + [match.method == nil ? 0 : 1, match.headers.count, match.query.count]
            if let best, !best.key.lexicographicallyPrecedes(key) { continue }
            best = (key, index)
        }
    }
    return best?.rule
}

private func holds(_ match: RouteMatch, _ request: TextRequest) -> Bool {
    let path = request.pathText
    let isPath =
        switch match.path {
        case .exact(let wanted): path == wanted
        case .prefix(let prefix):
            {
                let base = prefix.hasSuffix("/") ? String(prefix.dropLast()) : prefix
                return path == base || path.hasPrefix(base + "/")
            }()
        case .regex(let pattern): pattern.matches(Array(path.utf8).span)
        }
    guard isPath, match.method == nil || match.method == request.methodText else { return false }
    let parameters = request.queryText.split(separator: "&").map { part in
        let pieces = part.split(separator: "=", omittingEmptySubsequences: false)
        return (String(pieces[0]), pieces.count > 1 ? String(pieces[1]).replacing("%31", with: "1") : "")
    }
    return match.headers.allSatisfy { field in
        let values = request.headers.filter { $0.0 == field.name }.map(\.1)
        return !values.isEmpty && equals(field.value, values.joined(separator: ","))
    }
        && match.query.allSatisfy { field in
            parameters.first { $0.0 == field.name }.map { equals(field.value, $0.1) } ?? false
        }
}

private func equals(_ value: FieldMatch.Value, _ text: String) -> Bool {
    switch value {
    case .exact(let wanted): text == wanted
    case .regex(let pattern): pattern.matches(Array(text.utf8).span)
    }
}
