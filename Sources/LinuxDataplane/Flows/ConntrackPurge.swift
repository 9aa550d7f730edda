/// Cuts UDP flows that conntrack still sends to backends that are gone (spec rows 114-126). Done after programming, so
/// that the next packet meets the new rules.
import Addressing
import DataplaneIR
import Netlink

/// Which flows are stale: those to these frontends whose answers do not come from an endpoint that still serves.
struct ConntrackPurge {
    private(set) var frontends: [SocketAddress: Set<SocketAddress>] = [:]
    private(set) var nodePorts: [AddressFamily: [UInt16: Set<SocketAddress>]] = [:]
    /// Node ports count only at our own addresses: a pod's flow to another host's same port is none of ours (row 123).
    private(set) var nodeAddresses: Set<IPAddress> = []

    var isEmpty: Bool { frontends.isEmpty && nodePorts.isEmpty }
    var families: Set<AddressFamily> { Set(frontends.keys.map(\.address.family)).union(nodePorts.keys) }

    /// Notes what a service's change made stale. `isFirst`: flows may be left of an agent before us.
    mutating func note(old: ServiceProgram?, new: ServiceProgram?, carries: (Frontend) -> Bool) {
        guard let id = (new ?? old)?.id, id.transport == .udp else { return }
        let oldServing = old?.servingAddresses ?? []
        let serving = new?.servingAddresses ?? []
        let oldFrontends = old?.frontends.filter(carries) ?? []
        let newFrontends = new?.frontends.filter(carries) ?? []
        guard serving != oldServing || oldFrontends != newFrontends else { return }
        // What was ours and is no more may belong to another service of the same plan: that one wins.
        for frontend in oldFrontends where !newFrontends.contains(where: { $0.hasSamePlace(as: frontend) }) {
            if !contains(frontend, id.family) { set(frontend, id.family, []) }
        }
        for frontend in newFrontends { set(frontend, id.family, serving) }
    }
    /// A frontend that some earlier agent served and nobody serves now.
    mutating func noteGone(_ address: IPAddress?, _ port: UInt16, _ family: AddressFamily) {
        let frontend = Frontend(.clusterIP, address, port)
        if !contains(frontend, family) { set(frontend, family, []) }
    }
    /// Node ports are served at more addresses than before: flows that came there earlier were not translated.
    mutating func noteNodePorts(of program: ServiceProgram, carries: (Frontend) -> Bool) {
        guard program.id.transport == .udp else { return }
        for frontend in program.frontends where frontend.address == nil && carries(frontend) {
            set(frontend, program.id.family, program.servingAddresses)
        }
    }
    mutating func noteNodeAddresses(_ addresses: Set<IPAddress>) { nodeAddresses.formUnion(addresses) }

    private func contains(_ frontend: Frontend, _ family: AddressFamily) -> Bool {
        if let address = frontend.address { return frontends[SocketAddress(address, frontend.port)] != nil }
        return nodePorts[family]?[frontend.port] != nil
    }
    private mutating func set(_ frontend: Frontend, _ family: AddressFamily, _ serving: Set<SocketAddress>) {
        if let address = frontend.address {
            frontends[SocketAddress(address, frontend.port)] = serving
        } else {
            nodePorts[family, default: [:]][frontend.port] = serving
        }
    }

    func isStale(_ entry: ConntrackEntry) -> Bool {
        let destination = entry.original.destination
        if let serving = frontends[destination] { return !serving.contains(entry.reply.source) }
        guard let serving = nodePorts[destination.address.family]?[destination.port],
            nodeAddresses.contains(destination.address)
        else { return false }
        return !serving.contains(entry.reply.source)
    }

    /// Deletes the stale entries and returns how many.
    func run(_ client: ConntrackClient) throws(NetlinkError) -> Int {
        var removed = 0
        for (family, destination) in listings {
            for entry in try client.entries(family, .udp, to: destination, where: { isStale($0) })
            where try client.delete(entry) {
                removed += 1
            }
        }
        return removed
    }

    /// Above this many destinations one listing of everything costs less than one for each: every listing makes the
    /// kernel walk its whole table, but what it leaves out need not be copied and read.
    private static let mostListings = 8

    private var listings: [(AddressFamily, ConntrackClient.Destination?)] {
        let single =
            frontends.keys.map { ($0.address.family, ConntrackClient.Destination($0.address, $0.port)) }
            + nodePorts.flatMap { family, ports in ports.keys.map { (family, ConntrackClient.Destination(nil, $0)) } }
        guard single.count > Self.mostListings else { return single }
        return AddressFamily.allCases.filter(families.contains).map { ($0, nil) }
    }
}

extension Frontend {
    fileprivate func hasSamePlace(as other: Frontend) -> Bool { address == other.address && port == other.port }
}
