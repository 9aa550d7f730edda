/// The proxy's `/metrics`: Istio's series with the full set of labels, because Kiali drops a series that misses one,
/// and the proxy's own counters.
package import RouteIR
import Telemetry

package func prometheusText(
    _ stats: ShardStats, _ series: [(key: SeriesKey, value: Series)], node: ProxyNode, generation: UInt64
) -> String {
    var text = ""
    requestSeries(labelled(series.map { ($0.key.labels(node), $0.key.isGRPC, $0.value) }), &text)
    ownSeries(stats, generation, &text)
    return text
}

private func requestSeries(_ series: [LabelledSeries], _ text: inout String) {
    counter("istio_requests_total", "Requests by source, destination and outcome.", &text)
    for one in series { text += "istio_requests_total{\(one.labels)} \(one.value.count)\n" }
    histogram(
        "istio_request_duration_milliseconds", "Time from the first byte of a request to the last of its answer.",
        series.map { ($0.labels, $0.value.duration) }, Series.durationBounds, &text)
    histogram(
        "istio_request_bytes", "Size of request bodies.", series.map { ($0.labels, $0.value.requestBytes) },
        Series.sizeBounds, &text)
    histogram(
        "istio_response_bytes", "Size of response bodies.", series.map { ($0.labels, $0.value.responseBytes) },
        Series.sizeBounds, &text)
    let calls = series.filter(\.isGRPC)
    counter("istio_request_messages_total", "Messages of gRPC that clients sent.", &text)
    for call in calls { text += "istio_request_messages_total{\(call.labels)} \(call.value.requestMessages)\n" }
    counter("istio_response_messages_total", "Messages of gRPC that clients got.", &text)
    for call in calls { text += "istio_response_messages_total{\(call.labels)} \(call.value.responseMessages)\n" }
}

private func ownSeries(_ stats: ShardStats, _ generation: UInt64, _ text: inout String) {
    for (name, help, value) in [
        ("heddle_proxy_connections_total", "Connections of clients.", stats.connectionsOpened),
        ("heddle_proxy_connections_closed_total", "Connections of clients that have ended.", stats.connectionsClosed),
        ("heddle_proxy_retries_total", "Requests that were tried again.", stats.retries),
        ("heddle_proxy_overflows_total", "Requests refused by a connection or request limit.", stats.overflows),
        ("heddle_proxy_ejections_total", "Endpoints taken out for errors.", stats.ejections),
        ("heddle_proxy_mirrored_total", "Copies of requests that were sent.", stats.mirrored),
        ("heddle_proxy_held_clients_total", "Connections that waited for their client to be known.", stats.heldClients),
        (
            "heddle_proxy_unknown_clients_total",
            "Connections of unknown clients to services with routes for single namespaces.", stats.unknownClients
        ),
        ("heddle_proxy_stray_answers_total", "Bytes of backends that no request had asked for.", stats.strayAnswers),
    ] {
        counter(name, help, &text)
        text += "\(name) \(value)\n"
    }
    counter("heddle_proxy_limited_total", "What ran into a bound of the proxy, by bound (docs/l7.md).", &text)
    for limit in ProxyLimit.allCases {
        text += "heddle_proxy_limited_total{limit=\"\(limit.rawValue)\"} \(stats.limited[limit] ?? 0)\n"
    }
    counter("heddle_proxy_violations_total", "Requests refused for violating HTTP, by fault.", &text)
    for (fault, count) in stats.violations.sorted(by: { $0.key < $1.key }) {
        text += "heddle_proxy_violations_total{fault=\"\(fault)\"} \(count)\n"
    }
    text += "# HELP heddle_proxy_requests_active Requests under way.\n# TYPE heddle_proxy_requests_active gauge\n"
    text += "heddle_proxy_requests_active \(stats.active)\n"
    text += "# HELP heddle_proxy_memory_held_bytes Kept on behalf of clients, as counted against --memory-limit.\n"
    text += "# TYPE heddle_proxy_memory_held_bytes gauge\nheddle_proxy_memory_held_bytes \(stats.held)\n"
    text += "# HELP heddle_proxy_config_generation Generation of the configuration in force.\n"
    text += "# TYPE heddle_proxy_config_generation gauge\nheddle_proxy_config_generation \(generation)\n"
    text += "# HELP istio_build Component that answers.\n# TYPE istio_build gauge\n"
    text += "istio_build{component=\"heddle-proxy\"} 1\n"
}

private func counter(_ name: String, _ help: String, _ text: inout String) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) counter\n"
}

private struct LabelledSeries {
    let labels: String
    let isGRPC: Bool
    var value: Series
}

/// Series whose labels are the same are one, whatever objects they were counted under.
private func labelled(_ series: [(String, Bool, Series)]) -> [LabelledSeries] {
    var byLabels: [String: LabelledSeries] = [:]
    for (labels, isGRPC, value) in series {
        let sum = byLabels[labels].map { $0.value + value } ?? value
        byLabels[labels] = LabelledSeries(labels: labels, isGRPC: isGRPC, value: sum)
    }
    return byLabels.values.sorted { $0.labels < $1.labels }
}

private func histogram(
    _ name: String, _ help: String, _ values: [(labels: String, value: Distribution)], _ bounds: [Double],
    _ text: inout String
) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) histogram\n"
    for (labels, value) in values {
        var below: UInt64 = 0
        for (index, bound) in bounds.enumerated() {
            below += value.buckets[index]
            let shown = bound == bound.rounded() ? "\(Int(bound))" : "\(bound)"
            text += "\(name)_bucket{\(labels),le=\"\(shown)\"} \(below)\n"
        }
        below += value.buckets[bounds.count]
        text += "\(name)_bucket{\(labels),le=\"+Inf\"} \(below)\n"
        text += "\(name)_sum{\(labels)} \(value.sum)\n\(name)_count{\(labels)} \(below)\n"
    }
}

extension SeriesKey {
    func labels(_ node: ProxyNode) -> String {
        let unknown = isOthers ? "(others)" : "unknown"
        let cluster = node.clusterName
        let service = upstream?.service
        var pairs: [(String, String)] = [("reporter", "source")]
        for (side, workload) in [("source", source?.workload), ("destination", destination?.workload)] {
            pairs += [
                ("\(side)_workload", workload?.name ?? unknown),
                ("\(side)_workload_namespace", workload?.namespace ?? unknown), ("\(side)_principal", "unknown"),
                ("\(side)_app", workload?.app ?? unknown), ("\(side)_version", workload?.version ?? unknown),
                ("\(side)_canonical_service", workload?.canonicalService ?? unknown),
                ("\(side)_canonical_revision", workload?.canonicalRevision ?? (workload == nil ? unknown : "latest")),
                ("\(side)_cluster", workload == nil ? "unknown" : cluster),
            ]
        }
        pairs += [
            ("destination_service", service?.hostname ?? unknown),
            ("destination_service_name", service?.name ?? unknown),
            ("destination_service_namespace", service?.namespace ?? unknown),
            ("request_protocol", isGRPC ? "grpc" : "http"), ("response_code", "\(status)"),
            ("grpc_response_status", grpcStatus?.description ?? "unknown"), ("response_flags", "\(flags)"),
            ("connection_security_policy", "none"),
        ]
        return pairs.map { "\($0.0)=\"\(escaped($0.1, quotes: true))\"" }.joined(separator: ",")
    }
}
