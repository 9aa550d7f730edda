/// The standard metrics of Istio, which Kiali and the usual dashboards read (spec 5.1): one series per pair of
/// workloads, service, protocol and outcome.
import Balancing
import RouteIR

/// What distinguishes two series. Workloads and services are compared by name only when they are shown.
package struct SeriesKey: Hashable, Sendable {
    var source: WorkloadEntry?
    var destination: WorkloadEntry?
    var upstream: UpstreamID?
    /// From 100 to 599; 0: none, or none that HTTP knows.
    var status: UInt16
    var grpcStatus: GRPCStatus?
    var flags: ResponseFlags
    var isGRPC: Bool
    /// By a tunnel.
    var isMutual = false
    /// Stands for those that exceed a bound.
    var isOthers = false

    /// Not a copy of the record, which is large.
    init(_ record: borrowing RequestRecord) {
        source = record.source
        destination = record.destination
        upstream = record.upstreamID ?? record.service
        status = Self.status(of: record)
        grpcStatus = record.grpcStatus
        flags = record.flags
        isGRPC = record.isGRPC
        isMutual = record.isMutual
    }
    private static func status(of record: borrowing RequestRecord) -> UInt16 {
        (100..<600).contains(record.status) ? record.status : 0
    }

    /// The same as `self == SeriesKey(record)`, without making one.
    func isKey(of record: borrowing RequestRecord) -> Bool {
        guard source === record.source, destination === record.destination, status == Self.status(of: record),
            grpcStatus == record.grpcStatus, flags == record.flags, isGRPC == record.isGRPC,
            isMutual == record.isMutual, !isOthers
        else { return false }
        return record.upstreamID == nil ? upstream == record.service : upstream == record.upstreamID
    }
    /// Where to look for it first.
    static func slot(of record: borrowing RequestRecord) -> Int {
        func bits(_ entry: WorkloadEntry?) -> Int { entry.map { Int(bitPattern: ObjectIdentifier($0)) >> 4 } ?? 0 }
        return bits(record.source) ^ bits(record.destination) &* 3 ^ Int(record.status)
    }
    private init(othersOf upstream: UpstreamID?, _ status: UInt16) {
        self.upstream = upstream
        self.status = status
        flags = []
        isGRPC = false
        isOthers = true
    }
    /// All that exceed the bound of this one's service; nil: the bound of the loop.
    static func others(of key: SeriesKey?) -> SeriesKey {
        SeriesKey(othersOf: key?.upstream, (key?.status ?? 0) / 100 * 100)
    }

    /// Its workloads or its service are not configured any more.
    func isGone(from table: RoutingTable) -> Bool {
        if source?.isGone == true || destination?.isGone == true { return true }
        guard let upstream else { return false }
        return table.snapshot.upstreams[upstream] == nil && table.snapshot.services[upstream.service] == nil
    }

    package static func == (a: SeriesKey, b: SeriesKey) -> Bool {
        a.source === b.source && a.destination === b.destination && a.upstream == b.upstream && a.status == b.status
            && a.grpcStatus == b.grpcStatus && a.flags == b.flags && a.isGRPC == b.isGRPC
            && a.isMutual == b.isMutual && a.isOthers == b.isOthers
    }
    package func hash(into hasher: inout Hasher) {
        hasher.combine(source.map { UInt(bitPattern: ObjectIdentifier($0)) } ?? 0)
        hasher.combine(destination.map { UInt(bitPattern: ObjectIdentifier($0)) } ?? 0)
        hasher.combine(upstream)
        // One word for all the small ones.
        let outcome = UInt64(status) | UInt64(grpcStatus?.rawValue ?? 0xff) << 16 | UInt64(flags.rawValue) << 24
        hasher.combine(outcome | (isGRPC ? 1 << 62 : 0) | (isMutual ? 1 << 61 : 0) | (isOthers ? 1 << 63 : 0))
    }
}

package struct Series: Sendable {
    /// Of durations in milliseconds, and of sizes in bytes.
    static let durationBounds: [Double] = [
        0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
        3_600_000,
    ]
    static let sizeBounds = durationBounds

    var count: UInt64 = 0
    /// When the last request ended.
    var last = Moment.start
    var duration = Distribution()
    var requestBytes = Distribution()
    var responseBytes = Distribution()
    /// Of gRPC.
    var requestMessages: UInt64 = 0
    var responseMessages: UInt64 = 0

    mutating func add(_ record: borrowing RequestRecord) {
        count += 1
        last = record.ended
        duration.add(Double(record.ended.nanosecondsSince(record.began)) / 1e6, Self.durationBounds)
        requestBytes.add(Double(record.bytesReceived), Self.sizeBounds)
        responseBytes.add(Double(record.bytesSent), Self.sizeBounds)
        requestMessages += record.requestMessages
        responseMessages += record.responseMessages
    }

    static func + (a: Series, b: Series) -> Series {
        var sum = a
        sum.count += b.count
        sum.last = max(a.last, b.last)
        sum.duration.merge(b.duration)
        sum.requestBytes.merge(b.requestBytes)
        sum.responseBytes.merge(b.responseBytes)
        sum.requestMessages += b.requestMessages
        sum.responseMessages += b.responseMessages
        return sum
    }
}

struct Distribution: Sendable {
    /// One bucket more than there are bounds, for what exceeds them all. They lie in the value itself: counting a
    /// request touches no other memory.
    private(set) var buckets = InlineArray<20, UInt64>(repeating: 0)
    private(set) var sum = 0.0

    mutating func add(_ value: Double, _ bounds: [Double]) {
        sum += value
        var index = 0
        while index < bounds.count, value > bounds[index] { index += 1 }
        buckets[index] += 1
    }
    mutating func merge(_ other: Distribution) {
        sum += other.sum
        for index in buckets.indices { buckets[index] += other.buckets[index] }
    }
}
