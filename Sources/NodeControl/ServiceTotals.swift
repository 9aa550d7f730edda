/// Traffic by service for `/metrics`: sums that only grow, though backends come, are forgotten, and come again. Pure.
import Addressing
import DataplaneIR
package import Observation

package struct ServiceTotals: Sendable {
    /// Most services with a name of their own; the rest are one: a metric must not grow with the cluster.
    static let most = 500

    package struct Label: Hashable, Sendable {
        package var service: String
        package var transport: String
        static let others = Label(service: "(others)", transport: "")
    }
    package struct Sum: Equatable, Sendable {
        package internal(set) var connections: UInt64 = 0
        package internal(set) var failures: UInt64 = 0
        package internal(set) var received: UInt64 = 0
        package internal(set) var sent: UInt64 = 0
        package internal(set) var active = 0
        fileprivate var roundTrips = MeanSeconds()
        /// Seconds; nil: not measured.
        package var roundTrip: Double? { roundTrips.value }
    }
    private struct Source: Hashable {
        let label: Label
        let dialled: SocketAddress?
        let backend: SocketAddress?
    }
    package private(set) var sums: [Label: Sum] = [:]
    private var last: [Source: BackendTraffic] = [:]

    package init() {}

    /// Services of which nothing is said any more lose their line.
    package mutating func add(_ report: TrafficReport) {
        var seen: [Source: BackendTraffic] = [:]
        var labels = Set<Label>()
        sums = sums.mapValues { $0.withoutOpenConnections }
        for line in report.backends + (report.others.map { [$0] } ?? []) {
            if line.service?.isOwn == true { continue }
            let label = label(of: line)
            let source = Source(
                label: Label(service: line.service?.rawValue ?? "", transport: line.protocol.rawValue),
                dialled: line.dialled,
                backend: line.backend)
            labels.insert(label)
            sums[label, default: Sum()].add(line, since: last[source])
            seen[source] = line
        }
        last = seen
        sums = sums.filter { labels.contains($0.key) }
    }

    private func label(of line: BackendTraffic) -> Label {
        guard let service = line.service else { return .others }
        let label = Label(service: service.rawValue, transport: line.protocol.rawValue)
        return sums[label] != nil || sums.count < Self.most ? label : .others
    }
}

extension ServiceTotals.Sum {
    fileprivate var withoutOpenConnections: Self {
        var sum = self
        (sum.active, sum.roundTrips) = (0, MeanSeconds())
        return sum
    }
    fileprivate mutating func add(_ now: BackendTraffic, since before: BackendTraffic?) {
        // Counted anew after it was forgotten: then all of it is growth.
        let isSame = before.map { $0.connections <= now.connections && $0.failures <= now.failures } ?? false
        let before = isSame ? before : nil
        let growth = { (new: UInt64?, old: UInt64?) in (new ?? 0) - min(old ?? 0, new ?? 0) }
        connections += growth(now.connections, before?.connections)
        failures += growth(now.failures, before?.failures)
        received += growth(now.received, before?.received)
        sent += growth(now.sent, before?.sent)
        active += now.active
        if let trip = now.roundTripSeconds { roundTrips.add(trip, times: now.active) }
    }
}
