/// The compiler's verdict on a route -> the conditions of one of its parents (gateway spec A.7, for a Service: row 51
/// in its order, 53, 54, and l7 spec 1.10 for two kinds on one port).
import Cluster
import Compile

func conditions(_ parent: Int, of service: ObjectName, ruleCount: Int, _ verdict: RouteVerdict) -> [Condition] {
    let ports = verdict.ports[parent] ?? []
    let refusals = verdict.refusals.filter { $0.fault?.parent == parent }
    let found = distinct(ports.isEmpty ? verdict.elsewhere : ports.flatMap { verdict.rules[$0] ?? [] })
    let references = resolvedRefs(found)
    guard !ports.isEmpty else {
        return [
            Condition(kind: .accepted, isTrue: false, reason: reason(refusals), message: text(refusals)), references,
        ]
    }
    let bad = Dictionary(grouping: found.filter { $0.fault?.rule != nil }, by: { $0.fault?.rule ?? 0 })
    let isDropped = ports.allSatisfy { port in
        Set((verdict.rules[port] ?? []).compactMap(\.fault?.rule)).count == ruleCount
    }
    let dropped = bad.sorted { $0.key < $1.key }
    guard !isDropped else {
        let all = dropped.flatMap(\.value)
        let isValue = all.contains { if case .unsupportedValue = $0.fault { true } else { false } }
        return [
            Condition(
                kind: .accepted, isTrue: false, reason: isValue ? "UnsupportedValue" : "IncompatibleFilters",
                message: text(all)), references,
        ]
    }
    let place = "attached to port\(ports.count > 1 ? "s" : "") \(ports.map(String.init).joined(separator: ", "))"
    let remarks = refusals + found.filter { $0.fault == nil }
    var result = [
        Condition(
            kind: .accepted, isTrue: true, reason: "Accepted",
            message: "\(place) of Service \(service)" + (remarks.isEmpty ? "" : ". " + text(remarks))), references,
    ]
    if !dropped.isEmpty {
        let which = dropped.map { "Dropped Rule \($0.key): \(text($0.value))" }
        result.append(
            Condition(
                kind: .partiallyInvalid, isTrue: true, reason: "UnsupportedValue", message: bounded(which)))
    }
    return result
}

/// The check that was reached last is the one to mend.
private func reason(_ refusals: [Finding]) -> String {
    let reasons = refusals.map { finding in
        switch finding.fault {
        case .conflicted: "Conflicted"
        case .notHTTP: "NotAllowedByListeners"
        default: "NoMatchingParent"
        }
    }
    return ["Conflicted", "NotAllowedByListeners"].first(where: reasons.contains) ?? "NoMatchingParent"
}

/// Row 53: the gravest reason, the message lists all.
private func resolvedRefs(_ found: [Finding]) -> Condition {
    let order: [(RouteFault, String)] = [
        (.invalidKind, "InvalidKind"), (.backendNotFound, "BackendNotFound"),
        (.unsupportedProtocol, "UnsupportedProtocol"),
    ]
    let bad = found.filter { finding in order.contains { $0.0 == finding.fault } }
    guard let reason = order.first(where: { fault in bad.contains { $0.fault == fault.0 } })?.1 else {
        return Condition(
            kind: .resolvedRefs, isTrue: true, reason: "ResolvedRefs", message: "every backend that rules name is there"
        )
    }
    return Condition(kind: .resolvedRefs, isTrue: false, reason: reason, message: text(bad))
}

private func distinct(_ findings: [Finding]) -> [Finding] {
    var once: Set<Finding> = []
    return findings.filter { once.insert($0).inserted }
}

private func text(_ findings: [Finding]) -> String { bounded(findings.map { "\($0.field): \($0.message)" }) }

/// A message holds 32768 characters: what does not fit is counted.
func bounded(_ parts: [String]) -> String {
    var room = 24_000
    let kept = parts.prefix(16).prefix { part in
        room -= part.utf8.count
        return room >= 0
    }
    let rest = parts.count - kept.count
    return kept.joined(separator: ". ") + (rest > 0 ? ". \(rest) more like these; agentctl status has them" : "")
}
