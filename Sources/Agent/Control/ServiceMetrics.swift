/// Traffic by service, for `--service-metrics`. Registered only then: without it these names mean nothing.
import NodeControl
import Telemetry

struct ServiceMetrics: Sendable {
    private let connections: Counter
    private let failures: Counter
    private let received: Counter
    private let sent: Counter
    private let active: Gauge
    private let roundTrip: Gauge

    init(_ registry: MetricRegistry) {
        let labels = ["namespace", "service", "port", "protocol"]
        connections = registry.counter(
            "heddle_service_connections_total", "TCP connections begun and UDP flows seen.", labels: labels)
        failures = registry.counter(
            "heddle_service_failures_total", "Connections refused, or not established.", labels: labels)
        received = registry.counter(
            "heddle_service_received_bytes_total", "Bytes clients received over TCP.", labels: labels)
        sent = registry.counter("heddle_service_sent_bytes_total", "Bytes clients sent over TCP.", labels: labels)
        active = registry.gauge("heddle_service_active_connections", "Connections that are open.", labels: labels)
        roundTrip = registry.gauge(
            "heddle_service_round_trip_seconds", "Mean of the connections that are open.", labels: labels)
    }

    func show(_ totals: ServiceTotals) {
        let values = { (value: (ServiceTotals.Sum) -> Double?) in
            var result: [[String]: Double] = [:]
            for (label, sum) in totals.sums {
                if let number = value(sum) { result[Self.values(of: label)] = number }
            }
            return result
        }
        connections.replace(values { Double($0.connections) })
        failures.replace(values { Double($0.failures) })
        received.replace(values { Double($0.received) })
        sent.replace(values { Double($0.sent) })
        active.replace(values { Double($0.active) })
        roundTrip.replace(values { $0.roundTrip })
    }

    /// From `namespace/name:port`.
    private static func values(of label: ServiceTotals.Label) -> [String] {
        let parts = label.service.split(separator: "/", maxSplits: 1)
        guard parts.count == 2 else { return ["", label.service, "", label.transport] }
        let names = parts[1].split(separator: ":", maxSplits: 1)
        return [String(parts[0]), String(names[0]), names.count > 1 ? String(names[1]) : "", label.transport]
    }
}
