/// Rules as people read them.
import Addressing

extension PolicyRule: CustomStringConvertible {
    /// `from principal */sa/web; to port 8080 or (path /a, method not GET)`; `anybody, anything`
    package var description: String {
        var parts: [String] = []
        if !sources.isEmpty { parts.append("from " + text(sources)) }
        if !operations.isEmpty { parts.append("to " + text(operations)) }
        if !conditions.isEmpty { parts.append("when " + conditions.map(\.description).joined(separator: ", ")) }
        return parts.isEmpty ? "everything" : parts.joined(separator: "; ")
    }

    private func text(_ clauses: [[PolicyTest]]) -> String {
        let texts = clauses.map { $0.map(\.description).joined(separator: ", ") }
        guard texts.count > 1 else { return texts[0] }
        return zip(texts, clauses).map { $1.count > 1 ? "(\($0))" : $0 }.joined(separator: " or ")
    }
}

extension PolicyTest: CustomStringConvertible {
    package var description: String {
        let (name, values): (String, [String]) =
            switch operand {
            case .text(let text, let matches): (text.description, matches.map(\.description))
            case .address(let address, let prefixes): (address.description, prefixes.map(\.description))
            case .port(let ports): ("port", ports.map(String.init))
            case .nothing: ("something that cannot be read", [])
            }
        let list = (values + (hasUnreadable && operand != .nothing ? ["what cannot be read"] : []))
            .joined(separator: "|")
        return "\(name)\(isNegated ? " not" : "")\(list.isEmpty ? "" : " \(list)")"
    }
}

extension PolicyText: CustomStringConvertible {
    package var description: String {
        switch self {
        case .principal: "principal"
        case .namespace: "namespace"
        case .serviceAccount: "account"
        case .trustDomain: "trust domain"
        case .serverName: "server name"
        case .host: "host"
        case .method: "method"
        case .path: "path"
        case .header(let name): "header \(name)"
        case .requestPrincipal: "token"
        case .audience: "token's audience"
        case .presenter: "token's presenter"
        case .claim(let path): "token's claim " + path.joined(separator: ".")
        }
    }
}

extension PolicyAddress: CustomStringConvertible {
    package var description: String {
        switch self {
        case .source: "address"
        case .remote: "original address"
        case .destination: "own address"
        }
    }
}
