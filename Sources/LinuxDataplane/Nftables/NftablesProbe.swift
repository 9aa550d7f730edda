/// Tries out what the dataplane needs of nftables: a small table with every kind of expression, in a transaction that
/// ends with an operation that must fail, so that nothing of it ever comes into force.
import Addressing
import DataplaneIR
import Glibc
import Netlink
import Nftables

package enum NftablesProbe {
    /// One line a family, and one for conntrack.
    package static func run() -> [ProbeResult] {
        let connection: NftablesConnection
        do {
            connection = try NftablesConnection()
        } catch {
            return [ProbeResult(name: "nftables", ok: false, detail: "\(error); CAP_NET_ADMIN is needed")]
        }
        return AddressFamily.allCases.map { family in
            let name = "nftables (\(family))"
            if let error = obstacle(family, connection) {
                return ProbeResult(
                    name: name, ok: false,
                    detail:
                        "\(error); the kernel needs NF_TABLES, NFT_NAT, NFT_MASQ, NFT_NUMGEN, NFT_REJECT and NFT_FIB")
            }
            return ProbeResult(name: name, ok: true, detail: "maps, numgen, fib, dnat, masquerade and reject work")
        } + [conntrack()]
    }

    /// The families whose tables can be made. A host without IPv6 has only one.
    static func families(_ connection: NftablesConnection) throws(DataplaneError) -> [AddressFamily] {
        var first: NetlinkError?
        var result: [AddressFamily] = []
        for family in AddressFamily.allCases {
            if let error = obstacle(family, connection) {
                first = first ?? error
            } else {
                result.append(family)
            }
        }
        if result.isEmpty, let first {
            throw DataplaneError(first, remedy: "heddle-agent preflight says what this kernel lacks")
        }
        return result
    }

    /// nil: all of it works.
    private static func obstacle(_ family: AddressFamily, _ connection: NftablesConnection) -> NetlinkError? {
        let table = Table(family, "heddle-probe")
        var node = NodeProgram(nodeName: "probe")
        node.masqueradeAll = true
        let mirror = TableMirror(family, name: table.name, companion: .none)
        let plan = FamilyPlan(services: [probeService(family)], oldNode: nil, node: node, generation: 0)
        let change = mirror.stageFull(plan, observed: nil, replaces: false).change
        var batch = connection.makeBatch()
        change.encodePreparation(into: &batch)
        change.encodeSwitch(into: &batch)
        let last = "heddle-probe-no-such-chain"
        batch.deleteChain(last, in: table)
        do {
            try connection.commit(&batch)
        } catch {
            return error.code == ENOENT && error.operation.hasSuffix(last) ? nil : error
        }
        return NetlinkError(operation: "end a trial transaction", code: EPROTO)
    }

    /// With affinity and policy Local, for these need the most expressions.
    private static func probeService(_ family: AddressFamily) -> FamilyPlan.Service {
        let address = family == .ipv4 ? IPAddress(v4: 0xc000_0201) : IPAddress(high: 0x2001_0db8_0000_0000, low: 1)
        let id = ServicePortID(namespace: "heddle", service: "probe", portName: "", transport: .tcp, family: family)
        let program = { (id: ServicePortID, port: UInt16, affinity: UInt32?) in
            ServiceProgram(
                id: id, frontends: [Frontend(.clusterIP, address, port), Frontend(.loadBalancer, address, port + 1)],
                backends: [Backend(SocketAddress(address, 1)), Backend(SocketAddress(address, 2))],
                clusterRange: 0..<2, localRange: 1..<2, externalPolicy: .local, affinitySeconds: affinity)
        }
        return FamilyPlan.Service(old: nil, new: program(id, 1, 10))
    }

    private static func conntrack() -> ProbeResult {
        do {
            let count = try ConntrackClient().entries(.ipv4, .udp).count
            return ProbeResult(name: "conntrack", ok: true, detail: "\(count) UDP flows tracked")
        } catch {
            return ProbeResult(name: "conntrack", ok: false, detail: "\(error); the kernel needs NF_CT_NETLINK")
        }
    }
}
