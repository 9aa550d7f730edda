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
        hasher.combine(source.map(ObjectIdentifier.init))
        hasher.combine(destination.map(ObjectIdentifier.init))
        hasher.combine(service?.name)
        hasher.combine(status)
        hasher.combine(flags)
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
    var duration = Distribution(bounds: durationBounds.count)
    var requestBytes = Distribution(bounds: sizeBounds.count)
    var responseBytes = Distribution(bounds: sizeBounds.count)
    /// Of gRPC.
    var requestMessages: UInt64 = 0
    var responseMessages: UInt64 = 0

    mutating func add(_ record: RequestRecord) {
        count += 1
        duration.add(Double(record.duration.wholeNanoseconds) / 1e6, Self.durationBounds)
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
    private(set) var buckets: [UInt64]
    private(set) var sum = 0.0

    /// One bucket more than there are bounds, for what exceeds them all.
    init(bounds: Int) { buckets = Array(repeating: 0, count: bounds + 1) }

    mutating func add(_ value: Double, _ bounds: [Double]) {
        sum += value
        buckets[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
    }
    mutating func merge(_ other: Distribution) {
        sum += other.sum
        for index in buckets.indices { buckets[index] += other.buckets[index] }
    }
}
