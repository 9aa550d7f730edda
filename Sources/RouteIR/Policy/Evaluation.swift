/// Whether a rule holds: yes, no, or unknown, which is what an attribute is that its enforcer cannot see, that was
/// written so that nobody can read it, or that two readings differ in. "Unknown" is handed up as in Kleene's logic.
import Addressing

enum Truth: UInt8, Comparable {
    case no
    case unknown
    case yes

    init(_ holds: Bool) { self = holds ? .yes : .no }
    /// Known only where both readings agree.
    init(_ holds: Bool, otherwise: Bool) { self = holds == otherwise ? Truth(holds) : .unknown }

    static func < (a: Truth, b: Truth) -> Bool { a.rawValue < b.rawValue }
    static prefix func ! (truth: Truth) -> Truth { truth == .unknown ? .unknown : truth == .yes ? .no : .yes }
}

struct Evaluation<Request: RequestView> {
    private let question: PolicyQuestion
    /// nil: it is asked of a connection.
    private let request: Request?
    private let peer: NamedPeer?
    /// Only of a connection in the clear.
    private let supposed: NamedPeer?

    init(_ question: PolicyQuestion, _ request: Request?, _ trustDomains: [String]) {
        self.question = question
        self.request = request
        peer = question.peer.map { NamedPeer($0, trustDomains) }
        supposed = question.peer == nil ? question.supposedPeer.map { NamedPeer($0, trustDomains) } : nil
    }

    private var isBeforeRequests: Bool { request == nil && question.hasRequests }

    func allows(_ rule: PolicyRule) -> Bool {
        if rule.isUnreadable { return false }
        if isBeforeRequests { return truth(of: rule) != .no }
        // One that also has a part without requests does not hold for that one alone.
        return !(request == nil && rule.needsRequest) && truth(of: rule) == .yes
    }
    func denies(_ rule: PolicyRule) -> Bool { truth(of: rule) >= (isBeforeRequests ? .yes : .unknown) }

    func truth(of rule: PolicyRule) -> Truth {
        var truth = any(of: rule.sources)
        if truth > .no { truth = min(truth, any(of: rule.operations)) }
        if truth > .no { truth = min(truth, all(of: rule.conditions)) }
        return truth
    }
    private func any(of clauses: [[PolicyTest]]) -> Truth {
        var truth = Truth(clauses.isEmpty)
        for clause in clauses where truth != .yes { truth = max(truth, all(of: clause)) }
        return truth
    }
    private func all(of tests: [PolicyTest]) -> Truth {
        var truth = Truth.yes
        for test in tests where truth != .no { truth = min(truth, self.truth(of: test)) }
        return truth
    }

    private func truth(of test: PolicyTest) -> Truth {
        let readable =
            switch test.operand {
            case .nothing: Truth.unknown
            case .port(let ports): Truth(ports.contains(question.port))
            case .address(let address, let prefixes): truth(of: address, in: prefixes)
            case .text(let text, let matches): truth(of: text, oneOf: matches)
            }
        // A value that cannot be read may be the one that holds.
        let truth = test.hasUnreadable ? max(readable, .unknown) : readable
        return test.isNegated ? !truth : truth
    }

    private func truth(of address: PolicyAddress, in prefixes: [IPPrefix]) -> Truth {
        let value: IPAddress? =
            switch address {
            case .source: question.source
            case .destination: question.destination
            case .remote: request == nil ? nil : question.remote ?? question.source
            }
        return value.map { value in Truth(prefixes.contains { $0.contains(value) }) } ?? .unknown
    }

    private func truth(of text: PolicyText, oneOf matches: [TextMatch]) -> Truth {
        if text.isOfPeer {
            let isProven = peer?.holds(text, oneOf: matches) ?? false
            return Truth(isProven, otherwise: supposed?.holds(text, oneOf: matches) ?? isProven)
        }
        if text == .serverName {
            return question.serverName.map { name in Truth(matches.match(name, ignoresCase: true)) } ?? .unknown
        }
        return request.map { truth(of: text, oneOf: matches, $0) } ?? .unknown
    }

    private func truth(of text: PolicyText, oneOf matches: [TextMatch], _ request: Request) -> Truth {
        switch text {
        case .principal, .namespace, .serviceAccount, .trustDomain, .serverName: .unknown
        case .method: Truth(request.method { value in matches.match(value) })
        case .path: Truth(request.path { value in matches.match(value) })
        case .header(let name): Truth(request.header(name) { value in matches.match(value) })
        case .host:
            // A client may name the port or not, and means the same.
            Truth(
                request.header("host") { value in matches.match(value, ignoresCase: true) },
                otherwise: request.header("host") { value in
                    matches.match(value.extracting(first: value.countWithoutPort), ignoresCase: true)
                })
        case .requestPrincipal: Truth(question.token.map { matches.match($0.principal) } ?? false)
        case .audience: Truth(question.token?.audiences.contains { matches.match($0) } ?? false)
        case .presenter: Truth(question.token?.presenter.map { matches.match($0) } ?? false)
        case .claim(let path): Truth(question.token?.claims[path]?.contains { matches.match($0) } ?? false)
        }
    }
}

/// A peer by all the names that it has.
private struct NamedPeer {
    private let peer: PolicyPeer
    private let trustDomains: [String]
    private let account: String

    /// Istio's policies say `cluster.local` where they mean this cluster, whatever it is called.
    init(_ peer: PolicyPeer, _ trustDomains: [String]) {
        self.peer = peer
        self.trustDomains =
            trustDomains.contains(peer.trustDomain) ? trustDomains + ["cluster.local"] : [peer.trustDomain]
        account = "\(peer.namespace)/\(peer.serviceAccount)"
    }

    func holds(_ text: PolicyText, oneOf matches: [TextMatch]) -> Bool {
        switch text {
        case .principal:
            trustDomains.contains { domain in
                matches.match("\(domain)/ns/\(peer.namespace)/sa/\(peer.serviceAccount)")
            }
        case .namespace: matches.match(peer.namespace)
        case .serviceAccount: matches.match(account)
        case .trustDomain: trustDomains.contains { matches.match($0) }
        default: false
        }
    }
}

extension [TextMatch] {
    fileprivate func match(_ value: Span<UInt8>, ignoresCase: Bool = false) -> Bool {
        for match in self where match.matches(value, ignoresCase: ignoresCase) { return true }
        return false
    }
    fileprivate func match(_ value: String, ignoresCase: Bool = false) -> Bool {
        match(value.utf8Span.span, ignoresCase: ignoresCase)
    }
}

extension Span<UInt8> {
    /// Of a host with a port as its last part.
    fileprivate var countWithoutPort: Int {
        var index = count
        while index > 0, self[index - 1] >= UInt8(ascii: "0"), self[index - 1] <= UInt8(ascii: "9") { index -= 1 }
        return index > 1 && index < count && self[index - 1] == UInt8(ascii: ":") ? index - 1 : count
    }
}

/// Where only a connection is asked about.
struct NoRequest: RequestView {
    func method<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Span()) }
    func path<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Span()) }
    func query<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Span()) }
    func header(_ name: String, passes test: (Span<UInt8>) -> Bool) -> Bool { false }
}
