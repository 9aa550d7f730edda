/// The table of one pod and family: what it holds is a function of the pod's program, its listeners' ports and the
/// node's addresses.
import Addressing
import DataplaneIR
import Netlink
import Nftables

struct PodTable {
    static let name = "heddle_mesh"
    private static let redirect = "prerouting"
    private static let admit = "input"

    private let table: Table
    private let parts: RuleParts
    private let rules: [(chain: String, rule: Rule)]

    init(_ pod: SteeredPod, _ family: AddressFamily, ports: [IPAddress: UInt16], node: [IPAddress]) {
        table = Table(family, Self.name)
        parts = RuleParts(family: family, node: NodeProgram(nodeName: ""))
        let builder = PodRules(parts, table.natFamily)
        let addresses = pod.addresses.filter { $0.key.family == family }.sorted { $0.key < $1.key }
        var rules: [(String, Rule)] = []
        for (address, _) in addresses {
            guard let port = ports[address] else { continue }
            rules.append((Self.redirect, builder.redirect(address, to: port)))
        }
        rules += builder.passing.map { (Self.admit, $0) }
        for (address, program) in addresses {
            guard let port = ports[address] else { continue }
            rules += builder.listener(address, port).map { (Self.admit, $0) }
            let sources = node.filter { $0.family == family }
            rules += builder.ports(address, program, probedFrom: sources).map { (Self.admit, $0) }
            // Before what refuses the rest; where nothing does, nothing needs it.
            if pod.isStrict, program.mode != .strict { rules.append((Self.admit, builder.accept(address))) }
        }
        // Also at addresses of the pod that nobody told us of.
        if pod.isStrict { rules.append((Self.admit, builder.refuse)) }
        self.rules = rules
    }

    /// In one step: a connection meets the old table or the new one.
    func replace(_ batch: inout Batch) {
        batch.add(table)
        batch.delete(table)
        batch.add(table)
        batch.addChain(Self.redirect, in: table, base: BaseChain(.nat, .prerouting, priority: -100))
        batch.addChain(Self.admit, in: table, base: BaseChain(.filter, .input, priority: 0))
        for (chain, rule) in rules { batch.addRule(rule, to: chain, in: table) }
    }

    /// What a pod that is in the mesh no more keeps: it refuses nothing. The kernel goes on translating the connections
    /// that exist as long as there is a chain for it, and a rule that asks for their state.
    init(leaving family: AddressFamily) {
        table = Table(family, Self.name)
        parts = RuleParts(family: family, node: NodeProgram(nodeName: ""))
        rules = PodRules(parts, table.natFamily).passing.map { (Self.admit, $0) }
    }

    func isInForce(_ connection: NftablesConnection) throws(NetlinkError) -> Bool {
        guard let found = try TableObservation.read(table, connection, withElements: false) else { return false }
        for chain in [Self.redirect, Self.admit] {
            let wanted = rules.filter { $0.chain == chain }.map { Optional($0.rule.fingerprint(in: table)) }
            if found.chains[chain]?.fingerprints != wanted { return false }
        }
        return true
    }
}

/// The rules one by one.
private struct PodRules {
    let parts: RuleParts
    let nat: NATFamily
    init(_ parts: RuleParts, _ nat: NATFamily) { (self.parts, self.nat) = (parts, nat) }

    private static let tcp: UInt8 = 6
    private static let established: UInt32 = 1 << 1
    private static let related: UInt32 = 1 << 2

    private var isTCP: [Expression] { isTCP(true) }
    private func isTCP(_ expected: Bool) -> [Expression] {
        [.meta(.transportProtocol, to: 0), .compare(register: 0, isEqual: expected, [Self.tcp])]
    }
    private func loopback(_ expected: Bool) -> [Expression] {
        let name = Array("lo".utf8) + [UInt8](repeating: 0, count: 14)
        return [.meta(.inputInterfaceName, to: 0), .compare(register: 0, isEqual: expected, name)]
    }
    private func bytes(_ port: UInt16) -> [UInt8] { withUnsafeBytes(of: port.bigEndian) { Array($0) } }
    private func isTo(_ address: IPAddress, _ port: UInt16) -> [Expression] {
        [parts.destination(), .compare(register: 0, isEqual: true, address.networkBytes)] + isTCP
            + [parts.destinationPort(to: 0), .compare(register: 0, isEqual: true, bytes(port))]
    }

    /// The application may own the port: it is asked by the pod itself only.
    func redirect(_ address: IPAddress, to port: UInt16) -> Rule {
        Rule(
            loopback(false) + isTo(address, MeshProgram.tunnelPort) + [
                .load(address.networkBytes, to: 0), .load(bytes(port), to: parts.addressRegisters),
                .destinationNAT(nat, address: 0, port: parts.addressRegisters),
            ], comment: "tunnels")
    }

    /// What no mode is asked about.
    var passing: [Rule] {
        let begun = parts.bytes(Self.established | Self.related)
        return [
            Rule(loopback(true) + [.verdict(.accept)], comment: "the pod to itself"),
            Rule(isTCP(false) + [.verdict(.accept)], comment: "what cannot be tunnelled"),
            Rule(
                [
                    .conntrack(.state, to: 0), .bitwise(register: 0, mask: begun, xor: parts.bytes(0)),
                    .compare(register: 0, isEqual: false, parts.bytes(0)), .verdict(.accept),
                ], comment: "what is under way"),
        ]
    }

    /// Nobody reaches it by its own port.
    func listener(_ address: IPAddress, _ port: UInt16) -> [Rule] {
        [
            Rule(isTo(address, port) + parts.isDestinationNATed + [.verdict(.accept)], comment: "tunnels"),
            Rule(isTo(address, port) + [.rejectWithReset], comment: "the listener's own port"),
        ]
    }

    /// Where not the pod's mode alone decides. Node probes are told by their source: kubelet's is the node's.
    func ports(_ address: IPAddress, _ program: MeshPodProgram, probedFrom node: [IPAddress]) -> [Rule] {
        var rules: [Rule] = []
        for port in program.probePorts.sorted() {
            rules += node.map { source in
                let isFrom: [Expression] = [
                    parts.source(), .compare(register: 0, isEqual: true, source.networkBytes),
                ]
                return Rule(isFrom + isTo(address, port) + [.verdict(.accept)], comment: "probes")
            }
        }
        for (port, mode) in program.portModes.sorted(by: { $0.key < $1.key }) {
            let answer = mode == .strict ? parts.isFirstPacket + [.rejectWithReset] : [.verdict(.accept)]
            rules.append(Rule(isTo(address, port) + answer, comment: "port \(port): \(mode)"))
        }
        return rules
    }

    // A connection that is older than the table goes on, whatever connection tracking takes it for.
    var refuse: Rule { Rule(isTCP + parts.isFirstPacket + [.rejectWithReset], comment: "strict") }
    func accept(_ address: IPAddress) -> Rule {
        let isTo: [Expression] = [parts.destination(), .compare(register: 0, isEqual: true, address.networkBytes)]
        return Rule(isTo + [.verdict(.accept)], comment: "all other ports")
    }
}
