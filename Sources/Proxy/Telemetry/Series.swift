/// The standard metrics of Istio, which Kiali and the usual dashboards read (spec 5.1): one series per pair of
/// workloads, service, protocol and outcome.
import Balancing
import RouteIR

/// What distinguishes two series. Workloads and services are compared by name only when they are shown.
package struct SeriesKey: Hashable, Sendable {
    let source: WorkloadEntry?
    let destination: WorkloadEntry?
    let service: RoutedServiceID?
    let status: UInt16
    let grpcStatus: String?
    let flags: ResponseFlags
    let isGRPC: Bool

    init(_ record: RequestRecord) {
        source = record.source
        destination = record.destination
        service = record.cluster ?? record.service
        status = record.status
        grpcStatus = record.grpcStatus
        flags = record.flags
        isGRPC = record.isGRPC
    }

    package static func == (a: SeriesKey, b: SeriesKey) -> Bool {
        a.source === b.source && a.destination === b.destination && a.service == b.service && a.status == b.status
            && a.grpcStatus == b.grpcStatus && a.flags == b.flags && a.isGRPC == b.isGRPC
    }
    package func hash(into hasher: inout Hasher) {
        // What tells most series apart; the rest is left to the comparison.
        hasher.combine(source.map { UInt(bitPattern: ObjectIdentifier($0)) } ?? 0)
        hasher.combine(
            (destination.map { UInt(bitPattern: ObjectIdentifier($0)) } ?? 0) ^ UInt(status) ^ UInt(flags.rawValue)
                << 16)
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
    var duration = Distribution()
    var requestBytes = Distribution()
    var responseBytes = Distribution()
    /// Of gRPC.
    var requestMessages: UInt64 = 0
    var responseMessages: UInt64 = 0

    mutating func add(_ record: RequestRecord) {
        count += 1
        duration.add(Double(record.ended.nanosecondsSince(record.began)) / 1e6, Self.durationBounds)
        requestBytes.add(Double(record.bytesReceived), Self.sizeBounds)
        responseBytes.add(Double(record.bytesSent), Self.sizeBounds)
        requestMessages += record.requestMessages
        responseMessages += record.responseMessages
    }

    static func + (a: Series, b: Series) -> Series {
        var sum = a
        sum.count += b.count
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
