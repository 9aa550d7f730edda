/// What the agent learned from its sources: `services`, `endpoints`.
import AdminAPI
import ArgumentParser

struct Services: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The services this node serves, as the agent sees them.",
        discussion: """
            Examples:
              agentctl services           one line for each port
              agentctl services -o wide   all addresses, policies, counts of endpoints
            """)

    @OptionGroup var options: SharedOptions

    func run() throws {
        let list = try options.client.get(ServiceList.self, AdminPath.services)
        guard options.output != .json else { return try Output.json(list) }
        Output.tell(serviceTable(list.services, wide: options.output == .wide))
        for finding in list.findings { Output.complain("note: \(finding)\n") }
    }
}

struct Endpoints: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The endpoints of one service, and which are in use.",
        discussion: """
            Examples:
              agentctl endpoints shop/web
              agentctl endpoints shop/web -o json
            """)

    @Argument(help: ArgumentHelp("The service.", valueName: "namespace/name"))
    var service: String
    @OptionGroup var options: SharedOptions

    func validate() throws {
        guard service.split(separator: "/", omittingEmptySubsequences: false).count == 2 else {
            throw ValidationError("\"\(service)\" is not NAMESPACE/NAME.")
        }
    }

    func run() throws {
        let list = try options.client.get(EndpointList.self, AdminPath.endpoints, [("service", service)])
        guard list.exists || !list.endpoints.isEmpty else {
            throw CommandFailure("the agent knows no Service \(service); see agentctl services")
        }
        guard options.output != .json else { return try Output.json(list) }
        Output.tell(endpointTable(list.endpoints))
        if !list.exists { Output.complain("note: there is no Service \(service), only endpoints for it\n") }
    }
}

func serviceTable(_ services: [ServiceView], wide: Bool) -> String {
    wide ? wideServiceTable(services) : narrowServiceTable(services)
}

private func narrowServiceTable(_ services: [ServiceView]) -> String {
    var table = Table("NAMESPACE", "NAME", "PORT", "PROTO", "FRONTENDS", "ENDPOINTS")
    for service in services {
        let first = service.frontends.first ?? "-"
        let more = service.frontends.count > 1 ? " +\(service.frontends.count - 1)" : ""
        table.add(
            service.namespace, service.name, service.port.isEmpty ? "-" : service.port, service.protocol,
            service.refused == nil ? first + more : "REFUSED", "\(service.clusterEndpoints)")
    }
    return table.text
}

private func wideServiceTable(_ services: [ServiceView]) -> String {
    var table = Table("NAMESPACE", "NAME", "PORT", "PROTO", "FRONTENDS", "POLICY", "AFFINITY", "CLUSTER", "LOCAL")
    for service in services {
        table.add(
            service.namespace, service.name, service.port.isEmpty ? "-" : service.port, service.protocol,
            service.frontends.joined(separator: ", "), "\(service.internalPolicy)/\(service.externalPolicy)",
            service.affinitySeconds.map { "\($0)s" } ?? "-", "\(service.clusterEndpoints)",
            "\(service.localEndpoints)")
    }
    return table.text
}

func endpointTable(_ endpoints: [EndpointView]) -> String {
    var table = Table("ADDRESS", "PORT", "PROTO", "STATE", "NODE", "ZONE", "USED FOR", "SLICE")
    for endpoint in endpoints {
        table.add(
            endpoint.address, endpoint.port.isEmpty ? "-" : endpoint.port, endpoint.protocol, state(endpoint),
            (endpoint.node ?? "-") + (endpoint.local ? " (this)" : ""), endpoint.zone ?? "-",
            endpoint.usedFor.isEmpty ? "-" : endpoint.usedFor.joined(separator: ", "), endpoint.slice)
    }
    return table.text
}

private func state(_ endpoint: EndpointView) -> String {
    if endpoint.terminating { return endpoint.serving ? "terminating, serving" : "terminating" }
    return endpoint.ready ? "ready" : "not ready"
}
