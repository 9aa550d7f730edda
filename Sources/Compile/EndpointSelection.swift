/// Which endpoints take traffic on this node: spec rows 44-63. Pure and per family.
import Addressing
import Cluster
import DataplaneIR

/// What selection needs to know about the node.
package struct NodeFacts: Equatable, Sendable {
    package var name: String
    /// nil: no zone label, zone hints are ignored (spec row 62).
    package var zone: String?

    package init(name: String, zone: String? = nil) {
        self.name = name
        self.zone = zone
    }
}

/// One endpoint of one service port after merging all its slices.
struct Candidate {
    let address: SocketAddress
    let conditions: EndpointSlice.Conditions
    let nodeName: String?
    let isLocal: Bool
    let forZones: [String]?
    let forNodes: [String]?

    init(_ endpoint: EndpointSlice.Endpoint, port: UInt16, node: NodeFacts) {
        address = SocketAddress(endpoint.address, port)
        conditions = endpoint.conditions
        nodeName = endpoint.nodeName
        isLocal = endpoint.nodeName == node.name
        forZones = endpoint.forZones
        forNodes = endpoint.forNodes
    }

    var isReady: Bool { conditions.contains(.ready) }
    /// The fallback when nothing is ready: draining, but still answering (spec row 52).
    var isServingTerminating: Bool { conditions.isSuperset(of: [.serving, .terminating]) }
}

/// Joins the slices of a service for one of its ports; sorted by address. An address:port that stands in several slices
/// counts once (spec row 45); an entry that is not terminating beats one that is, else the last slice by name wins
/// (row 46).
func mergedCandidates(
    _ slices: [EndpointSlice], portName: String, transport: TransportProtocol, family: AddressFamily, node: NodeFacts
) -> [Candidate] {
    var all: [Candidate] = []
    for slice in slices where slice.addressType.family == family {
        for port in slice.ports where port.name == portName && port.transport == transport {
            all.reserveCapacity(all.count + slice.endpoints.count)
            for endpoint in slice.endpoints where endpoint.address.family == family {
                all.append(Candidate(endpoint, port: port.port, node: node))
            }
        }
    }
    // Swift's sort is stable: of equal addresses the last one stays the last.
    all.sort { $0.address < $1.address }
    var result: [Candidate] = []
    result.reserveCapacity(all.count)
    for candidate in all {
        guard let last = result.last, last.address == candidate.address else {
            result.append(candidate)
            continue
        }
        let keepsOld = candidate.conditions.contains(.terminating) && !last.conditions.contains(.terminating)
        if !keepsOld { result[result.count - 1] = candidate }
    }
    return result
}

/// The ordered backend block of a service port, with its two ranges.
struct Selection: Equatable {
    var backends: [Backend] = []
    var clusterRange = 0..<0
    var localRange = 0..<0
}

/// Why an endpoint is not in a set.
package enum Exclusion: Equatable, Sendable, CustomStringConvertible {
    case notReady
    /// It drains while others are ready: it keeps its connections and gets no new ones.
    case terminating
    case notServing
    case otherNode(String?)
    /// A ready endpoint that the hints mean for others.
    case hint(String)

    package var description: String {
        switch self {
        case .notReady: "not ready"
        case .terminating: "terminating, and others are ready"
        case .notServing: "terminating and not serving any more"
        case .otherNode(let name?): "on node \(name)"
        case .otherNode(nil): "on no known node"
        case .hint(let whose): "its hints mean it for \(whose)"
        }
    }
}

/// Spec rows 51-63, for each of the two sets: they are decided separately and need not be nested.
struct SelectionRules {
    private let hasReady: Bool
    private let hasLocalReady: Bool
    private let hints: Hints

    init(_ candidates: [Candidate], node: NodeFacts) {
        hasReady = candidates.contains(where: \.isReady)
        hasLocalReady = candidates.contains { $0.isLocal && $0.isReady }
        hints = Hints(candidates, node: node)
    }

    /// nil: it is in the set.
    func exclusionFromCluster(_ candidate: Candidate) -> Exclusion? {
        guard hasReady else { return fallback(candidate) }
        guard candidate.isReady else { return unready(candidate) }
        return hints.allow(candidate) ? nil : .hint(hints.others)
    }
    func exclusionFromLocal(_ candidate: Candidate) -> Exclusion? {
        guard candidate.isLocal else { return .otherNode(candidate.nodeName) }
        guard hasLocalReady else { return fallback(candidate) }
        return candidate.isReady ? nil : unready(candidate)
    }

    private func fallback(_ candidate: Candidate) -> Exclusion? {
        if candidate.isServingTerminating { return nil }
        return candidate.conditions.contains(.terminating) ? .notServing : .notReady
    }
    private func unready(_ candidate: Candidate) -> Exclusion {
        candidate.conditions.contains(.terminating) ? .terminating : .notReady
    }
}

/// `candidates` come sorted, and stay so within each part of the block.
func select(_ candidates: [Candidate], node: NodeFacts) -> Selection {
    let rules = SelectionRules(candidates, node: node)
    func part(_ candidate: Candidate) -> Int? {
        let inCluster = rules.exclusionFromCluster(candidate) == nil
        let inLocal = rules.exclusionFromLocal(candidate) == nil
        return switch (inCluster, inLocal) {
        case (true, false): 0
        case (true, true): 1
        case (false, true): 2
        case (false, false): candidate.conditions.contains(.serving) ? 3 : nil
        }
    }
    let parts = candidates.map(part)
    var counts = [0, 0, 0]
    var selection = Selection()
    selection.backends.reserveCapacity(candidates.count)
    for wanted in 0..<4 {
        for (candidate, part) in zip(candidates, parts) where part == wanted {
            selection.backends.append(backend(candidate))
            if wanted < 3 { counts[wanted] += 1 }
        }
    }
    selection.clusterRange = 0..<(counts[0] + counts[1])
    selection.localRange = counts[1] + counts[2] == 0 ? 0..<0 : counts[0]..<counts.reduce(0, +)
    return selection
}

/// Hints count only if every ready endpoint has one of the kind and one of them means us; node hints go before zone
/// hints (spec rows 58-61).
private enum Hints {
    case none
    case node(String)
    case zone(String)

    init(_ candidates: [Candidate], node: NodeFacts) {
        func areValid(_ hints: (Candidate) -> [String]?, _ mine: String) -> Bool {
            var isMeant = false
            for candidate in candidates where candidate.isReady {
                guard let names = hints(candidate), !names.isEmpty else { return false }
                isMeant = isMeant || names.contains(mine)
            }
            return isMeant
        }
        if areValid(\.forNodes, node.name) {
            self = .node(node.name)
        } else if let zone = node.zone, areValid(\.forZones, zone) {
            self = .zone(zone)
        } else {
            self = .none
        }
    }
    /// Whom the endpoints are for that are not allowed.
    var others: String {
        switch self {
        case .none: "nobody"
        case .node: "other nodes"
        case .zone: "other zones"
        }
    }
    func allow(_ candidate: Candidate) -> Bool {
        switch self {
        case .none: true
        case .node(let name): candidate.forNodes?.contains(name) == true
        case .zone(let name): candidate.forZones?.contains(name) == true
        }
    }
}

private func backend(_ candidate: Candidate) -> Backend {
    var state: Backend.State = []
    if candidate.isLocal { state.insert(.local) }
    if candidate.conditions.contains(.terminating) { state.insert(.terminating) }
    if candidate.conditions.contains(.serving) { state.insert(.serving) }
    return Backend(candidate.address, state: state)
}
