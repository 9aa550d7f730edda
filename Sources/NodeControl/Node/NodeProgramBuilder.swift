/// Settings, Node object and interface addresses -> what the kernel must know about the node. Pure: called again
/// whenever one of them changes, so all of them are followed live (spec rows 84, 88-93, 103, 166, 167).
package import Addressing
import Cluster
import DataplaneIR

/// An address of an interface of the node.
package struct LocalAddress: Hashable, Sendable {
    package let address: IPAddress
    /// What is reached over the interface without a gateway.
    package var network: IPPrefix?
    package var interface = ""

    package init(_ address: IPAddress) { self.address = address }
}

struct NodeInputs: Equatable, Sendable {
    /// Our Node object; nil: none known.
    var node: Node?
    var serviceCIDRs: [IPPrefix] = []
    /// Every address of every interface.
    var addresses: Set<LocalAddress> = []
    var interfaceAddresses: Set<IPAddress> { Set(addresses.map(\.address)) }
    /// Interface addresses that some service claims as its own: load balancers put their addresses on interfaces.
    var serviceAddresses: Set<IPAddress> = []
}

struct NodeResult: Equatable, Sendable {
    var program: NodeProgram
    /// Sentences for the log and `agentctl status`.
    var warnings: [String] = []
}

func nodeProgram(_ settings: NodeSettings, _ inputs: NodeInputs) -> NodeResult {
    var result = NodeResult(program: NodeProgram(nodeName: settings.nodeName))
    result.program.localAddresses = inputs.interfaceAddresses
    result.program.masqueradeAll = settings.masqueradeAll
    result.program.masqueradeBit = settings.masqueradeBit
    result.program.serviceCIDRs = inputs.serviceCIDRs
    result.program.nodePortLoopback = settings.nodePortLoopback
    result.program.detector = detector(settings, inputs, &result.warnings)
    if settings.detectLocal == .clusterCIDR {
        result.program.uplinks = uplinks(result.program.detector, inputs)
    }
    for family in AddressFamily.allCases {
        result.program.nodePortAddresses.formUnion(
            nodePortAddresses(family, settings, inputs, &result.warnings))
    }
    return result
}

/// First range of each family only (spec row 84).
private func detector(
    _ settings: NodeSettings, _ inputs: NodeInputs, _ warnings: inout [String]
) -> LocalDetector {
    let firsts = { (ranges: [IPPrefix]) -> LocalDetector in
        let chosen = AddressFamily.allCases.compactMap { family in ranges.first { $0.family == family } }
        return chosen.isEmpty ? .none : .cidrs(chosen)
    }
    switch settings.detectLocal {
    case .clusterCIDR: return firsts(settings.clusterCIDRs)
    case .nodeCIDR:
        let ranges = inputs.node?.podCIDRs ?? []
        if ranges.isEmpty {
            warnings.append(
                "pods of this node cannot be told apart: Node \(settings.nodeName) has no spec.podCIDRs yet; "
                    + "node-cidr takes effect as soon as it has")
        }
        return firsts(ranges)
    case .bridge(let name): return .bridge(name)
    case .interfacePrefix(let prefix): return .interfacePrefix(prefix)
    }
}

/// The interfaces that have the node's own addresses (spec row 85), unless pods are on the same network.
private func uplinks(_ detector: LocalDetector, _ inputs: NodeInputs) -> Set<String> {
    let nodeIPs = Set(inputs.node?.nodeIPs ?? [])
    let found = inputs.addresses.filter { local in
        guard nodeIPs.contains(local.address), let network = local.network else { return false }
        guard let pods = detector.cidr(local.address.family) else { return true }
        return !pods.contains(network.address) && !network.contains(pods.address)
    }
    return Set(found.map(\.interface))
}

private func nodePortAddresses(
    _ family: AddressFamily, _ settings: NodeSettings, _ inputs: NodeInputs, _ warnings: inout [String]
) -> Set<IPAddress> {
    // Loopback is never served as a node-port address (spec row 92).
    let local = inputs.interfaceAddresses.filter { $0.family == family && !$0.isLoopback }
    switch settings.nodePortAddresses {
    case .all: return withoutServiceAddresses(local, inputs)
    case .primary:
        if inputs.node?.nodeIPs.isEmpty ?? true, family == .ipv4 {
            warnings.append(
                "node ports are not served: no Node object named \(settings.nodeName) gives an address; add "
                    + "one, correct --node-name, or pass --node-port-addresses")
        }
        guard let primary = inputs.node?.nodeIPs.first(where: { $0.family == family }) else { return [] }
        return local.contains(primary) ? [primary] : []
    case .cidrs(let ranges):
        let ours = ranges.filter { $0.family == family }
        if ours.isEmpty {
            warnings.append(
                "--node-port-addresses names no \(family) range, so \(family) node ports are served on every address; "
                    + "add one to restrict them")
            return withoutServiceAddresses(local, inputs)
        }
        if ours.contains(where: { $0.length > 0 && $0.address.isLoopback }) {
            warnings.append("--node-port-addresses: loopback is never served; see --node-port-loopback")
        }
        if ours.contains(where: { $0.length == 0 }) { return withoutServiceAddresses(local, inputs) }
        return local.filter { address in ours.contains { $0.contains(address) } }
    }
}

/// "All" means the node's addresses, not those a load balancer put on an interface (spec row 96). Some load balancers
/// announce the node's own address; the Node object tells which those are.
private func withoutServiceAddresses(_ local: Set<IPAddress>, _ inputs: NodeInputs) -> Set<IPAddress> {
    local.subtracting(inputs.serviceAddresses.subtracting(inputs.node?.nodeIPs ?? []))
}
