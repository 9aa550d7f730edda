/// The chains that are always there, and their rules. The structure follows kube-proxy's nftables mode, so that network
/// policy engines meet the same hooks and priorities (spec row 172).
import Addressing
import DataplaneIR
import Nftables

/// A chain as it should be.
struct ChainSpec: Equatable {
    let name: String
    var base: BaseChain?
    var rules: [Rule] = []
    /// Chains made on demand that the rules go to.
    var uses: [ChainID] = []
    /// The set of sticky clients that lives and dies with the chain.
    var affinitySet: String?
}

enum ConstantChain {
    static let reject = "reject-chain"
    /// For frontends of other machines' addresses without endpoints: no node port may answer in their place.
    static let noEndpoints = "no-endpoints"
    /// For cluster IPs that are routed: to the L7 proxy of this node.
    static let proxy = "l7-proxy"
    static let markClusterIP = "mark-cluster-ip"
    private static let services = "services"
    private static let masquerading = "masquerading"
    private static let firewallCheck = "firewall-check"
    private static let clusterIPsCheck = "cluster-ips-check"
    private static let serviceCheck = "service-endpoints-check"
    private static let nodePortCheck = "nodeport-endpoints-check"

    static func all(_ family: AddressFamily, _ node: NodeProgram) -> [ChainSpec] {
        let parts = RuleParts(family: family, node: node)
        return [
            ChainSpec(name: reject, rules: rejectRules(parts)),
            ChainSpec(name: noEndpoints),
            ChainSpec(name: proxy, rules: proxyRules(parts, node)),
            ChainSpec(name: markClusterIP, rules: markRules(parts, node)),
            ChainSpec(name: services, rules: serviceRules(parts, node)),
            ChainSpec(name: masquerading, rules: masqueradeRules(parts)),
            ChainSpec(name: firewallCheck, rules: [firewallRule(parts)]),
            ChainSpec(name: clusterIPsCheck, rules: clusterIPRules(parts)),
            ChainSpec(
                name: serviceCheck,
                rules: [Rule(parts.service + [.verdictMap(TableSet.noEndpointServices.name, key: 0)])]),
            ChainSpec(name: nodePortCheck, rules: [nodePortRule(parts, TableSet.noEndpointNodePorts)]),
        ] + baseChains(parts)
    }

    /// The base chains; nil for the others.
    static var bases: [(String, BaseChain?)] {
        all(.ipv4, NodeProgram(nodeName: "")).map { ($0.name, $0.base) }
    }

    private static func baseChains(_ parts: RuleParts) -> [ChainSpec] {
        let jump = { (chains: [String]) in chains.map { Rule([.verdict(.jump($0))]) } }
        let jumpIfNew = { (chains: [String]) in
            chains.map { Rule(parts.isNewConnection + [.verdict(.jump($0))]) }
        }
        // Exact addresses go before node ports in every hook (spec row 94).
        return [
            base("filter-prerouting-pre-dnat", .filter, .prerouting, -110, jumpIfNew([firewallCheck])),
            base("filter-output-pre-dnat", .filter, .output, -110, jumpIfNew([firewallCheck])),
            base("filter-input", .filter, .input, 0, jumpIfNew([serviceCheck, nodePortCheck])),
            base("filter-forward", .filter, .forward, 0, jumpIfNew([serviceCheck, clusterIPsCheck])),
            base("filter-output", .filter, .output, 0, jumpIfNew([serviceCheck, nodePortCheck, clusterIPsCheck])),
            base("nat-prerouting", .nat, .prerouting, -100, jump([services])),
            base("nat-output", .nat, .output, -100, jump([services])),
            base("nat-postrouting", .nat, .postrouting, 100, jump([masquerading])),
        ]
    }
    private static func base(
        _ name: String, _ kind: BaseChain.Kind, _ hook: BaseChain.Hook, _ priority: Int32, _ rules: [Rule]
    ) -> ChainSpec {
        ChainSpec(name: name, base: BaseChain(kind, hook, priority: priority), rules: rules)
    }

    /// A reset for TCP: the ICMP answer to a connect() on this machine arrives while connect() still holds the socket,
    /// and the kernel then drops it; the caller would be refused only by the retransmission, a second later.
    private static func rejectRules(_ parts: RuleParts) -> [Rule] {
        let isTCP: [Expression] = [
            .meta(.transportProtocol, to: 0),
            .compare(register: 0, isEqual: true, [TransportProtocol.tcp.rawValue]),
        ]
        return [
            Rule(isTCP + [.rejectWithReset]),
            Rule([.rejectPortUnreachable(parts.family == .ipv4 ? .ipv4 : .ipv6)]),
        ]
    }

    /// To an address of the node rather than `redirect`, which needs one on the interface the packet came in by.
    /// Without a proxy the packet goes on to the cluster IP, which refuses.
    private static func proxyRules(_ parts: RuleParts, _ node: NodeProgram) -> [Rule] {
        guard let listener = node.proxyListener(parts.family) else { return [] }
        return [
            Rule([
                .load(listener.address.networkBytes, to: 0),
                .load([UInt8(listener.port >> 8), UInt8(listener.port & 255)], to: parts.addressRegisters),
                .destinationNAT(parts.family == .ipv4 ? .ipv4 : .ipv6, address: 0, port: parts.addressRegisters),
            ])
        ]
    }

    private static func serviceRules(_ parts: RuleParts, _ node: NodeProgram) -> [Rule] {
        var rules = [
            Rule(parts.service + [.verdictMap(TableSet.serviceIPs.name, key: 0)]),
            nodePortRule(parts, TableSet.serviceNodePorts),
        ]
        if !node.mesh.enrolled.isEmpty {
            let verdict = Expression.verdict(.goto(tunnels(parts.family, node)))
            rules.append(
                Rule(parts.opensMeshConnection(to: parts.meshAddress) + [verdict], comment: "pod to pod of the mesh"))
            for range in node.mesh.unlisted where range.family == parts.family {
                let destination = parts.unlisted(range)
                rules.append(
                    Rule(parts.opensMeshConnection(to: destination) + [verdict], comment: "pods that are not listed"))
            }
        }
        return rules
    }
    /// Where what becomes a tunnel goes. Without a proxy it is refused: it does not leave in plaintext.
    static func tunnels(_ family: AddressFamily, _ node: NodeProgram) -> String {
        node.proxyListener(family) == nil ? reject : proxy
    }
    private static func nodePortRule(_ parts: RuleParts, _ map: TableSet) -> Rule {
        Rule(
            [parts.destination(), .lookup(set: TableSet.nodePortIPs.name, key: 0)] + parts.nodePortService()
                + [.verdictMap(map.name, key: 0)])
    }

    /// Spec rows 71-74, 84.
    private static func markRules(_ parts: RuleParts, _ node: NodeProgram) -> [Rule] {
        if node.masqueradeAll { return [Rule(parts.setMark)] }
        guard let elsewhere = parts.localPod(isFromPod: false) else { return [] }
        return [Rule(elsewhere + parts.setMark, comment: "not from a pod of this node")]
    }

    /// Spec rows 80, 81, 83.
    private static func masqueradeRules(_ parts: RuleParts) -> [Rule] {
        let hairpin: [Expression] = [
            parts.source(), parts.destination(to: parts.addressRegisters),
            .lookup(set: TableSet.hairpin.name, key: 0), .masqueradeFullyRandom,
        ]
        return [
            Rule(parts.hasMark + parts.clearMark + [.masqueradeFullyRandom]),
            Rule(parts.isDestinationNATed + hairpin, comment: "hairpin"),
        ]
    }

    /// Spec rows 36, 37: what is not in the frontend's ranges is dropped.
    private static func firewallRule(_ parts: RuleParts) -> Rule {
        let source = parts.source(to: parts.addressRegisters + 2)
        return Rule(
            parts.service + [.lookup(set: TableSet.firewallIPs.name, key: 0)] + parts.service
                + [source, .lookup(set: TableSet.sourceRanges.name, key: 0, inverted: true), .verdict(.drop)])
    }

    /// Spec rows 102, 103, 106.
    private static func clusterIPRules(_ parts: RuleParts) -> [Rule] {
        [
            Rule(
                [parts.destination(), .lookup(set: TableSet.clusterIPs.name, key: 0), .verdict(.goto(reject))],
                comment: "no such port"),
            Rule(
                [parts.destination(), .lookup(set: TableSet.serviceCIDRs.name, key: 0), .verdict(.drop)],
                comment: "no such service"),
        ]
    }
}
