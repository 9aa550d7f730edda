/// Random documents, read and evaluated, against a second evaluator that was written from the spec's text.
import Addressing
import Cluster
import RouteIR
import TestSupport
import Testing

@Suite struct PolicySemanticsTests {
    @Test(arguments: 0..<100) func documentsMeanWhatTheSpecSays(seed: UInt64) throws {
        var random = Samples(generator: SeededGenerator(seed: seed))
        var allowed = 0
        for _ in 0..<40 {
            let policies = (0..<random.number(1...3)).map { policy("p\($0)", &random) }
            let program = PolicyProgram(
                trustDomains: ["mesh.example", "old.example"],
                policies: try policies.map { policy in
                    guard case .authorizationPolicy(let read) = try decode(.authorizationPolicy, policy.document) else {
                        throw DecodeError("another kind", line: 0)
                    }
                    return read.access
                })
            for _ in 0..<5 {
                let question = question(&random)
                let expected = question.isAllowed(policies)
                let verdict =
                    question.request.map { program.verdict(of: question.facts, request: $0) }
                    ?? program.verdict(of: question.facts)
                if verdict.isAllowed { allowed += 1 }
                #expect(
                    verdict.isAllowed == expected,
                    "seed \(seed): \(policies.map(\.document).joined(separator: "\n")) \(question)")
            }
        }
        #expect(allowed > 20 && allowed < 180, "the samples say little: \(allowed)")
    }

    /// What is denied to a connection before its requests is denied to every request, and what one request may is not.
    @Test(arguments: 0..<50) func whatIsSaidBeforeRequestsHoldsForEachOfThem(seed: UInt64) throws {
        var random = Samples(generator: SeededGenerator(seed: seed))
        for _ in 0..<40 {
            let text = policy("p", &random).document
            guard case .authorizationPolicy(let read) = try decode(.authorizationPolicy, text) else { continue }
            let program = PolicyProgram(trustDomains: ["mesh.example"], policies: [read.access])
            var question = question(&random)
            question.facts.hasRequests = true
            let request = question.request ?? TextRequest()
            if program.verdict(of: question.facts, request: request).isAllowed {
                #expect(program.verdict(of: question.facts).isAllowed, "seed \(seed): \(text) \(question)")
            }
        }
    }

    private func policy(_ name: String, _ random: inout Samples) -> NaivePolicy {
        let rules = (0..<random.number(0...3)).map { _ in rule(&random) }
        return NaivePolicy(name: name, action: random.pick(["ALLOW", "ALLOW", "DENY", "DENY", "CUSTOM"]), rules: rules)
    }

    private func rule(_ random: inout Samples) -> NaivePolicy.Rule {
        var rule = NaivePolicy.Rule()
        if random.chance(70) { rule.from = clauses(Self.sources, &random) }
        if random.chance(60) { rule.to = clauses(Self.operations, &random) }
        if random.chance(30) {
            let (key, values) = random.pick(Self.conditions)
            let some = self.values(values, &random)
            rule.when = [
                random.chance(60)
                    ? (key, some, random.chance(20) ? self.values(values, &random) : []) : (key, [], some)
            ]
        }
        return rule
    }
    private func clauses(_ fields: [(String, [String])], _ random: inout Samples) -> [[(
        field: String, values: [String]
    )]] {
        (0..<random.number(1...2)).map { _ in
            var used: Set<String> = []
            return (0..<random.number(1...2)).compactMap { _ in
                let (name, values) = random.pick(fields)
                let field = random.chance(30) ? "not" + name.prefix(1).uppercased() + name.dropFirst() : name
                return used.insert(field).inserted ? (field, self.values(values, &random)) : nil
            }
        }
    }
    private func values(_ values: [String], _ random: inout Samples) -> [String] {
        (0..<random.number(1...2)).map { _ in random.pick(values) }
    }

    private static let sources: [(String, [String])] = [
        (
            "principals",
            ["*", "*/sa/web", "cluster.local/ns/shop/sa/web", "old.example/ns/other/*", "far.example/ns/shop/sa/web"]
        ),
        ("namespaces", ["shop", "other", "*", "sh*", "*er", ""]),
        ("serviceAccounts", ["web", "other/web", "shop/api"]),
        ("ipBlocks", ["10.1.0.0/24", "10.1.0.5", "10.2.0.0/16", "fd00::/8", "10.1"]),
        ("remoteIpBlocks", ["203.0.113.0/24", "10.1.0.5"]),
    ]
    private static let operations: [(String, [String])] = [
        ("hosts", ["web.shop", "WEB.shop:80", "*.shop", "web*", "*"]), ("methods", ["GET", "P*"]),
        ("paths", ["/a", "/a*", "*/b", "/{*}/b", "/a/{**}", "/{**}/b", "/x{*}", "*"]),
        ("ports", ["8080", "9000", "http"]),
    ]
    private static let conditions: [(String, [String])] = [
        ("source.ip", ["10.1.0.0/24", "x"]), ("source.namespace", ["shop", "*"]),
        ("destination.port", ["8080", "0x50"]),
        ("connection.sni", ["a.example", "*.example"]), ("request.headers[x-foo]", ["foo", "f*"]),
        ("source.color", ["red"]),
    ]

    private func question(_ random: inout Samples) -> NaiveQuestion {
        func peer() -> PolicyPeer {
            PolicyPeer(
                trustDomain: random.pick(["mesh.example", "old.example", "far.example"]),
                namespace: random.pick(["shop", "other"]), serviceAccount: random.pick(["web", "api"]))
        }
        let sources = [0x0a01_0005, 0x0a01_0009, 0x0a02_0001].map { IPAddress(v4: $0) } + [IPAddress("fd00::5")]
        var facts = PolicyQuestion(
            peer: random.chance(60) ? peer() : nil, source: random.chance(90) ? random.pick(sources) : nil,
            destination: IPAddress(v4: 0x0a01_0107), port: random.pick([8080, 9000]))
        if random.chance(50) { facts.supposedPeer = peer() }
        if random.chance(50) { facts.serverName = random.pick(["a.example", "b"]) }
        if random.chance(30) { facts.remote = IPAddress(v4: 0xcb00_7109) }
        facts.hasRequests = random.chance(30)
        var request: TextRequest?
        if random.chance(60) {
            request = TextRequest(
                methodText: random.pick(["GET", "PUT"]), pathText: random.pick(["/a", "/a/b", "/", "/a/c/b", "/x/b"]))
            if random.chance(80) { request?.headers.append(("host", random.pick(["web.shop", "Web.Shop:80", "api"]))) }
            if random.chance(50) { request?.headers.append(("x-foo", random.pick(["foo", "bar"]))) }
        }
        return NaiveQuestion(facts: facts, request: request)
    }
}
