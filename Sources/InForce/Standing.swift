/// Where nodes are at one moment, sorted, so that many routes can be looked up: a look costs the logarithm of the nodes
/// and the nodes that are named.
package import AdminAPI
package import Cluster

package struct Standing: Sendable {
    /// How many nodes are named of those where a route is not in force.
    package static let named = 5

    private struct Kind: Sendable {
        /// Nodes by position, those furthest behind first.
        var order: [Int] = []
        var positions: [UInt64] = []
        /// Where in that order a node is.
        var ranks: [Int] = []
        /// Nodes by positions that are no numbers.
        var others: [String: [Int]] = [:]
    }
    private let book: InForceBook
    private var kinds: [ObjectKind: Kind] = [:]
    /// Nodes where a service did not fit, and those that do not tell all such services.
    private var refusing: [String: [Int]] = [:]
    private var unclear: Set<Int> = []

    init(_ book: InForceBook) {
        self.book = book
        for kind in [ObjectKind.httpRoute, .grpcRoute] {
            var entry = Kind()
            let ranked = book.nodes.indices.map { index -> (UInt64, Int) in
                switch book.nodes[index].reached[kind] {
                case .number(let number): return (number, index)
                case .other(let text):
                    entry.others[text, default: []].append(index)
                    return (0, index)
                case nil: return (0, index)
                }
            }.sorted { ($0.0, book.nodes[$0.1].name) < ($1.0, book.nodes[$1.1].name) }
            (entry.order, entry.positions) = (ranked.map(\.1), ranked.map(\.0))
            entry.ranks = Array(repeating: 0, count: ranked.count)
            for (rank, index) in entry.order.enumerated() { entry.ranks[index] = rank }
            kinds[kind] = entry
        }
        for (index, node) in book.nodes.enumerated() where node.refusedCount > 0 {
            if node.refusedCount > node.refused.count { unclear.insert(index) }
            for service in node.refused { refusing[service, default: []].append(index) }
        }
    }

    /// nil: the route is not known, or there are no nodes to ask.
    package func progress(of route: Route) -> ClusterRoutes.Progress? {
        guard !book.nodes.isEmpty, let version = book.version(of: route.id), let kind = kinds[route.id.kind]
        else { return nil }
        // All up to here in the order lag.
        let count: Int
        var except: Set<Int> = []
        switch version {
        case .number(let number): count = firstIndex(in: kind.positions, notBelow: number)
        case .other(let text):
            count = kind.order.count
            except = Set(kind.others[text] ?? [])
        }
        var refused = unclear
        for parent in route.parents { refused.formUnion(refusing[parent.service.description] ?? []) }
        // Of those that lag no more are looked at than are named.
        let lagging = kind.order.prefix(count).lazy.filter { !except.contains($0) }
        let late = refused.filter { kind.ranks[$0] >= count || except.contains($0) }
        let names = (Array(lagging.prefix(Self.named)) + late.sorted().prefix(Self.named)).prefix(Self.named)
        let missing = count - except.count + late.count
        return ClusterRoutes.Progress(
            nodes: book.nodes.count - missing, of: book.nodes.count, missing: names.map { book.nodes[$0].name })
    }

    private func firstIndex(in sorted: [UInt64], notBelow number: UInt64) -> Int {
        var range = 0..<sorted.count
        while !range.isEmpty {
            let middle = (range.lowerBound + range.upperBound) / 2
            if sorted[middle] < number {
                range = middle + 1..<range.upperBound
            } else {
                range = range.lowerBound..<middle
            }
        }
        return range.lowerBound
    }
}

extension InForceBook {
    package var standing: Standing { Standing(self) }
}
