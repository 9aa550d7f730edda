/// From a service's program to the elements that carry it. Pure: the same program gives the same elements, so the
/// difference of two programs is the difference of their elements.
import Addressing
import DataplaneIR
import Nftables

/// Which frontends the nftables rules carry.
package enum NftablesCompanion: Sendable {
    /// nftables is the dataplane: all.
    case none
    /// Beside eBPF, everything as well.
    case all
    /// Beside eBPF, only what never passes a socket hook of this node.
    case external

    func carries(_ frontend: Frontend, _ transport: TransportProtocol) -> Bool {
        // Beside eBPF the canary must not reach its backend by our hand: it is there to show that eBPF works.
        if self != .none, frontend.address?.isLoopback == true { return false }
        return self != .external || frontend.kind.isExternal || transport == .sctp || !frontend.sourceRanges.isEmpty
    }
}

/// Each set of endpoints has slots of its own: a packet that met the rules of before an update may find the slots of
/// after it, and must not find an endpoint of the other set there.
private func firstSlot(_ policy: TrafficPolicy) -> Int { policy == .cluster ? 0 : 1 << 20 }

struct ServiceElements {
    /// No two services have the same of these.
    var own: [TableElement] = []
    /// Several services may want the same: counted.
    var shared: [ElementKey] = []
    /// Chains that the verdicts go to, once for each verdict.
    var chains: [ChainID] = []

    init(_ program: ServiceProgram, _ node: NodeProgram, _ companion: NftablesCompanion) {
        var carries = false
        for frontend in program.frontends where companion.carries(frontend, program.id.transport) {
            carries = true
            append(frontend, program)
            appendSourceRanges(frontend, program, node)
        }
        guard carries else { return }
        let used = max(program.clusterRange.upperBound, program.localRange.upperBound)
        for backend in program.backends[..<used] where backend.isLocal {
            shared.append(ElementKey(.hairpin, backend.address.address))
        }
    }

    private mutating func append(_ frontend: Frontend, _ program: ServiceProgram) {
        let id = program.id
        let key = { (address: TableSet, nodePort: TableSet) in
            ElementKey(frontend.address == nil ? nodePort : address, frontend.address, id.transport, frontend.port)
        }
        let comment = ServiceComment(frontend, program).text
        if frontend.kind == .clusterIP, let address = frontend.address {
            shared.append(ElementKey(.clusterIPs, address))
        }
        if frontend.action == .proxy {
            own.append(
                TableElement(
                    key: key(.serviceIPs, .serviceNodePorts), value: .verdict(.goto(ConstantChain.proxy)),
                    comment: comment))
            return
        }
        let (balancing, isComplete) = entry(frontend, program)
        let chain = frontend.action == .tunnel ? .tunnel(balancing) : balancing
        if let chain {
            chains.append(chain)
            own.append(
                TableElement(
                    key: key(.serviceIPs, .serviceNodePorts), value: .verdict(.goto(chain.name)), comment: comment))
        } else if frontend.kind.isExternal, frontend.address != nil {
            // Ends the search, so that no node port with the same number answers (spec row 94).
            own.append(
                TableElement(
                    key: key(.serviceIPs, .serviceNodePorts), value: .verdict(.goto(ConstantChain.noEndpoints)),
                    comment: comment))
        }
        if !isComplete {
            own.append(
                TableElement(
                    key: key(.noEndpointServices, .noEndpointNodePorts),
                    value: .verdict(program.hasEndpoints ? .drop : .goto(ConstantChain.reject)), comment: comment))
        }
        if program.affinitySeconds == nil, balancing != nil { appendSlots(frontend, program) }
    }

    /// The chain for the frontend, and whether it finds an endpoint for everybody.
    private func entry(_ frontend: Frontend, _ program: ServiceProgram) -> (ChainID?, isComplete: Bool) {
        guard program.hasEndpoints else { return (nil, false) }
        let policy = program.policy(for: frontend.kind)
        let space: Keyspace = frontend.address == nil ? .nodePort : .address
        let target = { (policy: TrafficPolicy) -> Target? in
            let range = program.range(for: policy)
            if range.isEmpty { return nil }
            return program.affinitySeconds == nil
                ? .spread(space, offset: firstSlot(policy), count: range.count)
                : .sticky(StickyService.hash(program.id), policy)
        }
        guard frontend.kind.isExternal else {
            let target = target(policy)
            return (target.map { .clusterIP($0) }, target != nil)
        }
        let cluster = target(.cluster)
        guard policy == .local else { return (cluster.map { .external($0) }, cluster != nil) }
        let local = target(.local)
        return (.externalLocal(cluster: cluster, local: local), cluster != nil && local != nil)
    }

    private mutating func appendSlots(_ frontend: Frontend, _ program: ServiceProgram) {
        let policy = program.policy(for: frontend.kind)
        let set: TableSet = frontend.address == nil ? .nodePortEndpoints : .endpoints
        func append(_ policy: TrafficPolicy) {
            for (number, backend) in program.backends[program.range(for: policy)].enumerated() {
                let slot = firstSlot(policy) + number
                own.append(
                    TableElement(
                        key: ElementKey(set, frontend.address, program.id.transport, frontend.port, slot: slot),
                        value: .endpoint(backend.address), comment: endpointComment(backend)))
            }
        }
        append(policy)
        // The node and its pods use the cluster set.
        if frontend.kind.isExternal, policy == .local { append(.cluster) }
    }

    private mutating func appendSourceRanges(_ frontend: Frontend, _ program: ServiceProgram, _ node: NodeProgram) {
        guard !frontend.sourceRanges.isEmpty, let address = frontend.address else { return }
        own.append(TableElement(key: ElementKey(.firewallIPs, address, program.id.transport, frontend.port)))
        var ranges = frontend.sourceRanges.filter { $0.family == address.family }
        let isNodeAllowed = node.localAddresses.contains { local in ranges.contains { $0.contains(local) } }
        // The address itself may be the source when it is bound on an allowed node (spec row 37).
        if isNodeAllowed { ranges.append(IPPrefix(host: address)) }
        for range in ranges.withoutContained {
            var key = ElementKey(.sourceRanges, address, program.id.transport, frontend.port)
            key.rangeStart = range.address
            key.rangeEnd = range.last
            own.append(TableElement(key: key))
        }
    }
}

extension [IPPrefix] {
    /// The kernel refuses intervals that overlap: of nested ranges only the outermost stays.
    var withoutContained: [IPPrefix] {
        var result: [IPPrefix] = []
        for range in Set(self).sorted() where !result.contains(where: { $0.contains(range.address) }) {
            result.append(range)
        }
        return result
    }
}

/// The comment of a frontend's element: all that the element does not say by itself.
struct ServiceComment: Equatable {
    var service: String
    var kind: String
    var policy: String
    var affinitySeconds: UInt32 = 0

    init(_ frontend: Frontend, _ program: ServiceProgram) {
        service = program.id.displayName
        kind = frontend.kind.rawValue
        policy = program.policy(for: frontend.kind).rawValue
        affinitySeconds = program.affinitySeconds ?? 0
    }
    var text: String {
        // The details go last and survive: names alone may fill the 127 bytes that nft can read back.
        let details = " \(kind) \(policy)" + (affinitySeconds > 0 ? " affinity=\(affinitySeconds)" : "")
        let room = UserdataType.maxComment - details.utf8.count
        let name = service.utf8.count <= room ? service : String(decoding: service.utf8.prefix(room), as: UTF8.self)
        return name + details
    }
    init?(_ text: String) {
        var words = text.split(separator: " ").map(String.init)
        if let last = words.last, last.hasPrefix("affinity="), let seconds = UInt32(last.dropFirst(9)) {
            affinitySeconds = seconds
            words.removeLast()
        }
        guard words.count == 3 else { return nil }
        (service, kind, policy) = (words[0], words[1], words[2])
    }
}

/// The pods of this node that are in the mesh, and every address that takes tunnels, but for those of `other`.
func meshElements(
    _ mesh: MeshProgram, without other: MeshProgram = MeshProgram(), _ family: AddressFamily
) -> [TableElement] {
    let clients = mesh.pods.keys.filter { $0.family == family && other.pods[$0] == nil }
    let addresses = mesh.enrolled.subtracting(other.enrolled).filter { $0.family == family }
    return clients.map { TableElement(key: ElementKey(.meshClients, $0)) }
        + addresses.map { TableElement(key: ElementKey(.meshAddresses, $0)) }
}

/// The elements that follow from the node alone, without those of the mesh.
func nodeElements(_ node: NodeProgram, _ family: AddressFamily) -> [TableElement] {
    let addresses = node.nodePortAddresses.filter { $0.family == family && !$0.isLoopback }
    var result = addresses.sorted().map { TableElement(key: ElementKey(.nodePortIPs, $0)) }
    // Ranges that touch are one, since the end of the first would be the start of the next.
    var ranges: [(first: IPAddress, last: IPAddress)] = []
    for prefix in node.serviceCIDRs.filter({ $0.family == family }).withoutContained {
        if let before = ranges.last, before.last.next == prefix.address {
            ranges[ranges.count - 1].last = prefix.last
        } else {
            ranges.append((prefix.address, prefix.last))
        }
    }
    for range in ranges {
        result.append(TableElement(key: ElementKey(.serviceCIDRs, range.first)))
        // Without an end the range goes up to the last address there is.
        guard let next = range.last.next else { continue }
        var end = ElementKey(.serviceCIDRs, next)
        end.slot = 1
        result.append(TableElement(key: end))
    }
    return result
}

extension IPAddress {
    /// The following address of the family; nil behind the last one.
    fileprivate var next: IPAddress? {
        if isIPv4 { return v4 == .max ? nil : IPAddress(v4: v4 + 1) }
        let (low, carry) = low.addingReportingOverflow(1)
        if carry && high == .max { return nil }
        return IPAddress(high: carry ? high + 1 : high, low: low)
    }
}
