/// The notation of the Gateway API conformance cases -> manifests as a user would write them.
import TestSupport
import YAML

func list(_ node: YAMLNode?) -> [YAMLNode] { node.map { Array($0.elements) } ?? [] }
func map(_ node: YAMLNode?) -> [(String, String)] {
    node?.entries.filter { $0.value.kind == .scalar }.map { ($0.key.text, $0.value.text) } ?? []
}

/// What this file and the replay understand; a case with anything else fails, so that nothing is passed over.
func requireKnown(_ node: YAMLNode?, _ known: String, _ what: String) throws {
    let names = known.split(separator: " ").map(String.init)
    for (key, _) in node?.entries.map({ ($0.key.text, $0.value) }) ?? [] where !names.contains(key) {
        throw TestFailure("\(what): the replay does not know `\(key)`")
    }
}

/// A Gateway as parent is the Service `gateway` here: the same rules hold for a Service.
func routeManifest(_ node: YAMLNode, name: String, filtersOnBackend: Bool) throws -> String {
    try requireKnown(node, "kind parent hostnames rules", name)
    let kind = node["kind"]?.text ?? "HTTPRoute"
    let parent = (node["parent"]?.text ?? "").split(separator: "/").map(String.init)
    let service = parent.first == "Gateway" ? ["gateway"] : parent[1].split(separator: ":").map(String.init)
    let port = service.count > 1 ? ", port: \(service[1])" : ""
    let rules = try list(node["rules"]).map { "  - \(try ruleManifest($0, kind, filtersOnBackend))\n" }
    return """
        apiVersion: gateway.networking.k8s.io/v1
        kind: \(kind)
        metadata: {name: \(name), namespace: default}
        spec:
          parentRefs: [{group: "", kind: Service, name: \(service[0])\(port)}]
          rules:
        \(rules.joined())---

        """
}

/// One rule as a flow mapping.
private func ruleManifest(_ node: YAMLNode, _ kind: String, _ filtersOnBackend: Bool) throws -> String {
    try requireKnown(
        node,
        "any path hdr q method to redirect rewrite req_set req_add req_remove resp_set resp_add resp_remove timeout "
            + "mirror", kind)
    let matches = node["any"].map { list($0) } ?? [node]
    let filters = try makeFilters(node)
    var fields: [String] = []
    if ["any", "path", "hdr", "q", "method"].contains(where: { node[$0] != nil }) {
        fields.append("matches: [\(matches.map(makeMatch).joined(separator: ", "))]")
    }
    if !filters.isEmpty, !filtersOnBackend { fields.append("filters: [\(filters.joined(separator: ", "))]") }
    let backends = list(node["to"]).map { backend -> String in
        let parts = backend.text.split(whereSeparator: { ":*".contains($0) }).map(String.init)
        let weight = parts.count > 2 ? ", weight: \(parts[2])" : ""
        let own = filtersOnBackend ? ", filters: [\(filters.joined(separator: ", "))]" : ""
        return "{name: \(parts[0]), port: \(parts[1])\(weight)\(own)}"
    }
    if !backends.isEmpty { fields.append("backendRefs: [\(backends.joined(separator: ", "))]") }
    let timeouts = map(node["timeout"]).map { ($0.0 == "backend" ? "backendRequest" : $0.0) + ": \"\($0.1)\"" }
    if !timeouts.isEmpty { fields.append("timeouts: {\(timeouts.joined(separator: ", "))}") }
    return "{" + fields.joined(separator: ", ") + "}"
}

private func makeMatch(_ node: YAMLNode) -> String {
    var fields = map(node["path"]).map { form, value in
        "path: {type: \(form == "exact" ? "Exact" : form == "prefix" ? "PathPrefix" : "RegularExpression"), "
            + "value: \"\(value)\"}"
    }
    if let method = node["method"] { fields.append("method: \(method.text)") }
    for (key, name) in [("hdr", "headers"), ("q", "queryParams")] {
        let pairs = map(node[key]).map { "{name: \"\($0.0)\", value: \"\($0.1)\"}" }
        if !pairs.isEmpty { fields.append("\(name): [\(pairs.joined(separator: ", "))]") }
    }
    return "{" + fields.joined(separator: ", ") + "}"
}

private func makeFilters(_ node: YAMLNode) throws -> [String] {
    var filters: [String] = []
    for (prefix, type, field) in [
        ("req", "RequestHeaderModifier", "requestHeaderModifier"),
        ("resp", "ResponseHeaderModifier", "responseHeaderModifier"),
    ] {
        var changes: [String] = []
        for verb in ["set", "add"] {
            let pairs = map(node["\(prefix)_\(verb)"]).map { "{name: \"\($0.0)\", value: \"\($0.1)\"}" }
            if !pairs.isEmpty { changes.append("\(verb): [\(pairs.joined(separator: ", "))]") }
        }
        let removed = list(node["\(prefix)_remove"]).map { "\"\($0.text)\"" }
        if !removed.isEmpty { changes.append("remove: [\(removed.joined(separator: ", "))]") }
        if !changes.isEmpty { filters.append("{type: \(type), \(field): {\(changes.joined(separator: ", "))}}") }
    }
    if let redirect = node["redirect"] {
        try requireKnown(redirect, "scheme host port code path full prefix", "redirect")
        let names = ["scheme": "scheme", "host": "hostname", "port": "port", "code": "statusCode"]
        let fields = map(redirect).compactMap { pair in names[pair.0].map { "\($0): \(pair.1)" } } + makePath(redirect)
        filters.append("{type: RequestRedirect, requestRedirect: {\(fields.joined(separator: ", "))}}")
    }
    if let rewrite = node["rewrite"] {
        try requireKnown(rewrite, "host path full prefix", "rewrite")
        let fields = (rewrite["host"].map { ["hostname: \($0.text)"] } ?? []) + makePath(rewrite)
        filters.append("{type: URLRewrite, urlRewrite: {\(fields.joined(separator: ", "))}}")
    }
    for mirror in list(node["mirror"]) {
        let parts = mirror.text.split(separator: ":")
        filters.append(
            "{type: RequestMirror, requestMirror: {backendRef: {name: \(parts[0]), port: \(parts[1])}}}")
    }
    return filters
}

private func makePath(_ node: YAMLNode) -> [String] {
    if let full = node["full"] ?? node["path"]?["full"] {
        return ["path: {type: ReplaceFullPath, replaceFullPath: \"\(full.text)\"}"]
    }
    guard let prefix = node["prefix"] ?? node["path"]?["prefix"] else { return [] }
    return ["path: {type: ReplacePrefixMatch, replacePrefixMatch: \"\(prefix.text)\"}"]
}
