/// Which routes apply to which port of a service (spec 1.10): by port, by the protocol the port speaks, for all clients
/// or for those of one namespace, and one kind of route a port.
import Addressing
package import Cluster
package import RouteIR

/// A route on a port, and by which of its parents it got there.
struct Attachment: Equatable {
    let route: Route
    let parents: [Int]
}

/// The routes of one port, each list in order of age.
struct AttachedRoutes: Equatable {
    var producer: [Attachment] = []
    var consumers: [String: [Attachment]] = [:]
}

/// What a port says it speaks, by appProtocol or, without one, by its name up to the first `-`.
package enum DeclaredProtocol: Equatable {
    case http(RoutedProtocol)
    case other
    case unknown

    package init(_ port: Service.Port) {
        let given = port.appProtocol?.lowercased() ?? ""
        guard given.isEmpty else {
            self = Self.byAppProtocol[given].map(DeclaredProtocol.http) ?? .other
            return
        }
        let name = port.name.lowercased()
        let prefix = name.hasPrefix("grpc-web") ? "http" : String(name.prefix { $0 != "-" })
        self = Self.byName[prefix].map(DeclaredProtocol.http) ?? (Self.otherNames.contains(prefix) ? .other : .unknown)
    }

    private static let byName: [String: RoutedProtocol] = [
        "http": .http1, "ws": .http1, "http2": .h2c, "h2c": .h2c, "grpc": .grpc,
    ]
    private static let byAppProtocol: [String: RoutedProtocol] = byName.merging([
        "kubernetes.io/h2c": .h2c, "kubernetes.io/ws": .http1, "http/1.1": .http1, "grpc-web": .http1,
    ]) { first, _ in first }
    private static let otherNames: Set<String> = [
        "https", "tls", "tcp", "udp", "mongo", "mysql", "redis", "postgres", "postgresql", "kafka", "amqp", "ldap",
        "smtp", "ssh", "dns", "wss",
    ]
}

/// Routes by port number; `report` is told what is not done and why.
func attach(
    _ routes: [Route], to service: Service, _ options: CompilerOptions, report: (Finding) -> Void = { _ in }
) -> [UInt16: AttachedRoutes] {
    var result: [UInt16: AttachedRoutes] = [:]
    for route in routes {
        // Those of all its parents together, so that it stands once in a list and none is searched.
        var parents: [UInt16: [Int]] = [:]
        for (index, parent) in route.parents.enumerated() where parent.service == service.name {
            for port in ports(of: service, for: parent, route, index, report) {
                parents[port, default: []].append(index)
            }
        }
        let namespace = route.name.namespace
        for (port, parents) in parents {
            let attachment = Attachment(route: route, parents: parents)
            if namespace == service.name.namespace {
                result[port, default: AttachedRoutes()].producer.append(attachment)
            } else {
                result[port, default: AttachedRoutes()].consumers[namespace, default: []].append(attachment)
            }
        }
    }
    for (port, var attached) in result {
        attached.producer = oneKind(attached.producer, service, port, report)
        for (namespace, routes) in attached.consumers {
            attached.consumers[namespace] = oneKind(routes, service, port, report)
        }
        result[port] = attached
    }
    return result
}

/// What the clients of a routed port speak.
func spoken(_ port: Service.Port, _ kind: Route.Kind?) -> RoutedProtocol {
    if case .http(let spoken) = DeclaredProtocol(port) { spoken } else { kind == .grpc ? .grpc : .http1 }
}

private func ports(
    of service: Service, for parent: Route.Parent, _ route: Route, _ index: Int, _ report: (Finding) -> Void
) -> [UInt16] {
    let field = field(of: index, route)
    func refuse(_ reason: String, _ message: String, _ fault: RouteFault) {
        report(Finding(reason: reason, object: route.id, field: field, message: message, fault: fault))
    }
    guard service.type != .externalName, !service.clusterIPs.isEmpty else {
        refuse(
            "no-cluster-ip", "Service \(service.name) has no cluster IP, so no traffic for it can be routed",
            .noSuchPort(parent: index))
        return []
    }
    let tcp = service.ports.filter { $0.transport == .tcp }
    let isNamed = parent.port != nil || parent.sectionName != nil
    let meant = tcp.filter {
        (parent.port == nil || $0.port == parent.port) && (parent.sectionName == nil || $0.name == parent.sectionName)
    }
    guard !meant.isEmpty else {
        refuse(
            "no-such-port", "Service \(service.name) has no such TCP port; correct the reference or the Service",
            .noSuchPort(parent: index))
        return []
    }
    let taken = meant.filter { port in
        switch DeclaredProtocol(port) {
        case .http: return true
        case .other:
            if isNamed {
                refuse(
                    "not-http",
                    "port \(port.port) of Service \(service.name) does not speak HTTP by its "
                        + "\(port.appProtocol == nil ? "name" : "appProtocol"); set appProtocol to http or grpc",
                    .notHTTP(parent: index))
            }
            return false
        case .unknown:
            // Somebody says the port is HTTP by routing it; of several ports it must be said which.
            if !isNamed, tcp.count > 1 {
                refuse(
                    "unknown-protocol",
                    "port \(port.port) of Service \(service.name) is not routed: nothing says that it speaks HTTP; set "
                        + "appProtocol or name the port in parentRefs", .notHTTP(parent: index))
            }
            return isNamed || tcp.count == 1
        }
    }
    if taken.isEmpty, !isNamed, meant.allSatisfy({ DeclaredProtocol($0) == .other }) {
        refuse(
            "not-http",
            "no port of Service \(service.name) speaks HTTP by its name or appProtocol; set appProtocol to http or "
                + "grpc",
            .notHTTP(parent: index))
    }
    return taken.map(\.port)
}

private func field(of parent: Int, _ route: Route) -> String {
    "spec.parentRefs[\(route.parents[parent].place ?? parent)]"
}

/// GRPCRoutes go before HTTPRoutes on one port.
private func oneKind(
    _ routes: [Attachment], _ service: Service, _ port: UInt16, _ report: (Finding) -> Void
) -> [Attachment] {
    guard let winner = routes.first(where: { $0.route.kind == .grpc })?.route else { return routes }
    for loser in routes where loser.route.kind == .http {
        for parent in loser.parents {
            report(
                Finding(
                    reason: "route-conflict", object: loser.route.id, field: field(of: parent, loser.route),
                    message: "is not used on port \(port) of Service \(service.name): GRPCRoute \(winner.name) is "
                        + "attached to it and goes first; use one kind for a port", fault: .conflicted(parent: parent)))
        }
    }
    return routes.filter { $0.route.kind == .grpc }
}
