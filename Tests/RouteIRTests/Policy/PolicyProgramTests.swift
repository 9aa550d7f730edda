/// What policies say of connections and requests: the rows of spec 1.6, and how each mistake fails safe.
import Addressing
import RouteIR
import TestSupport
import Testing

@Suite struct PolicyProgramTests {
    private func program(_ policies: AccessPolicy...) -> PolicyProgram {
        PolicyProgram(trustDomains: ["mesh.example", "old.example"], policies: policies)
    }
    private func policy(_ name: String, _ action: PolicyAction = .allow, _ rules: PolicyRule...) -> AccessPolicy {
        AccessPolicy(name: name, action: action, rules: rules)
    }
    private func peer(_ account: String, in namespace: String = "shop", of domain: String = "mesh.example")
        -> PolicyPeer
    {
        PolicyPeer(trustDomain: domain, namespace: namespace, serviceAccount: account)
    }
    private func question(_ peer: PolicyPeer? = nil, port: UInt16 = 8080, from source: String = "10.1.0.5") throws
        -> PolicyQuestion
    {
        let address: IPAddress = try #require(IPAddress(source))
        return PolicyQuestion(
            peer: peer, source: address, destination: try #require(IPAddress("10.1.1.7")), port: port)
    }
    private func text(_ text: PolicyText, _ values: String..., not: Bool = false) -> PolicyTest {
        PolicyTest(.text(text, values.map { TextMatch($0) }), isNegated: not)
    }

    @Test func withoutPoliciesEverybodyMay() throws {
        #expect(program().verdict(of: try question()) == .allowed(by: nil))
    }

    @Test func anAllowPolicyWithoutRulesAllowsNobody() throws {
        #expect(program(policy("shop/nothing")).verdict(of: try question(peer("web"))) == .denied(by: nil))
    }

    @Test func anEmptyRuleIsForEverybody() throws {
        let verdict = program(policy("shop/all", .allow, PolicyRule())).verdict(of: try question())
        #expect(verdict == .allowed(by: PolicyRuleName(policy: "shop/all", rule: 0)))
    }

    @Test func denialGoesBeforeAllowance() throws {
        let both = program(
            policy("a/all", .allow, PolicyRule()),
            policy("b/evil", .deny, PolicyRule(sources: [[text(.serviceAccount, "shop/evil")]])))
        #expect(both.verdict(of: try question(peer("evil"))).by?.description == "b/evil rule 0")
        #expect(both.verdict(of: try question(peer("web"))).isAllowed)
    }

    @Test(arguments: [
        ("mesh.example/ns/shop/sa/web", true), ("old.example/ns/shop/sa/web", true),
        ("cluster.local/ns/shop/sa/web", true), ("*/sa/web", true), ("cluster.local/ns/shop/*", true), ("*", true),
        ("other.example/ns/shop/sa/web", false), ("spiffe://mesh.example/ns/shop/sa/web", false),
    ])
    func principals(pattern: String, holds: Bool) throws {
        let program = program(policy("p", .allow, PolicyRule(sources: [[text(.principal, pattern)]])))
        #expect(program.verdict(of: try question(peer("web"))).isAllowed == holds)
        #expect(!program.verdict(of: try question()).isAllowed)
    }

    @Test func aPeerOfAnotherDomainIsNotOfOurs() throws {
        let program = program(
            policy("p", .allow, PolicyRule(sources: [[text(.principal, "cluster.local/ns/shop/sa/web")]])))
        #expect(!program.verdict(of: try question(peer("web", of: "other.example"))).isAllowed)
    }

    @Test func allOfAClauseAndAnyClause() throws {
        let here = PolicyTest(.address(.source, [try #require(IPPrefix("10.1.0.0/24"))]))
        let rule = PolicyRule(
            sources: [[text(.namespace, "shop"), here], [text(.namespace, "other")]],
            operations: [[PolicyTest(.port([8080, 9000]))]],
            conditions: [PolicyTest(.address(.destination, [try #require(IPPrefix("10.1.1.7/32"))]))])
        let program = program(policy("p", .allow, rule))
        #expect(program.verdict(of: try question(peer("web"))).isAllowed)
        #expect(program.verdict(of: try question(peer("web", in: "other"), from: "10.9.9.9")).isAllowed)
        #expect(!program.verdict(of: try question(peer("web"), from: "10.9.9.9")).isAllowed)
        #expect(!program.verdict(of: try question(peer("web"), port: 80)).isAllowed)
    }

    @Test func anUnknownAddressIsInDoubt() throws {
        let block = PolicyTest(.address(.source, [try #require(IPPrefix("10.1.0.0/24"))]))
        var question = try question()
        question.source = nil
        for action in [PolicyAction.allow, .deny] {
            let verdict = program(policy("p", action, PolicyRule(sources: [[block]]))).verdict(of: question)
            #expect(!verdict.isAllowed, "\(action)")
        }
    }

    @Test func anIPv4AddressIsTheSameHoweverItIsWritten() throws {
        let block = PolicyTest(.address(.source, [try #require(IPPrefix("10.1.0.0/24"))]))
        let program = program(policy("p", .deny, PolicyRule(sources: [[block]])))
        #expect(!program.verdict(of: try question(from: "::ffff:10.1.0.5")).isAllowed)
    }

    /// An address proves nothing to ALLOW, and is enough for DENY.
    @Test(arguments: [
        (PolicyAction.allow, false, false), (.allow, true, false), (.deny, false, false), (.deny, true, false),
    ])
    func whoseAddressItIsCanOnlyDeny(action: PolicyAction, isNegated: Bool, isAllowed: Bool) throws {
        let program = program(policy("p", action, PolicyRule(sources: [[text(.namespace, "shop", not: isNegated)]])))
        var question = try question()
        question.supposedPeer = peer("web")
        #expect(program.verdict(of: question).isAllowed == isAllowed)
    }

    @Test func aStrangersPlaintextIsOfNoNamespace() throws {
        let deny = program(policy("p", .deny, PolicyRule(sources: [[text(.namespace, "shop")]])))
        #expect(deny.verdict(of: try question()).isAllowed)
        let strict = program(policy("p", .deny, PolicyRule(sources: [[text(.principal, "*", not: true)]])))
        #expect(!strict.verdict(of: try question()).isAllowed)
        #expect(strict.verdict(of: try question(peer("web"))).isAllowed)
    }

    @Test func whatIsOfRequestsNeverAllowsAConnectionAndDoesNotSaveItFromDenial() throws {
        let path = PolicyTest(.text(.path, [.exact("/secret")]))
        let allow = program(policy("p", .allow, PolicyRule(operations: [[path], [PolicyTest(.port([8080]))]])))
        #expect(!allow.verdict(of: try question()).isAllowed)
        let deny = program(policy("p", .deny, PolicyRule(operations: [[path, PolicyTest(.port([8080]))]])))
        #expect(!deny.verdict(of: try question()).isAllowed)
        #expect(deny.verdict(of: try question(port: 9000)).isAllowed)
        #expect(deny.verdict(of: try question(), request: TextRequest(pathText: "/")).isAllowed)
        #expect(!deny.verdict(of: try question(), request: TextRequest(pathText: "/secret")).isAllowed)
    }

    @Test func beforeItsRequestsAConnectionIsDeniedOnlyIfAllOfThemAre() throws {
        let path = PolicyTest(.text(.path, [.exact("/secret")]))
        var question = try question()
        question.hasRequests = true
        #expect(program(policy("p", .deny, PolicyRule(operations: [[path]]))).verdict(of: question).isAllowed)
        #expect(program(policy("p", .allow, PolicyRule(operations: [[path]]))).verdict(of: question).isAllowed)
        let elsewhere = PolicyRule(operations: [[path, PolicyTest(.port([9000]))]])
        #expect(!program(policy("p", .allow, elsewhere)).verdict(of: question).isAllowed)
        #expect(!program(policy("p", .deny, PolicyRule())).verdict(of: question).isAllowed)
    }

    @Test func requestsAreToldApart() throws {
        func isAllowed(_ test: PolicyTest, _ request: TextRequest) throws -> Bool {
            program(policy("p", .allow, PolicyRule(operations: [[test]])))
                .verdict(of: try question(), request: request).isAllowed
        }
        #expect(try isAllowed(text(.method, "GET"), TextRequest(methodText: "GET")))
        #expect(try !isAllowed(text(.method, "GET"), TextRequest(methodText: "PUT")))
        #expect(try isAllowed(text(.header("x-foo"), "foo"), TextRequest(headers: [("x-foo", "foo")])))
        #expect(try !isAllowed(text(.header("x-foo"), "foo"), TextRequest()))
        #expect(try isAllowed(text(.header("x-foo"), "foo", not: true), TextRequest()))
        #expect(try isAllowed(text(.host, "web.shop"), TextRequest(headers: [("host", "WEB.shop")])))
    }

    /// `web.shop` and `web.shop:80` are one place: a rule that says the one neither lets the other through nor in.
    @Test func aHostWithAPortIsInDoubt() throws {
        let request = TextRequest(headers: [("host", "web.shop:80")])
        for action in [PolicyAction.allow, .deny] {
            for isNegated in [false, true] {
                let rule = PolicyRule(operations: [[text(.host, "web.shop", not: isNegated)]])
                let verdict = program(policy("p", action, rule)).verdict(of: try question(), request: request)
                #expect(!verdict.isAllowed, "\(action) \(isNegated)")
            }
        }
        let exact = PolicyRule(operations: [[text(.host, "web.shop", "web.shop:80")]])
        #expect(program(policy("p", .allow, exact)).verdict(of: try question(), request: request).isAllowed)
    }

    @Test func tokens() throws {
        let claim = PolicyTest(.text(.claim(["nested", "team"]), [.exact("red")]))
        let program = program(
            policy("need", .deny, PolicyRule(sources: [[text(.requestPrincipal, "*", not: true)]])),
            policy("team", .allow, PolicyRule(conditions: [claim])))
        var question = try question()
        #expect(program.verdict(of: question, request: TextRequest()).by?.policy == "need")
        var token = PolicyToken(principal: "https://issuer.example/alice")
        token.claims[["nested", "team"]] = ["blue", "red"]
        question.token = token
        #expect(program.verdict(of: question, request: TextRequest()).by?.policy == "team")
    }

    @Test func theClientBehindTrustedProxies() throws {
        let block = PolicyTest(.address(.remote, [try #require(IPPrefix("203.0.113.0/24"))]))
        let program = program(policy("p", .allow, PolicyRule(sources: [[block]])))
        var question = try question(from: "203.0.113.9")
        #expect(program.verdict(of: question, request: TextRequest()).isAllowed)
        question.remote = IPAddress("198.51.100.1")
        #expect(!program.verdict(of: question, request: TextRequest()).isAllowed)
    }

    @Test func whatCannotBeReadNeverAllowsAndAlwaysMayDeny() throws {
        let ports = PolicyTest(.port([8080]), hasUnreadable: true)
        #expect(!program(policy("p", .allow, PolicyRule(operations: [[ports]]))).verdict(of: try question()).isAllowed)
        let deny = program(policy("p", .deny, PolicyRule(operations: [[ports]])))
        #expect(!deny.verdict(of: try question(port: 9000)).isAllowed)
        let not = PolicyTest(.port([8080]), isNegated: true, hasUnreadable: true)
        let rest = program(policy("p", .deny, PolicyRule(operations: [[not]])))
        #expect(rest.verdict(of: try question(port: 8080)).isAllowed)
        #expect(!rest.verdict(of: try question(port: 9000)).isAllowed)
        let unreadable = AccessPolicy(name: "shop/broken", isUnreadable: true, rules: [PolicyRule()])
        #expect(program(unreadable).verdict(of: try question()).by?.description == "shop/broken")
    }

    @Test func auditAndDryRunsChangeNothing() throws {
        var dry = policy("b/dry", .deny, PolicyRule())
        dry.isDryRun = true
        let program = program(policy("a/audit", .audit, PolicyRule()), dry)
        let question = try question()
        #expect(program.verdict(of: question) == .allowed(by: nil))
        #expect(program.dryRunVerdict(of: question)?.by?.policy == "b/dry")
        #expect(program.audits(of: question).map(\.description) == ["a/audit rule 0"])
        #expect(PolicyProgram(trustDomains: [], policies: []).dryRunVerdict(of: question) == nil)
    }
}
