/// The series of relayed connections, `istio_tcp_*`: a bounded number, however many pods and services there are and
/// whatever peers call them. What exceeds a bound is counted all the same, under fewer labels.
import Balancing
import CertificateAuthority
import RouteIR

package struct FlowKey: Hashable, Sendable {
    let direction: FlowRecord.Direction
    private(set) var source: WorkloadEntry?
    private(set) var destination: WorkloadEntry?
    private(set) var upstream: UpstreamID?
    fileprivate(set) var serviceHost: String?
    private(set) var sourceIdentity: WorkloadIdentity?
    private(set) var destinationIdentity: WorkloadIdentity?
    let isTunnelled: Bool
    /// Of those that were refused.
    private(set) var refusal: TunnelRefusal.Kind?
    private(set) var isOthers = false

    init(_ flow: borrowing FlowRecord) {
        direction = flow.direction
        source = flow.source
        destination = flow.destination
        upstream = flow.service
        serviceHost = flow.serviceHost
        sourceIdentity = flow.sourceIdentity
        destinationIdentity = flow.destinationIdentity
        isTunnelled = flow.isTunnelled
        refusal = flow.isOpen ? nil : flow.refusal?.kind
    }

    fileprivate var others: FlowKey {
        var key = self
        (key.source, key.destination, key.upstream, key.serviceHost) = (nil, nil, nil, nil)
        (key.sourceIdentity, key.destinationIdentity, key.refusal, key.isOthers) = (nil, nil, nil, true)
        return key
    }

    fileprivate var isGone: Bool { source?.isGone == true || destination?.isGone == true }

    package static func == (a: FlowKey, b: FlowKey) -> Bool {
        a.direction == b.direction && a.source === b.source && a.destination === b.destination
            && a.upstream == b.upstream && a.serviceHost == b.serviceHost && a.sourceIdentity == b.sourceIdentity
            && a.destinationIdentity == b.destinationIdentity && a.isTunnelled == b.isTunnelled
            && a.refusal == b.refusal && a.isOthers == b.isOthers
    }
    package func hash(into hasher: inout Hasher) {
        hasher.combine(direction)
        hasher.combine(source.map { UInt(bitPattern: ObjectIdentifier($0)) } ?? 0)
        hasher.combine(destination.map { UInt(bitPattern: ObjectIdentifier($0)) } ?? 0)
        hasher.combine(upstream)
        hasher.combine(serviceHost)
        hasher.combine(sourceIdentity)
        hasher.combine(refusal)
        hasher.combine(isTunnelled)
    }
}

package struct FlowSeries: Sendable {
    package fileprivate(set) var opened: UInt64 = 0
    package fileprivate(set) var closed: UInt64 = 0
    package fileprivate(set) var failed: UInt64 = 0
    /// By clients, and by servers.
    package fileprivate(set) var received: UInt64 = 0
    package fileprivate(set) var sent: UInt64 = 0
    fileprivate var last = Moment.start

    fileprivate mutating func count(_ bytes: (received: UInt64, sent: UInt64)) {
        received += bytes.received
        sent += bytes.sent
    }

    static func + (a: FlowSeries, b: FlowSeries) -> FlowSeries {
        var sum = a
        sum.opened += b.opened
        sum.closed += b.closed
        sum.failed += b.failed
        sum.received += b.received
        sum.sent += b.sent
        return sum
    }
}

extension FlowRecord {
    /// Bytes that the series do not know yet; from now on they do.
    fileprivate mutating func countNew() -> (received: UInt64, sent: UInt64)? {
        let new = (received: received - counted.received, sent: sent - counted.sent)
        guard isOpen, new.received + new.sent > 0 else { return nil }
        counted = (received, sent)
        return new
    }
}

struct FlowTable {
    /// Of one loop.
    static let maximum = 2000
    /// What peers call services, of one pod: they may invent any.
    static let hostsOfPod = 16
    private static let grace: Duration = .seconds(900)
    private(set) var entries: [FlowKey: FlowSeries] = [:]
    private var hosts: [ObjectIdentifier?: Set<String>] = [:]

    private mutating func change(_ flow: FlowRecord, now: Moment, _ body: (inout FlowSeries) -> Void) {
        var key = FlowKey(flow)
        if !isKnown(key.serviceHost, of: key) { key.serviceHost = nil }
        if entries[key] == nil, entries.count >= Self.maximum { key = key.others }
        var series = entries[key] ?? FlowSeries()
        series.last = max(series.last, now)
        body(&series)
        entries[key] = series
    }

    /// Or from now on, while there is room for it.
    private mutating func isKnown(_ host: String?, of key: FlowKey) -> Bool {
        guard let host else { return true }
        let pod = key.destination.map { ObjectIdentifier($0) }
        if hosts[pod]?.contains(host) == true { return true }
        guard (hosts[pod]?.count ?? 0) < Self.hostsOfPod else { return false }
        hosts[pod, default: []].insert(host)
        return true
    }

    mutating func opened(_ flow: inout FlowRecord, now: Moment) {
        flow.isOpen = true
        change(flow, now: now) { $0.opened += 1 }
    }
    /// What has passed since the last time.
    mutating func progress(_ flow: inout FlowRecord, now: Moment) {
        guard let new = flow.countNew() else { return }
        change(flow, now: now) { $0.count(new) }
    }
    mutating func finished(_ flow: inout FlowRecord) {
        let (new, isOpen) = (flow.countNew(), flow.isOpen)
        change(flow, now: flow.ended) { series in
            if let new { series.count(new) }
            if isOpen { series.closed += 1 } else { series.failed += 1 }
        }
    }

    /// Drops what is gone, and what was not heard of for long. What has connections open stays.
    mutating func sweep(_ table: RoutingTable, now: Moment) {
        guard !entries.isEmpty else { return }
        entries = entries.filter { key, series in
            let grace = key.isGone ? SeriesTable.grace.gone : Self.grace
            return series.opened > series.closed || now.since(series.last) <= grace
        }
        hosts = [:]
        for key in entries.keys { _ = isKnown(key.serviceHost, of: key) }
    }
}

extension Shard {
    /// A relayed connection is over.
    func finish(_ flow: FlowRecord) {
        var flow = flow
        flows.finished(&flow)
        logs?.log(flow, node: table.snapshot.node)
    }

    /// There is no tunnel, or no stream in it: counted, and told, though not each of many.
    func refusedTunnel(_ refusal: TunnelRefusal, _ whose: String) {
        stats.tunnelRefusals[refusal.kind, default: 0] += 1
        guard now.since(toldOfTunnelAt) >= .seconds(1) else { return }
        toldOfTunnelAt = now
        options.tell("no tunnel \(whose): \(refusal.sentence)")
    }
}
