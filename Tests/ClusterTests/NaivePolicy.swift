/// The rows of spec 1.6 about AuthorizationPolicy once more, written from their text alone and as plainly as can be: by
/// the words of the document, without regard to cost. Each condition comes to the answers that are possible.
import Addressing
import RouteIR
import TestSupport

struct NaivePolicy {
    struct Rule {
        /// Fields and their values; one entry of `from` or `to` each. nil: the list is not there.
        var from: [[(field: String, values: [String])]]?
        var to: [[(field: String, values: [String])]]?
        var when: [(key: String, values: [String], notValues: [String])] = []
    }
    var name: String
    var action: String
    var rules: [Rule]

    var document: String {
        func list(_ values: [String]) -> String { "[" + values.map(\.debugDescription).joined(separator: ", ") + "]" }
        func clauses(_ inner: String, _ clauses: [[(field: String, values: [String])]]?) -> String? {
            clauses.map { clauses in
                "["
                    + clauses.map {
                        "{\(inner): {" + $0.map { "\($0.field): \(list($0.values))" }.joined(separator: ", ") + "}}"
                    }
                    .joined(separator: ", ") + "]"
            }
        }
        let texts = rules.map { rule in
            var parts: [String] = []
            if let from = clauses("source", rule.from) { parts.append("from: \(from)") }
            if let to = clauses("operation", rule.to) { parts.append("to: \(to)") }
            let conditions = rule.when.map { condition in
                "{key: \(condition.key.debugDescription)"
                    + (condition.values.isEmpty ? "" : ", values: \(list(condition.values))")
                    + (condition.notValues.isEmpty ? "" : ", notValues: \(list(condition.notValues))") + "}"
            }
            if !conditions.isEmpty { parts.append("when: [\(conditions.joined(separator: ", "))]") }
            return "{\(parts.joined(separator: ", "))}"
        }
        return "metadata: {name: \(name), namespace: shop}\n"
            + "spec: {action: \(action), rules: [\(texts.joined(separator: ", "))]}"
    }
}

struct NaiveQuestion {
    var facts: PolicyQuestion
    var request: TextRequest?

    private let certain: Set<Bool> = [true]
    private let unsure: Set<Bool> = [true, false]

    func isAllowed(_ policies: [NaivePolicy]) -> Bool {
        func matches(_ action: String) -> Bool {
            policies.contains { $0.action == action && $0.rules.contains { holds($0, action) } }
        }
        if matches("CUSTOM") || matches("DENY") { return false }
        return !policies.contains { $0.action == "ALLOW" } || matches("ALLOW")
    }

    private func holds(_ rule: NaivePolicy.Rule, _ action: String) -> Bool {
        let isLater = request == nil && facts.hasRequests
        let answers = all([any(rule.from), any(rule.to)] + rule.when.map(condition))
        guard action == "ALLOW" else { return isLater ? answers == certain : answers.contains(true) }
        if hasNonsense(rule) { return false }
        if isLater { return answers.contains(true) }
        return answers == certain && !(request == nil && isAboutRequests(rule))
    }

    private func all(_ parts: [Set<Bool>]) -> Set<Bool> {
        parts.reduce([true]) { known, part in Set(known.flatMap { a in part.map { a && $0 } }) }
    }
    private func any(_ clauses: [[(field: String, values: [String])]]?) -> Set<Bool> {
        guard let clauses else { return [true] }
        return clauses.map { all($0.map { field($0.field, $0.values) }) }
            .reduce([false]) { known, part in Set(known.flatMap { a in part.map { a || $0 } }) }
    }
    private func condition(_ condition: (key: String, values: [String], notValues: [String])) -> Set<Bool> {
        var parts: [Set<Bool>] = []
        if !condition.values.isEmpty { parts.append(oneOf(condition.key, condition.values)) }
        if !condition.notValues.isEmpty { parts.append(not(oneOf(condition.key, condition.notValues))) }
        return all(parts)
    }
    private func not(_ answers: Set<Bool>) -> Set<Bool> { Set(answers.map { !$0 }) }

    private static let keys = [
        "principals": "source.principal", "namespaces": "source.namespace", "ipBlocks": "source.ip",
        "remoteIpBlocks": "remote.ip", "ports": "destination.port", "hosts": "host", "methods": "method",
        "paths": "path", "serviceAccounts": "account",
    ]
    private func field(_ name: String, _ values: [String]) -> Set<Bool> {
        if let key = Self.keys[name] { return oneOf(key, values) }
        let positive = name.dropFirst(3).prefix(1).lowercased() + name.dropFirst(4)
        guard name.hasPrefix("not"), let key = Self.keys[positive] else { return unsure }
        return not(oneOf(key, values))
    }

    /// Whoever names a host may add the port, and whoever calls in the clear may be whose address it is: each reading
    /// of the question has its answer.
    private func oneOf(_ key: String, _ values: [String]) -> Set<Bool> {
        let sensible = values.filter { !isNonsense(key, $0) }
        let byValue = sensible.map { answersOfReadings(key, $0) }
        guard let readings = byValue.first?.count, readings > 0 else { return unsure }
        let answers = (0..<readings).map { reading in byValue.contains { $0[reading] } }
        return Set(answers + (sensible.count < values.count ? [true] : []))
    }

    /// What each reading of the question says; none: it cannot be said.
    private func answersOfReadings(_ key: String, _ value: String) -> [Bool] {
        switch key {
        case "source.principal", "source.namespace", "account":
            let peers =
                facts.peer != nil ? [facts.peer] : facts.supposedPeer != nil ? [nil, facts.supposedPeer] : [nil]
            return peers.map { peer in
                peer.map {
                    names($0, key).contains {
                        glob(key == "account" && !value.contains("/") ? "shop/\(value)" : value, $0)
                    }
                } ?? false
            }
        case "source.ip": return facts.source.map { [isIn(value, $0)] } ?? []
        case "remote.ip":
            guard request != nil, let address = facts.remote ?? facts.source else { return [] }
            return [isIn(value, address)]
        case "destination.port": return [value == "\(facts.port)"]
        case "connection.sni": return facts.serverName.map { [glob(value, $0)] } ?? []
        case "host":
            guard let request else { return [] }
            guard let host = request.headers.first(where: { $0.0 == "host" })?.1.lowercased() else { return [false] }
            let short = host.hasSuffix(":80") ? String(host.dropLast(3)) : host
            return [glob(value.lowercased(), host), glob(value.lowercased(), short)]
        case "method": return request.map { [glob(value, $0.methodText)] } ?? []
        case "path": return request.map { [path(Array(value), Array($0.pathText))] } ?? []
        case "request.headers[x-foo]":
            return request.map { request in [request.headers.contains { $0.0 == "x-foo" && glob(value, $0.1) }] } ?? []
        default: return []
        }
    }

    private func names(_ peer: PolicyPeer, _ key: String) -> [String] {
        switch key {
        case "source.namespace": return [peer.namespace]
        case "account": return ["\(peer.namespace)/\(peer.serviceAccount)"]
        default:
            let own = ["mesh.example", "old.example"]
            let domains = own.contains(peer.trustDomain) ? own + ["cluster.local"] : [peer.trustDomain]
            return domains.map { "\($0)/ns/\(peer.namespace)/sa/\(peer.serviceAccount)" }
        }
    }
    private func isIn(_ block: String, _ address: IPAddress) -> Bool {
        (IPPrefix(block) ?? IPAddress(block).map { IPPrefix(host: $0) })?.contains(address) ?? false
    }
    private func glob(_ pattern: String, _ text: String) -> Bool {
        if pattern == "*" { return !text.isEmpty }
        if pattern.hasPrefix("*") { return text.hasSuffix(String(pattern.dropFirst())) }
        return pattern.hasSuffix("*") ? text.hasPrefix(String(pattern.dropLast())) : pattern == text
    }
    private func path(_ pattern: [Character], _ text: [Character]) -> Bool {
        guard String(pattern).contains("{") else { return glob(String(pattern), String(text)) }
        if pattern.isEmpty { return text.isEmpty }
        if pattern.starts(with: "{**}") {
            return (0...text.count).contains { path(Array(pattern.dropFirst(4)), Array(text.dropFirst($0))) }
        }
        if pattern.starts(with: "{*}") {
            let most = text.prefix { $0 != "/" }.count
            return most > 0 && (1...most).contains { rest(pattern.dropFirst(3), text.dropFirst($0)) }
        }
        return text.first == pattern.first && rest(pattern.dropFirst(), text.dropFirst())
    }
    private func rest(_ pattern: ArraySlice<Character>, _ text: ArraySlice<Character>) -> Bool {
        String(pattern).contains("{") ? path(Array(pattern), Array(text)) : Array(pattern) == Array(text)
    }

    private func isNonsense(_ key: String, _ value: String) -> Bool {
        switch key {
        case "destination.port": UInt16(value) == nil
        case "source.ip", "remote.ip": IPPrefix(value) == nil && IPAddress(value) == nil
        case "path": value == "/x{*}"
        default: value.isEmpty
        }
    }
    private func hasNonsense(_ rule: NaivePolicy.Rule) -> Bool {
        let fields = ((rule.from ?? []) + (rule.to ?? [])).joined()
        return fields.contains { field, values in
            let positive =
                field.hasPrefix("not") ? field.dropFirst(3).prefix(1).lowercased() + field.dropFirst(4) : field
            return Self.keys[positive].map { key in values.contains { isNonsense(key, $0) } } ?? true
        }
            || rule.when.contains { condition in
                !["source.ip", "source.namespace", "destination.port", "connection.sni", "request.headers[x-foo]"]
                    .contains(condition.key)
                    || (condition.values + condition.notValues).contains { isNonsense(condition.key, $0) }
            }
    }
    private func isAboutRequests(_ rule: NaivePolicy.Rule) -> Bool {
        let fields = ((rule.from ?? []) + (rule.to ?? [])).joined().map { $0.field.lowercased() }
        return fields.contains { field in
            ["hosts", "methods", "paths", "remoteipblocks"].contains { field.hasSuffix($0) }
        }
            || rule.when.contains { $0.key.hasPrefix("request.") }
    }
}
