/// One Service and its slices -> the programs of its ports, in both families. Knows nothing of other services.
import Addressing
package import Cluster
import DataplaneIR

/// Which services, and what of them, this node serves at all.
package struct CompilerOptions: Equatable, Sendable {
    /// Our `service-proxy-name`; nil: we take the services without the label (spec row 40).
    package var proxyName: String?
    /// `spec.externalIPs` lets anybody who may write a Service take over an address (spec row 16).
    package var servesExternalIPs = true

    /// Whether this node has an L7 proxy for what is routed, and what to do while it is down.
    package var proxy = L7Proxy.off
    /// For services that do not say it themselves (`heddle.io/l7-failure`).
    package var failsOpen = false
    /// Endpoints that take tunnels, or may; empty: no pod of this node makes any.
    package var reach = MeshReach()

    package enum L7Proxy: Sendable {
        /// There is none: routes are not followed.
        case off
        case down
        case up
    }

    package init(proxyName: String? = nil) { self.proxyName = proxyName }

    /// Down and failing closed, connections go to the proxy's address all the same, which refuses them.
    fileprivate func routes(_ service: Service) -> Bool {
        switch proxy {
        case .off: false
        case .up: true
        case .down: !(ServicePolicy.failsOpen(service) ?? failsOpen)
        }
    }

    package func handles(_ service: Service) -> Bool { service.proxyName == proxyName && !service.hasHeadlessLabel }
    func handles(_ slice: EndpointSlice) -> Bool { slice.proxyName == proxyName && !slice.hasHeadlessLabel }
}

/// A healthCheckNodePort server that must run, and what it must say (spec rows 35, 68, 135).
package struct HealthCheck: Equatable, Sendable {
    package let service: ObjectName
    package let port: UInt16
    /// Distinct addresses of ready endpoints on this node.
    package let localEndpoints: Int

    package init(service: ObjectName, port: UInt16, localEndpoints: Int) {
        self.service = service
        self.port = port
        self.localEndpoints = localEndpoints
    }
}

struct CompiledService {
    var programs: [ServiceProgram] = []
    var healthCheck: HealthCheck?
    var findings: [Finding] = []
}

func compile(
    _ service: Service, slices all: [EndpointSlice], routes: [Route], node: NodeFacts, options: CompilerOptions
) -> CompiledService {
    var result = CompiledService()
    // Headless, ExternalName and unallocated services are never proxied, whatever else they say (spec rows 6-8).
    guard options.handles(service), service.type != .externalName, !service.clusterIPs.isEmpty else { return result }
    var service = service
    if !options.servesExternalIPs, !service.externalIPs.isEmpty {
        result.findings.append(
            Finding(
                reason: "external-ips-off", object: ObjectID(.service, service.name), field: "spec.externalIPs",
                message: "not served: the agent runs with --no-external-ips"))
        service.externalIPs = []
    }
    let slices = all.filter(options.handles)
    result.findings += findings(service, slices)

    // Without routes, which is what nearly every service is, this costs nothing.
    let routed = routes.isEmpty || !options.routes(service) ? [:] : attach(routes, to: service, options)
    // Also while no proxy is there, when they refuse enrolled pods: what takes tunnels is never sent to in the clear.
    let unrouted: Frontend.Action = options.reach.includes(oneOf: slices) ? .tunnel : .balance
    for family in AddressFamily.allCases {
        guard let clusterIP = service.clusterIPs.first(where: { $0.family == family }) else { continue }
        for port in service.ports {
            let candidates = mergedCandidates(
                slices, portName: port.name, transport: port.transport, family: family, node: node)
            let selection = select(candidates, node: node)
            result.programs.append(
                ServiceProgram(
                    id: ServicePortID(
                        namespace: service.name.namespace, service: service.name.name, portName: port.name,
                        transport: port.transport, family: family),
                    frontends: frontends(
                        service, port, clusterIP: clusterIP,
                        action: port.transport != .tcp ? .balance : routed[port.port] != nil ? .proxy : unrouted,
                        outside: port.transport == .tcp ? unrouted : .balance),
                    backends: selection.backends, clusterRange: selection.clusterRange,
                    localRange: selection.localRange, internalPolicy: policy(service.internalTrafficPolicy),
                    externalPolicy: policy(service.externalTrafficPolicy), affinitySeconds: service.affinitySeconds,
                    appProtocol: port.appProtocol))
        }
    }
    if let port = service.healthCheckNodePort, service.type == .loadBalancer, service.externalTrafficPolicy == .local {
        result.healthCheck = HealthCheck(
            service: service.name, port: port, localEndpoints: localReadyAddresses(slices, node: node))
    }
    return result
}

private func policy(_ policy: Service.TrafficPolicy) -> DataplaneIR.TrafficPolicy {
    policy == .cluster ? .cluster : .local
}

/// Each address of the service once. An address given twice keeps the kind with the stricter rules: a load-balancer
/// address carries source ranges, an external IP does not.
private func frontends(
    _ service: Service, _ port: Service.Port, clusterIP: IPAddress, action: Frontend.Action, outside: Frontend.Action
) -> [Frontend] {
    let family = clusterIP.family
    let ranges = service.sourceRanges.filter { $0.family == family }
    var result = [Frontend(.clusterIP, clusterIP, port.port, action: action)]
    var seen: Set<IPAddress> = [clusterIP]
    for ingress in service.ingress
    where ingress.address.family == family && !ingress.isProxyMode && isServable(ingress.address) {
        guard seen.insert(ingress.address).inserted else { continue }
        result.append(
            Frontend(.loadBalancer, ingress.address, port.port, sourceRanges: ranges.sorted(), action: outside))
    }
    for address in service.externalIPs where address.family == family && isServable(address) {
        guard seen.insert(address).inserted else { continue }
        result.append(Frontend(.externalIP, address, port.port, action: outside))
    }
    if let nodePort = port.nodePort { result.append(Frontend(.nodePort, nil, nodePort)) }
    return result.sorted()
}

extension Service {
    /// Where else than at its cluster IPs it is reached, each address once.
    func outsideAddresses(_ options: CompilerOptions) -> Set<IPAddress> {
        let addresses =
            ingress.filter { !$0.isProxyMode }.map(\.address) + (options.servesExternalIPs ? externalIPs : [])
        let families = Set(clusterIPs.map(\.family))
        return Set(addresses.filter { families.contains($0.family) && isServable($0) }).subtracting(clusterIPs)
    }
}

/// Addresses that can never be somebody's service address: taking them over would break the node.
private func isServable(_ address: IPAddress) -> Bool { address.isOfOneMachine }

/// Dual-stack services have an address of each family for every pod: the larger count is the number of pods.
private func localReadyAddresses(_ slices: [EndpointSlice], node: NodeFacts) -> Int {
    var addresses: [AddressFamily: Set<IPAddress>] = [:]
    for slice in slices where !slice.ports.isEmpty {
        guard let family = slice.addressType.family else { continue }
        for endpoint in slice.endpoints
        where endpoint.nodeName == node.name && endpoint.conditions.contains(.ready) {
            addresses[family, default: []].insert(endpoint.address)
        }
    }
    return addresses.values.map(\.count).max() ?? 0
}

private func findings(_ service: Service, _ slices: [EndpointSlice]) -> [Finding] {
    let id = ObjectID(.service, service.name)
    let families = Set(service.clusterIPs.map(\.family))
    var result: [Finding] = []
    func add(_ reason: String, _ field: String, _ message: String) {
        result.append(Finding(reason: reason, object: id, field: field, message: message))
    }
    let addresses =
        service.externalIPs.map { ("spec.externalIPs", $0) }
        + service.ingress.filter { !$0.isProxyMode }.map { ("status.loadBalancer.ingress", $0.address) }
    for (field, address) in addresses {
        if !families.contains(address.family) {
            add(
                "other-family", field,
                "\(address) is not served: the service has no \(address.family) cluster IP; add one, or make it "
                    + "dual-stack"
            )
        } else if !isServable(address) {
            add("unservable-address", field, "\(address) is not served: it belongs to every node; use another address")
        }
    }
    for family in families.sorted(by: { $0.rawValue < $1.rawValue })
    where !service.sourceRanges.isEmpty && !service.sourceRanges.contains(where: { $0.family == family }) {
        if service.ingress.contains(where: { $0.address.family == family && !$0.isProxyMode }) {
            add(
                "unfiltered-family", "spec.loadBalancerSourceRanges",
                "\(family) addresses are open to everybody: no range is \(family); add ::/0 or a narrower range")
        }
    }
    if service.healthCheckNodePort == nil, service.type == .loadBalancer, service.externalTrafficPolicy == .local {
        add(
            "no-health-port", "spec.healthCheckNodePort",
            "no health check is served: the field is 0; load balancers cannot tell which nodes have endpoints")
    }
    for slice in slices where slice.addressType == .fqdn {
        result.append(
            Finding(
                reason: "fqdn-slice", object: ObjectID(.endpointSlice, slice.name), field: "addressType",
                message: "its endpoints are not used: FQDN addresses cannot be programmed; use IPv4 or IPv6 slices"))
    }
    return result
}
