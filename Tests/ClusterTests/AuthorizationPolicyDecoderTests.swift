/// AuthorizationPolicies as people write them, and what becomes of the parts that nobody can read.
import Addressing
import Cluster
import RouteIR
import Testing

@Suite struct AuthorizationPolicyDecoderTests {
    private func policy(_ spec: String, annotations: String = "{}") throws -> AuthorizationPolicy {
        let text = "metadata: {name: web, namespace: shop, annotations: \(annotations)}\n\(spec)"
        let object = try decode(.authorizationPolicy, text)
        guard case .authorizationPolicy(let policy) = object else { throw DecodeError("another kind", line: 0) }
        return policy
    }
    private func rule(_ text: String) throws -> (rule: PolicyRule?, fields: [String]) {
        let policy = try policy("spec: {rules: [\(text)]}")
        return (policy.access.rules.first, policy.flaws.map(\.field))
    }

    @Test func everyField() throws {
        let policy = try policy(
            """
            spec:
              selector: {matchLabels: {app: web}}
              action: DENY
              rules:
              - from:
                - source: {principals: ["*/sa/web"], notNamespaces: [other], ipBlocks: [10.1.0.0/16, "fd00::1"]}
                - source: {serviceAccounts: [api, other/api], trustDomains: [a.example], notRemoteIpBlocks: [1.2.3.4]}
                - source: {requestPrincipals: ["*"], notRequestPrincipals: [x/y]}
                to:
                - operation: {hosts: ["*.Shop.example"], ports: ["8080"], methods: [GET], notPaths: ["/t/{*}/{**}"]}
                when:
                - {key: "request.headers[X-Foo]", values: [foo], notValues: ["foo*"]}
                - {key: "request.auth.claims[a][b]", values: [c]}
                - {key: connection.sni, notValues: [A.example]}
                - {key: destination.port, values: ["9000"]}
            """)
        func text(_ text: PolicyText, _ match: TextMatch, not: Bool = false) -> PolicyTest {
            PolicyTest(.text(text, [match]), isNegated: not)
        }
        let (range, one, v6) = (IPPrefix("10.1.0.0/16"), IPPrefix("1.2.3.4/32"), IPPrefix("fd00::1/128"))
        let template = try #require(TextMatch(path: "/t/{*}/{**}"))
        let expected = PolicyRule(
            sources: [
                [
                    text(.principal, .suffix("/sa/web")), text(.namespace, .exact("other"), not: true),
                    PolicyTest(.address(.source, [try #require(range), try #require(v6)])),
                ],
                [
                    PolicyTest(.text(.serviceAccount, [.exact("shop/api"), .exact("other/api")])),
                    text(.trustDomain, .exact("a.example")),
                    PolicyTest(.address(.remote, [try #require(one)]), isNegated: true),
                ],
                [text(.requestPrincipal, .present), text(.requestPrincipal, .exact("x/y"), not: true)],
            ],
            operations: [
                [
                    text(.host, .suffix(".shop.example")), PolicyTest(.port([8080])), text(.method, .exact("GET")),
                    text(.path, template, not: true),
                ]
            ],
            conditions: [
                text(.header("x-foo"), .exact("foo")), text(.header("x-foo"), .prefix("foo"), not: true),
                text(.claim(["a", "b"]), .exact("c")), text(.serverName, .exact("a.example"), not: true),
                PolicyTest(.port([9000])),
            ])
        #expect(policy.access == AccessPolicy(name: "shop/web", action: .deny, rules: [expected]))
        #expect(policy.selector == ["app": "web"] && policy.targets.isEmpty && policy.flaws.isEmpty)
        #expect(
            ObjectKind(apiVersion: "security.istio.io/v1beta1", kind: "AuthorizationPolicy") == .authorizationPolicy)
    }

    @Test(arguments: ["", "spec: {}", "spec: null", "spec: {rules: [], action: null}", "spec: {selector: {}}"])
    func whatHasNoRules(spec: String) throws {
        #expect(try policy(spec) == AuthorizationPolicy(name: ObjectName("shop", "web")))
    }

    @Test func anEmptyRuleHolds() throws {
        #expect(try rule("{}") == (PolicyRule(), []))
    }

    @Test func targetsAndProviders() throws {
        let policy = try policy(
            """
            spec:
              targetRefs: [{group: "", kind: Service, name: web}, {group: g.io, kind: Gateway, name: x}]
              action: CUSTOM
              provider: {name: oauth}
            """)
        #expect(policy.targets.map(\.isService) == [true, false])
        #expect(policy.access.action == .custom && policy.provider == "oauth" && policy.flaws.isEmpty)
        #expect(try self.policy("spec: {targetRef: {kind: Service, name: web}}").targets.map(\.name) == ["web"])
    }

    @Test(arguments: [("\"true\"", true, 0), ("\"false\"", false, 0), ("\"yes\"", false, 1)])
    func dryRuns(value: String, isDryRun: Bool, flaws: Int) throws {
        let policy = try policy("spec: {}", annotations: "{istio.io/dry-run: \(value)}")
        #expect(policy.access.isDryRun == isDryRun && policy.flaws.count == flaws)
    }

    /// A part that cannot be read is in the rule still, as one.
    @Test(arguments: [
        ("{from: []}", "from"), ("{from: [{}]}", "from[0]"), ("{from: [{source: {}}]}", "from[0]"),
        ("{from: [{source: {principals: []}}]}", "from[0].source.principals"),
        ("{from: [{source: {principals: web}}]}", "from[0].source.principals"),
        ("{from: [{source: {principals: [\"\"]}}]}", "from[0].source.principals[0]"),
        ("{from: [{source: {principals: [\"spiffe://a/ns/b/sa/c\"]}}]}", "from[0].source.principals[0]"),
        ("{from: [{source: {principal: [a]}}]}", "from[0].source.principal"),
        ("{from: [{sources: {principals: [a]}}]}", "from[0].sources"),
        ("{from: [{source: {ipBlocks: [10.1.0.0/16, 10.1.0]}}]}", "from[0].source.ipBlocks[1]"),
        ("{from: [{source: {ipBlocks: [010.1.0.0/16]}}]}", "from[0].source.ipBlocks[0]"),
        ("{from: [{source: {serviceAccounts: [\"shop/*\"]}}]}", "from[0].source.serviceAccounts[0]"),
        ("{to: [{operation: {ports: [8080]}}]}", "to[0].operation.ports[0]"),
        ("{to: [{operation: {notPorts: [http]}}]}", "to[0].operation.notPorts[0]"),
        ("{to: [{operation: {paths: [\"/a{*}\"]}}]}", "to[0].operation.paths[0]"),
        ("{to: {operation: {}}}", "to"), ("{when: [{key: source.ip}]}", "when[0]"),
        ("{when: [{key: source.color, values: [red]}]}", "when[0].key"),
        ("{when: [{key: \"request.headers[:path]\", values: [/]}]}", "when[0].key"),
        ("{when: [{key: source.ip, values: [10.1.0.1], value: [a]}]}", "when[0].value"),
        ("{who: everybody}", "who"),
    ])
    func whatCannotBeRead(text: String, field: String) throws {
        let (rule, fields) = try rule(text)
        #expect(rule?.isUnreadable == true)
        #expect(fields.first == "spec.rules[0].\(field)")
    }

    @Test func aRuleThatIsNone() throws {
        #expect(try rule("null").rule?.isUnreadable == true)
        #expect(try rule("all").rule?.isUnreadable == true)
    }

    /// Whom it is for is taken to be everybody where it is not known.
    @Test(arguments: [
        ("spec: all", "spec", true), ("spec: {selector: {matchLabels: {app: web}, x: y}}", "spec.selector.x", true),
        ("spec: {selector: {matchLabels: {app: null}}}", "spec.selector.matchLabels[\"app\"]", true),
        ("spec: {selector: {matchLabels: {app: web}}, action: DENNY}", "spec.action", false),
        ("spec: {selector: {matchLabels: {app: web}}, rules: {}}", "spec.rules", false),
        ("spec: {selector: {matchLabels: {app: web}}, selectors: {}}", "spec.selectors", true),
        ("spec: {targetRefs: [{kind: Service}]}", "spec.targetRefs[0]", true),
        ("spec: {selector: {matchLabels: {app: web}}, targetRef: {kind: Service, name: a}}", "spec.targetRefs", true),
    ])
    func whatDeniesAll(spec: String, field: String, isForAll: Bool) throws {
        let policy = try policy(spec)
        #expect(policy.access.isUnreadable)
        #expect(policy.flaws.map(\.field) == [field])
        #expect((policy.selector.isEmpty && policy.targets.isEmpty) == isForAll)
    }
}
