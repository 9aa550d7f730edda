/// Istio's AuthorizationPolicy. Where something of it cannot be read the reading goes on: a rule with such a part
/// allows nobody and may deny anybody, and where it is not known whom the policy is for, or what it does, it denies
/// everybody.
import RouteIR

extension ObjectDecoder {
    mutating func authorizationPolicy(_ reader: inout some Reader) throws(DecodeError) -> AuthorizationPolicy {
        var draft = PolicyDraft()
        let metadata = try object(&reader, isNamespaced: true, labels: .ours) {
            (_, reader, key) throws(DecodeError) in
            guard case "spec" = key else { return try reader.skip() }
            try draft.spec(&reader)
        }
        return draft.policy(metadata)
    }
}

/// What was read so far.
private struct PolicyDraft {
    /// Values as they stand there: what a name without a namespace means is known at the end.
    private struct Test {
        var field: String
        /// nil: nobody knows it.
        var attribute: PolicyAttribute?
        var values: [String] = []
        var isNegated = false
        var hasUnreadable = false
    }
    private struct Rule {
        var sources: [[Test]] = []
        var operations: [[Test]] = []
        var conditions: [Test] = []
    }

    private var selector: [String: String] = [:]
    private var targets: [AuthorizationPolicy.Target] = []
    private var provider = ""
    private var action = PolicyAction.allow
    private var isUnreadable = false
    /// Whom it is for is not known: everybody of its namespace, then.
    private var isForAll = false
    private var rules: [Rule] = []
    private var flaws: [AuthorizationPolicy.Flaw] = []

    private mutating func flaw(_ field: String, _ message: String) {
        flaws.append(AuthorizationPolicy.Flaw(field: field, message: message))
    }
    /// What it does, or whom it is for, is not known.
    private mutating func giveUp(_ field: String, _ message: String, isForAll: Bool = true) {
        let who = isForAll ? "all pods that the policy may be for" : "the pods that the policy is for"
        flaw(field, "\(message); until then \(who) refuse everybody")
        isUnreadable = true
        self.isForAll = self.isForAll || isForAll
    }
    /// Whether what comes next is of this kind. If not it is skipped and told.
    private mutating func takes(
        _ kind: ValueKind, _ reader: inout some Reader, _ field: String
    ) throws(DecodeError) -> Bool {
        if reader.kind == kind { return true }
        flaw(field, "must be \(kind.description), but is \(reader.kind.description)")
        try reader.skip()
        return false
    }
    /// The same of what nothing is known without.
    private mutating func needs(
        _ kind: ValueKind, _ reader: inout some Reader, _ field: String, isForAll: Bool = true
    ) throws(DecodeError) -> Bool {
        if reader.kind == kind { return true }
        giveUp(field, "must be \(kind.description), but is \(reader.kind.description)", isForAll: isForAll)
        try reader.skip()
        return false
    }

    mutating func spec(_ reader: inout some Reader) throws(DecodeError) {
        guard try needs(.object, &reader, "spec") else { return }
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "selector": try selector(&reader)
            case "targetRef": try target(&reader, "spec.targetRef")
            case "targetRefs":
                guard try needs(.array, &reader, "spec.targetRefs") else { return }
                try reader.elements { (reader, index) throws(DecodeError) in
                    try target(&reader, "spec.targetRefs[\(index)]")
                }
            case "action":
                guard try needs(.string, &reader, "spec.action", isForAll: false) else { return }
                let text = try reader.string()
                if let known = Self.actions[text] {
                    action = known
                } else {
                    giveUp(
                        "spec.action", "\(quoted(text)) is unknown; use ALLOW, DENY, AUDIT or CUSTOM", isForAll: false)
                }
            case "provider":
                guard try takes(.object, &reader, "spec.provider") else { return }
                try reader.fields { (reader, key) throws(DecodeError) in
                    guard case "name" = key, try takes(.string, &reader, "spec.provider.name") else {
                        return try reader.skip()
                    }
                    provider = try reader.string()
                }
            case "rules":
                guard try needs(.array, &reader, "spec.rules", isForAll: false) else { return }
                try reader.elements { (reader, index) throws(DecodeError) in
                    try rule(&reader, "spec.rules[\(index)]")
                }
            default:
                giveUp("spec.\(key.string)", "is unknown; remove it")
                try reader.skip()
            }
        }
    }

    private static let actions: [String: PolicyAction] = [
        "": .allow, "ALLOW": .allow, "DENY": .deny, "AUDIT": .audit, "CUSTOM": .custom,
    ]

    private mutating func selector(_ reader: inout some Reader) throws(DecodeError) {
        guard try needs(.object, &reader, "spec.selector") else { return }
        try reader.fields { (reader, key) throws(DecodeError) in
            guard case "matchLabels" = key else {
                giveUp("spec.selector.\(key.string)", "is unknown; use matchLabels")
                return try reader.skip()
            }
            guard try needs(.object, &reader, "spec.selector.matchLabels") else { return }
            try reader.readObject { (reader, key) throws(DecodeError) in
                let label = key.string
                guard try needs(.string, &reader, "spec.selector.matchLabels[\"\(label)\"]") else { return }
                selector[label] = try reader.string()
            }
        }
    }

    private mutating func target(_ reader: inout some Reader, _ path: String) throws(DecodeError) {
        guard try needs(.object, &reader, path) else { return }
        var target = AuthorizationPolicy.Target(group: "", kind: "", name: "")
        try reader.fields { (reader, key) throws(DecodeError) in
            let field = "\(path).\(key.string)"
            switch key {
            case "group" where try needs(.string, &reader, field): target.group = try reader.string()
            case "kind" where try needs(.string, &reader, field): target.kind = try reader.string()
            case "name" where try needs(.string, &reader, field): target.name = try reader.string()
            case "group", "kind", "name": return
            default:
                giveUp(field, "is unknown; a target is in the policy's own namespace")
                try reader.skip()
            }
        }
        if target.kind.isEmpty || target.name.isEmpty { giveUp(path, "needs a kind and a name") }
        targets.append(target)
    }

    private mutating func rule(_ reader: inout some Reader, _ path: String) throws(DecodeError) {
        var rule = Rule()
        defer { rules.append(rule) }
        guard try takes(.object, &reader, path) else {
            rule.conditions = [Test(field: path)]
            return
        }
        try reader.fields { (reader, key) throws(DecodeError) in
            let field = "\(path).\(key.string)"
            switch key {
            case "from":
                rule.sources = try clauses(&reader, field, "source") { PolicyAttribute(ofSource: $0) }
            case "to":
                rule.operations = try clauses(&reader, field, "operation") { PolicyAttribute(ofOperation: $0) }
            case "when":
                guard try takes(.array, &reader, field) else { return rule.conditions.append(Test(field: field)) }
                try reader.elements { (reader, index) throws(DecodeError) in
                    rule.conditions += try condition(&reader, "\(field)[\(index)]")
                }
            default:
                flaw(field, "is unknown; remove it")
                rule.conditions.append(Test(field: field))
                try reader.skip()
            }
        }
    }

    /// `from` or `to`. A list, or an entry of it, that is empty is hardly meant to be for everybody.
    private mutating func clauses(
        _ reader: inout some Reader, _ path: String, _ inner: StaticString, _ attribute: (String) -> PolicyAttribute?
    ) throws(DecodeError) -> [[Test]] {
        guard try takes(.array, &reader, path) else { return [[Test(field: path)]] }
        var clauses: [[Test]] = []
        try reader.elements { (reader, index) throws(DecodeError) in
            let field = "\(path)[\(index)]"
            var tests: [Test] = []
            if try takes(.object, &reader, field) {
                try reader.fields { (reader, key) throws(DecodeError) in
                    guard inner ~= key else {
                        flaw("\(field).\(key.string)", "is unknown; use \(inner)")
                        tests.append(Test(field: field))
                        return try reader.skip()
                    }
                    tests += try clause(&reader, "\(field).\(inner)", attribute)
                }
            }
            if tests.isEmpty {
                flaw(field, "is empty; name a field of \(inner), or leave all of it out if everybody is meant")
                tests = [Test(field: field)]
            }
            clauses.append(tests)
        }
        if clauses.isEmpty {
            flaw(path, "is an empty list; leave it out if everybody is meant")
            clauses = [[Test(field: path)]]
        }
        return clauses
    }

    private mutating func clause(
        _ reader: inout some Reader, _ path: String, _ attribute: (String) -> PolicyAttribute?
    ) throws(DecodeError) -> [Test] {
        guard try takes(.object, &reader, path) else { return [Test(field: path)] }
        var tests: [Test] = []
        try reader.fields { (reader, key) throws(DecodeError) in
            let name = key.string
            var test = Test(field: "\(path).\(name)")
            test.attribute = attribute(name)
            if test.attribute == nil, name.hasPrefix("not") {
                test.isNegated = true
                test.attribute = attribute(name.dropFirst(3).prefix(1).lowercased() + name.dropFirst(4))
            }
            if test.attribute == nil {
                flaw(test.field, "is unknown; remove it")
                try reader.skip()
            } else {
                try values(&reader, &test)
            }
            tests.append(test)
        }
        return tests
    }

    private mutating func condition(_ reader: inout some Reader, _ path: String) throws(DecodeError) -> [Test] {
        guard try takes(.object, &reader, path) else { return [Test(field: path)] }
        var attribute: PolicyAttribute?
        var tests: [Test] = []
        try reader.fields { (reader, key) throws(DecodeError) in
            var test = Test(field: "\(path).\(key.string)")
            switch key {
            case "key":
                guard try takes(.string, &reader, test.field) else { return }
                let text = try reader.string()
                attribute = PolicyAttribute(ofCondition: text)
                if attribute == nil {
                    flaw(
                        test.field, "\(quoted(text)) is unknown; of a request's :authority, :method and :path use `to`")
                }
            case "values", "notValues":
                test.isNegated = if case "notValues" = key { true } else { false }
                try values(&reader, &test)
                tests.append(test)
            default:
                flaw(test.field, "is unknown; remove it")
                tests.append(Test(field: test.field, hasUnreadable: true))
                try reader.skip()
            }
        }
        guard let attribute else { return [Test(field: path)] }
        if tests.isEmpty {
            flaw(path, "has neither values nor notValues")
            return [Test(field: path)]
        }
        return tests.map { test in
            var test = test
            if !test.values.isEmpty { test.attribute = attribute }
            return test
        }
    }

    private mutating func values(_ reader: inout some Reader, _ test: inout Test) throws(DecodeError) {
        guard try takes(.array, &reader, test.field) else {
            test.hasUnreadable = true
            return
        }
        var isEmpty = true
        try reader.elements { (reader, index) throws(DecodeError) in
            isEmpty = false
            if try takes(.string, &reader, "\(test.field)[\(index)]") {
                test.values.append(try reader.string())
            } else {
                test.hasUnreadable = true
            }
        }
        if isEmpty {
            flaw(test.field, "is an empty list; leave it out, or name what is meant")
            test.hasUnreadable = true
        }
    }

    func policy(_ metadata: ObjectDecoder.Metadata) -> AuthorizationPolicy {
        var draft = self
        var policy = AuthorizationPolicy(name: metadata.name)
        if let text = metadata.annotations["istio.io/dry-run"] {
            policy.access.isDryRun = text == "true"
            if text != "true", text != "false" {
                draft.flaw(
                    "metadata.annotations[\"istio.io/dry-run\"]", "\(quoted(text)) counts as false; use true or false")
            }
        }
        if !selector.isEmpty, !targets.isEmpty {
            draft.giveUp("spec.targetRefs", "excludes a selector; remove one of them")
        }
        policy.access.rules = rules.map { rule in
            PolicyRule(
                sources: rule.sources.map { $0.map { draft.test($0, metadata.name.namespace) } },
                operations: rule.operations.map { $0.map { draft.test($0, metadata.name.namespace) } },
                conditions: rule.conditions.map { draft.test($0, metadata.name.namespace) })
        }
        policy.access.action = action
        policy.access.isUnreadable = draft.isUnreadable
        if !draft.isForAll { (policy.selector, policy.targets) = (selector, targets) }
        policy.provider = provider
        policy.flaws = draft.flaws
        return policy
    }

    private mutating func test(_ test: Test, _ namespace: String) -> PolicyTest {
        guard let attribute = test.attribute else { return PolicyTest(.nothing) }
        var hasUnreadable = test.hasUnreadable
        let operand = attribute.operand(test.values, namespace: namespace) { index, message in
            hasUnreadable = true
            flaw("\(test.field)[\(index)]", message)
        }
        return PolicyTest(operand, isNegated: test.isNegated, hasUnreadable: hasUnreadable)
    }
}
