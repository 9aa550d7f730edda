/// The rules of routes that are attached to one port together, and what they name.
import Addressing
package import Cluster
import RouteIR

/// Rules in order of their routes; `report` is told what is not done and why.
func compileRules(
    _ routes: [Route], _ services: [ObjectName: Service], report: (Finding) -> Void
) -> [RouteRule] {
    var statesLeft = Pattern.maximumTableStates
    var owners: [ObjectID] = []
    let rules = routes.flatMap { route in
        var compiler = RuleCompiler(route, statesLeft: statesLeft) { target($0, services) }
        let rules = compiler.rules()
        statesLeft = compiler.statesLeft
        compiler.findings.forEach(report)
        owners += repeatElement(route.id, count: rules.count)
        return rules
    }
    conflicts(rules, of: owners).forEach(report)
    return rules
}

/// Services that rules name, whether or not they exist.
func namedServices(_ routes: [Route]) -> Set<ObjectName> {
    Set(
        routes.flatMap(\.rules).flatMap { rule in
            rule.backends.map(\.reference.name) + rule.mirrored + rule.backends.flatMap(\.mirrored)
        })
}

struct ResolvedBackend {
    let upstream: UpstreamID
    let port: Service.Port
}

struct ReferenceFault: Error {
    let fault: RouteFault
    let message: String

    init(_ fault: RouteFault, _ message: String) {
        self.fault = fault
        self.message = message
    }
}

/// Which services the rules of which services' routes name: a change of one of them asks none of the others.
package struct BackendUsers: Sendable {
    private var users: [ObjectName: Set<ObjectName>] = [:]
    /// Of each service in `users`: what a reference to it depends on.
    private var seen: [ObjectName: Service] = [:]

    package init() {}
    package func contains(_ service: ObjectName) -> Bool { users[service] != nil }

    /// Those whose rules must be looked at again.
    package func affected(by dirty: Set<ObjectName>, _ services: [ObjectName: Service]) -> Set<ObjectName> {
        var result: Set<ObjectName> = []
        for name in dirty where users[name] != nil && !isSameTarget(seen[name], services[name]) {
            result.formUnion(users[name] ?? [])
        }
        return result
    }

    package mutating func replace(
        _ old: Set<ObjectName>, with new: Set<ObjectName>, of parent: ObjectName, _ services: [ObjectName: Service]
    ) {
        for used in old.subtracting(new) {
            users[used]?.remove(parent)
            if users[used]?.isEmpty == true { (users[used], seen[used]) = (nil, nil) }
        }
        for used in new {
            users[used, default: []].insert(parent)
            seen[used] = services[used]
        }
    }

    private func isSameTarget(_ a: Service?, _ b: Service?) -> Bool {
        a?.ports == b?.ports && a?.type == b?.type && (a == nil) == (b == nil)
    }
}

/// Two rules with one and the same match: the later one never gets a request by it.
private func conflicts(_ rules: [RouteRule], of owners: [ObjectID]) -> [Finding] {
    var first: [RouteMatch: String] = [:]
    var findings: [Finding] = []
    // What stands for patterns that are too much says nothing of the rule's own matches.
    for (rule, owner) in zip(rules, owners)
    where !rule.filters.contains(.unresolved(RuleCompiler.tooManyStates)) {
        for match in rule.matches {
            guard let winner = first[match] else {
                first[match] = rule.name
                continue
            }
            findings.append(
                Finding(
                    reason: "route-conflict", object: owner, field: "spec.rules",
                    message: "a match of \(rule.name) is also one of \(winner), which is older and gets the "
                        + "requests; change one of them"))
        }
    }
    return findings
}

/// The service port that a reference means, or why it means none.
func target(
    _ reference: Route.BackendReference, _ services: [ObjectName: Service]
) -> Result<ResolvedBackend, ReferenceFault> {
    guard reference.group.isEmpty || reference.group == "core", reference.kind == "Service" else {
        return .failure(.init(.invalidKind, "kind \(reference.kind) is not supported, only Service is"))
    }
    guard let service = services[reference.name] else {
        return .failure(.init(.backendNotFound, "Service \(reference.name) does not exist"))
    }
    guard service.type != .externalName else {
        return .failure(
            .init(.backendNotFound, "Service \(reference.name) is of type ExternalName, which has no endpoints"))
    }
    guard let port = service.ports.first(where: { $0.port == reference.port && $0.transport == .tcp }) else {
        let which = reference.port.map { "TCP port \($0)" } ?? "port without a number; name one"
        return .failure(.init(.backendNotFound, "Service \(reference.name) has no \(which)"))
    }
    return .success(
        ResolvedBackend(
            upstream: UpstreamID(
                RoutedServiceID(namespace: reference.name.namespace, name: reference.name.name, port: port.port)),
            port: port))
}

extension Route.Rule {
    fileprivate var mirrored: [ObjectName] { mirrorTargets(filters) }
}
extension Route.Backend {
    fileprivate var mirrored: [ObjectName] { mirrorTargets(filters) }
}
private func mirrorTargets(_ filters: [Route.Filter]) -> [ObjectName] {
    filters.compactMap { if case .mirror(let reference, _, _) = $0 { reference.name } else { nil } }
}
