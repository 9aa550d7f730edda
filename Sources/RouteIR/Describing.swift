/// Routes in words, for `agentctl routes` and `explain`.

extension PathMatch: CustomStringConvertible {
    package var description: String {
        switch self {
        case .exact(let path): "= \(path)"
        case .prefix(let path): path.hasSuffix("/") ? "\(path)*" : "\(path)[/*]"
        case .regex(let pattern): "~ \(pattern)"
        }
    }
}

extension FieldMatch: CustomStringConvertible {
    package var description: String {
        switch value {
        case .exact(let text): "\(name)=\(text)"
        case .regex(let pattern): "\(name)~\(pattern)"
        }
    }
}

extension RouteMatch: CustomStringConvertible {
    package var description: String {
        ([method, path.description].compactMap { $0 } + headers.map { "header \($0)" } + query.map { "query \($0)" })
            .joined(separator: ", ")
    }
}

extension RouteMatcher.Mismatch: CustomStringConvertible {
    package var description: String {
        switch self {
        case .path: "the path is another"
        case .method: "the method is another"
        case .header(let name): "header \(name) is missing or has another value"
        case .query(let name): "query parameter \(name) is missing or has another value"
        }
    }
}

extension WeightedBackend.Target: CustomStringConvertible {
    package var description: String {
        switch self {
        case .upstream(let id): id.description
        case .invalid(let reason): "500 (\(reason))"
        }
    }
}

extension RouteFilter: CustomStringConvertible {
    package var description: String {
        switch self {
        case .requestHeaders(let edit): "request headers \(edit)"
        case .responseHeaders(let edit): "response headers \(edit)"
        case .redirect(let redirect): "redirect \(redirect)"
        case .rewrite(let rewrite):
            "rewrite "
                + [rewrite.hostname.map { "host \($0)" }, rewrite.path?.description].compactMap { $0 }
                .joined(separator: ", ")
        case .mirror(let mirror): "mirror \(mirror.numerator)/\(mirror.denominator) to \(mirror.target)"
        case .cors(let policy): "CORS for \(policy.allowOrigins.joined(separator: " "))"
        case .unresolved(let reason): "500 (\(reason))"
        }
    }
}

extension HeaderEdit: CustomStringConvertible {
    package var description: String {
        (self.set.map { "set \($0.name)" } + add.map { "add \($0.name)" } + remove.map { "remove \($0)" })
            .joined(separator: ", ")
    }
}

extension PathEdit: CustomStringConvertible {
    package var description: String {
        switch self {
        case .full(let path): "path \(path)"
        case .replacePrefix(let matched, let new): "\(matched) becomes \(new.isEmpty ? "/" : new)"
        }
    }
}

extension Redirect: CustomStringConvertible {
    package var description: String {
        let parts = [
            scheme.map { "scheme \($0)" }, hostname.map { "host \($0)" }, port.map { "port \($0)" }, path?.description,
        ]
        return (["\(status)"] + parts.compactMap { $0 }).joined(separator: ", ")
    }
}
