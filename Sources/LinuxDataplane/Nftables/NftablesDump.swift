/// Reads services back out of the kernel's tables, without the agent: names are in the comments, counts in the names of
/// chains.
import Addressing
package import DataplaneIR
import Netlink
import Nftables
package import Observation

package enum NftablesDump {
    /// nil: there is no table of ours.
    package static func read() throws(DataplaneError) -> KernelDump? {
        do throws(NetlinkError) {
            let connection = try NftablesConnection()
            var result: KernelDump?
            for family in AddressFamily.allCases {
                let table = Table(family, TableLayout.name)
                guard let observed = try TableObservation.read(table, connection, withElements: false),
                    let (_, node) = TableLayout.parse(comment: observed.comment ?? "")
                else { continue }
                var reader = DumpReader()
                var usage = TableUsage(table)
                for set in TableSet.allCases {
                    let elements = try observed.readElements(of: set, table, connection)
                    reader.note(elements)
                    usage.note(set, TableDigest(elements)[set])
                }
                for rule in try connection.rules(table) { reader.note(rule) }
                var dump =
                    result ?? KernelDump(node: node, dataplane: "nftables", generation: 0, frontends: [], maps: [])
                dump.generation = max(dump.generation, reader.generation)
                dump.frontends += reader.frontends()
                dump.maps += usage.maps
                result = dump
            }
            return result
        } catch {
            throw DataplaneError(error, remedy: "reading tables needs CAP_NET_ADMIN")
        }
    }
}

/// Joins the elements of one table.
private struct DumpReader {
    /// The fields that name a frontend; the set is that of the frontends.
    private typealias Place = ElementKey
    private var entries: [Place: TableElement] = [:]
    private var refusals: [Place: TableElement] = [:]
    private var slots: [ElementKey: TableElement] = [:]
    /// Endpoints by chain, for services with affinity.
    private var sticky: [String: [KernelDump.Backend]] = [:]
    private(set) var generation: UInt64 = 0
    /// Most services share a few chains: each name is taken apart once.
    private var targets: [String: [(name: String, slots: Range<Int>?)]] = [:]

    mutating func note(_ elements: [TableElement]) {
        slots.reserveCapacity(slots.count + elements.count)
        for element in elements {
            let key = element.key
            switch key.set {
            case .serviceIPs, .serviceNodePorts: entries[key] = element
            case .noEndpointServices: refusals[key.moved(to: .serviceIPs)] = element
            case .noEndpointNodePorts: refusals[key.moved(to: .serviceNodePorts)] = element
            case .endpoints, .nodePortEndpoints: slots[key] = element
            case .generation:
                generation = element.comment.split(separator: " ").last.flatMap { UInt64($0) } ?? UInt64(key.slot)
            default: break
            }
        }
    }

    /// The first rules of a sticky service's chain each name an endpoint.
    mutating func note(_ rule: ObservedRule) {
        guard rule.chain.hasPrefix("svc-"), let comment = Userdata.comment(in: rule.userdata) else { return }
        let words = comment.split(separator: " ", maxSplits: 1)
        guard let first = words.first, let address = SocketAddress(first) else { return }
        sticky[rule.chain, default: []].append(backend(address, words.count > 1 ? words[1] : ""))
    }

    private func backend(_ address: SocketAddress, _ flags: some StringProtocol) -> KernelDump.Backend {
        let words = flags.isEmpty ? [] : flags.split(separator: " ")
        return KernelDump.Backend(
            address: address.address.description, port: address.port,
            state: words.contains("terminating") ? "terminating" : "active", local: words.contains("local"))
    }

    mutating func frontends() -> [KernelDump.Frontend] {
        // A refusal that waits for the collection of garbage is not in force when there is an entry.
        let places = Set(entries.keys).union(refusals.keys)
        var result: [KernelDump.Frontend] = []
        result.reserveCapacity(places.count)
        for place in places {
            if let frontend = frontend(place) { result.append(frontend) }
        }
        result.sort()
        return result
    }

    private mutating func frontend(_ place: Place) -> KernelDump.Frontend? {
        let entry = entries[place]
        let refusal = refusals[place]
        guard let text = (entry ?? refusal)?.comment, let comment = ServiceComment(text) else { return nil }
        var chain: String?
        if case .verdict(let verdict)? = entry?.value { chain = verdict.chain }
        let backends = backends(place, chain ?? "")
        let action =
            if chain == ConstantChain.proxy {
                "proxy"
            } else if chain?.hasPrefix("tunnel-") == true {
                "tunnel"
            } else if !backends.isEmpty { "balance" } else if refusal?.value == .verdict(.drop) { "drop" } else {
                "reject"
            }
        return KernelDump.Frontend(
            address: place.set == .serviceNodePorts ? "*" : "\(place.address)", port: place.port,
            protocol: TransportProtocol(rawValue: place.transport)?.description ?? "\(place.transport)",
            kind: comment.kind, service: comment.service, action: action, policy: comment.policy,
            affinitySeconds: comment.affinitySeconds, backends: backends)
    }

    /// The endpoints that the chain chooses among, each once.
    private mutating func backends(_ place: Place, _ chain: String) -> [KernelDump.Backend] {
        let known = targets[chain] ?? Target.names(in: chain).map { ($0, Target.slots($0)) }
        targets[chain] = known
        var result: [KernelDump.Backend] = []
        for (name, slots) in known {
            let found: [KernelDump.Backend]
            if let range = slots {
                var key = place.moved(to: place.set == .serviceNodePorts ? .nodePortEndpoints : .endpoints)
                found = range.compactMap { slot in
                    key.slot = UInt32(slot)
                    guard let element = self.slots[key], case .endpoint(let address) = element.value else { return nil }
                    return backend(address, element.comment)
                }
            } else {
                found = sticky[name] ?? []
            }
            for backend in found where !result.contains(backend) { result.append(backend) }
        }
        return result
    }
}

extension ElementKey {
    /// The same frontend in another set.
    fileprivate func moved(to set: TableSet) -> ElementKey {
        var key = ElementKey(set)
        (key.address, key.transport, key.port) = (address, transport, port)
        return key
    }
}

extension Target {
    /// The targets that a chain named by `ChainID.name` leads to.
    static func names(in chain: String) -> [String] {
        var rest = chain[...]
        if rest.hasPrefix("tunnel-or-") { rest = rest.dropFirst(10) }
        for prefix in ["external-local-", "external-", "cluster-ip-"] where rest.hasPrefix(prefix) {
            rest = rest.dropFirst(prefix.count)
            break
        }
        return rest.split(separator: "-or-").map(String.init)
    }
    /// The slots of a target that spreads: `nodeport-lb-2-from-1` is 1..<3. nil: it does not spread.
    static func slots(_ name: String) -> Range<Int>? {
        var words = name.split(separator: "-")
        if words.first == "nodeport" { words.removeFirst() }
        guard words.count >= 2, words[0] == "lb", let count = Int(words[1]), count >= 0 else { return nil }
        guard words.count == 4 else { return 0..<count }
        guard let offset = Int(words[3]), offset >= 0 else { return nil }
        return offset..<offset + count
    }
}
