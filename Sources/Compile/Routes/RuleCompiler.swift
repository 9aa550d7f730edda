/// A route's rules -> rules as the proxy matches them: references looked up, expressions compiled, gRPC methods turned
/// into paths. A rule that cannot do what it says answers with an error; it is never quietly left out or let through.
package import Cluster
import RouteIR

struct RuleCompiler {
    let route: Route
    /// The service port a reference means, or why it means none.
    let resolve: (Route.BackendReference) -> Result<ResolvedBackend, ReferenceFault>
    private(set) var findings: [Finding] = []
    /// That patterns of the table may still have (`Pattern.maximumTableStates`).
    private(set) var statesLeft: Int
    private var field = ""
    /// A pattern of the rule at hand stands for one that is too much.
    private var exceedsStates = false

    init(
        _ route: Route, statesLeft: Int = Pattern.maximumTableStates,
        resolve: @escaping (Route.BackendReference) -> Result<ResolvedBackend, ReferenceFault>
    ) {
        self.route = route
        self.statesLeft = statesLeft
        self.resolve = resolve
    }

    mutating func rules() -> [RouteRule] {
        if !route.hostnames.isEmpty {
            field = "spec.hostnames"
            note(
                "ignored-hostnames", "have no meaning for a Service: routes apply to its cluster IP, whatever the Host")
        }
        for key in route.annotations.keys.sorted() where key != Self.retryAnnotation {
            field = "metadata.annotations[\"\(key)\"]"
            note("unknown-annotation", "is unknown on a route and does nothing; see docs/l7.md")
        }
        return route.rules.indices.compactMap { rule($0) }
    }

    static let retryAnnotation = "heddle.io/retry-non-idempotent"

    private mutating func note(_ reason: String, _ message: String, _ fault: RouteFault? = nil) {
        findings.append(Finding(reason: reason, object: route.id, field: field, message: message, fault: fault))
    }

    /// The rule does nothing of what it says: what was found since `start` is why.
    private mutating func condemn(_ rule: Int, since start: Int) {
        for index in findings.indices.dropFirst(start)
        where findings[index].fault == nil && ["invalid-regex", "unsupported-filter"].contains(findings[index].reason) {
            findings[index].fault = .unsupportedValue(rule: rule)
        }
    }

    private mutating func rule(_ index: Int) -> RouteRule? {
        let source = route.rules[index]
        let path = "spec.rules[\(index)]"
        for name in source.ignoredFields {
            field = "\(path).\(name)"
            note("unsupported-field", "is not supported and does nothing")
        }
        var matches: [RouteMatch] = []
        exceedsStates = false
        let start = findings.count
        for (number, match) in (source.matches.isEmpty ? [Route.Match()] : source.matches).enumerated() {
            field = "\(path).matches[\(number)]"
            // Simplified ones are often the same.
            if let match = compile(match), !exceedsStates || !matches.contains(match) { matches.append(match) }
        }
        // Every match was refused: nothing can come here.
        guard !matches.isEmpty else {
            condemn(index, since: start)
            return nil
        }
        var rule = RouteRule(
            name: route.ruleName(index), kind: route.kind == .http ? .http : .grpc, matches: matches)
        rule.filters = filters(source.filters, source, at: path, rule: index)
        if exceedsStates {
            field = "\(path).matches"
            note(
                "too-many-patterns",
                "\(Self.tooManyStates); requests that begin like them are answered with 500; make repetitions smaller "
                    + "or use PathPrefix and Exact", .unsupportedValue(rule: index))
            rule.filters.append(.unresolved(Self.tooManyStates))
        }
        let beforeBackends = findings.count
        for (number, backend) in source.backends.enumerated() {
            field = "\(path).backendRefs[\(number)]"
            rule.backends.append(
                WeightedBackend(
                    target(backend.reference), weight: backend.weight,
                    filters: filters(backend.filters, source, at: field)))
        }
        if !rule.backends.isEmpty, rule.backends.allSatisfy({ $0.filters.contains(where: \.isUnresolved) }) {
            condemn(index, since: beforeBackends)
        }
        field = "\(path).backendRefs"
        if !rule.backends.isEmpty, rule.backends.allSatisfy({ $0.weight == 0 }) {
            note("no-weight", "every weight is 0, so requests are answered with 500; give one backend a weight")
        }
        rule.timeouts = source.timeouts
        rule.retry = source.retry
        if route.annotations[Self.retryAnnotation] == "true" { rule.retry?.classes.insert(.nonIdempotent) }
        return rule
    }

    static let tooManyStates =
        "the regular expressions of its Service's routes need more than \(Pattern.maximumTableStates) states together"

    // MARK: Matches

    private mutating func compile(_ match: Route.Match) -> RouteMatch? {
        guard let path = path(match.path), let headers = fields(match.headers), let query = fields(match.query) else {
            return nil
        }
        return RouteMatch(path: path, method: match.method, headers: headers, query: query)
    }

    private mutating func path(_ path: Route.PathMatch) -> PathMatch? {
        switch path {
        case .exact(let text): return .exact(text)
        case .prefix(let text): return .prefix(text)
        case .regularExpression(let text): return pattern(text).map(PathMatch.regex)
        case .call(let service, let method):
            // The path of a call is /service/method.
            guard service?.isRegularExpression != true, method?.isRegularExpression != true, let service else {
                let any = Route.TextMatch("[^/]+", isRegularExpression: true)
                guard let service = part(service ?? any), let method = part(method ?? any) else { return nil }
                return pattern("/\(service)/\(method)").map(PathMatch.regex)
            }
            return method.map { .exact("/\(service.text)/\($0.text)") } ?? .prefix("/\(service.text)")
        }
    }

    /// As one of several parts of a pattern: nothing that it says reaches beyond it.
    private mutating func part(_ match: Route.TextMatch) -> String? {
        guard match.isRegularExpression else { return Pattern.quoted(match.text.utf8) }
        // What is whole only between its neighbours is no pattern.
        guard parsed(match.text) != nil else { return nil }
        // One that leaves a quotation open would take in what follows.
        let closed = match.text + "\\E"
        return "(?:\((try? Pattern(closed)) == nil ? match.text : closed))"
    }

    private mutating func fields(_ fields: [Route.FieldMatch]) -> [FieldMatch]? {
        var result: [FieldMatch] = []
        for field in fields {
            if field.value.isRegularExpression {
                guard let pattern = pattern(field.value.text) else { return nil }
                result.append(FieldMatch(field.name, .regex(pattern)))
            } else {
                result.append(FieldMatch(field.name, .exact(field.value.text)))
            }
        }
        return result
    }

    private mutating func pattern(_ text: String) -> Pattern? {
        guard let pattern = parsed(text) else { return nil }
        statesLeft -= pattern.states
        guard statesLeft < 0 else { return pattern }
        // What would match must not fall to another rule, and telling what would is what there is no room for.
        exceedsStates = true
        return statesLeft > -Pattern.maximumTableStates ? pattern.simplified : Pattern.anything
    }

    private mutating func parsed(_ text: String) -> Pattern? {
        do throws(PatternError) { return try Pattern(text) } catch {
            note("invalid-regex", "never matches: the regular expression \(text.debugDescription) has \(error)")
            return nil
        }
    }

    // MARK: Backends and filters

    private mutating func target(_ reference: Route.BackendReference) -> WeightedBackend.Target {
        switch resolve(reference) {
        case .failure(let reason):
            note("invalid-backend", "\(reason.message); its share of requests is answered with 500", reason.fault)
            return .invalid(reason.message)
        case .success(let backend):
            if let given = backend.port.appProtocol, !given.isEmpty, !isSpoken(DeclaredProtocol(backend.port)) {
                note(
                    "backend-protocol",
                    "port \(backend.port.port) of Service \(reference.name) says that it speaks "
                        + "\(given.debugDescription), "
                        + "which \(route.id.kind.rawValue)s do not; it is sent "
                        + "HTTP/1.1 without TLS all the same; correct its appProtocol or the reference",
                    .unsupportedProtocol)
            }
            return .upstream(backend.upstream)
        }
    }

    private func isSpoken(_ declared: DeclaredProtocol) -> Bool {
        switch declared {
        case .http(let spoken): spoken != .http1 || route.kind == .http
        case .unknown: true
        case .other: false
        }
    }

    /// `rule`: the filters are its own and not those of one of its backends.
    private mutating func filters(
        _ filters: [Route.Filter], _ rule: Route.Rule, at path: String, rule index: Int? = nil
    ) -> [RouteFilter] {
        var result: [RouteFilter] = []
        let kinds = filters.map { filter in
            switch filter {
            case .redirect: "redirect"
            case .rewrite: "rewrite"
            default: ""
            }
        }
        for (number, filter) in filters.enumerated() {
            field = "\(path).filters[\(number)]"
            if kinds[number] != "", kinds[..<number].contains(where: { $0 != "" }) {
                let fault = index.map { RouteFault.incompatibleFilters(rule: $0) }
                result.append(unresolved("a second redirect or rewrite; keep one", fault))
                continue
            }
            let start = findings.count
            let compiled = self.filter(filter, rule)
            if let index, compiled.isUnresolved { condemn(index, since: start) }
            result.append(compiled)
        }
        return result
    }

    private mutating func filter(_ filter: Route.Filter, _ rule: Route.Rule) -> RouteFilter {
        switch filter {
        case .ready(let filter): return filter
        case .mirror(let reference, let numerator, let denominator):
            return .mirror(Mirror(target(reference), numerator: numerator, denominator: denominator))
        case .redirect(var redirect, let path):
            guard let path else { return .redirect(redirect) }
            guard let edit = edit(path, rule) else { return unresolved(Self.needsOnePrefix) }
            redirect.path = edit
            return .redirect(redirect)
        case .rewrite(let hostname, let path):
            guard let path else { return .rewrite(Rewrite(hostname: hostname)) }
            guard let edit = edit(path, rule) else { return unresolved(Self.needsOnePrefix) }
            return .rewrite(Rewrite(hostname: hostname, path: edit))
        case .unknown(let type): return unresolved("a filter of type \(type.debugDescription), which is not supported")
        }
    }

    private static let needsOnePrefix = "ReplacePrefixMatch, which needs a rule with exactly one match, a PathPrefix"

    private func edit(_ change: Route.PathChange, _ rule: Route.Rule) -> PathEdit? {
        switch change {
        case .full(let path): return .full(path)
        case .prefix(let replacement):
            guard rule.matches.count <= 1, case .prefix(let matched) = (rule.matches.first ?? Route.Match()).path else {
                return nil
            }
            return .replacePrefix(matched, with: replacement)
        }
    }

    private mutating func unresolved(_ what: String, _ fault: RouteFault? = nil) -> RouteFilter {
        note("unsupported-filter", "is \(what); requests are answered with 500", fault)
        return .unresolved(what)
    }
}

extension RouteFilter {
    fileprivate var isUnresolved: Bool { if case .unresolved = self { true } else { false } }
}
extension Route {
    /// What the rule is called once it is compiled.
    package func ruleName(_ index: Int) -> String {
        "\(name) \(kind == .http ? "" : "grpc ")rule \(index)" + (rules[index].name.map { " (\($0))" } ?? "")
    }
}
