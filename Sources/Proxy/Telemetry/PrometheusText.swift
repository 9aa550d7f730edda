/// The proxy's `/metrics`: Istio's series with the full set of labels, because Kiali drops a series that misses one,
/// and the proxy's own counters.
import CertificateAuthority
package import RouteIR
import Telemetry

package func prometheusText(
    _ stats: ShardStats, _ series: [(key: SeriesKey, value: Series)],
    flows: [(key: FlowKey, value: FlowSeries)] = [], node: ProxyNode, mesh: ProxyMesh? = nil, generation: UInt64
) -> String {
    var text = ""
    requestSeries(
        labelled(
            series.flatMap { key, value in
                key.reporters.map { (key.labels(node, mesh, reporter: $0), key.isGRPC, value) }
            }), &text)
    if mesh != nil || !flows.isEmpty {
        flowSeries(flows.map { ($0.key.labels(node), $0.value) }, &text)
        tunnelSeries(stats, &text)
    }
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

/// Of bytes, the meaning is Istio's on both reporters: `received` is what clients sent, `sent` what they got.
private func flowSeries(_ flows: [(String, FlowSeries)], _ text: inout String) {
    var sums: [String: FlowSeries] = [:]
    for (labels, value) in flows { sums[labels] = sums[labels].map { $0 + value } ?? value }
    let sorted = sums.sorted { $0.key < $1.key }
    for (name, help, value) in [
        ("connections_opened", "Relayed connections that were opened.", \.opened),
        ("connections_closed", "Relayed connections that have ended.", \.closed),
        ("connections_failed", "Connections that could not be relayed.", \.failed),
        ("received_bytes", "Bytes that clients sent.", \.received), ("sent_bytes", "Bytes that clients got.", \.sent),
    ] as [(String, String, KeyPath<FlowSeries, UInt64>)] {
        counter("istio_tcp_\(name)_total", help, &text)
        for (labels, series) in sorted { text += "istio_tcp_\(name)_total{\(labels)} \(series[keyPath: value])\n" }
    }
}

private func tunnelSeries(_ stats: ShardStats, _ text: inout String) {
    counter("heddle_proxy_tunnel_refusals_total", "Tunnels that did not come to be, by what was wrong.", &text)
    for kind in TunnelRefusal.Kind.allCases {
        let count = stats.tunnelRefusals[kind] ?? 0
        text += "heddle_proxy_tunnel_refusals_total{reason=\"\(kind.rawValue)\"} \(count)\n"
    }
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
    /// The server's node sees of a tunnel nothing but bytes, so that its side is told here as well: Kiali's padlock and
    /// Grafana's boards of services ask for it.
    var reporters: [String] { isMutual ? ["source", "destination"] : ["source"] }

    func labels(_ node: ProxyNode, _ mesh: ProxyMesh?, reporter: String) -> String {
        let unknown = isOthers ? "(others)" : "unknown"
        let principal = { (entry: WorkloadEntry?) in
            isMutual ? entry.flatMap { mesh?.identity(of: $0.workload) }?.description ?? unknown : unknown
        }
        var pairs: [(String, String)] = [("reporter", reporter)]
        pairs += workloadLabels("source", source, principal(source), unknown, node)
        pairs += workloadLabels("destination", destination, principal(destination), unknown, node)
        pairs += serviceLabels(upstream?.service, unknown)
        pairs += [
            ("request_protocol", isGRPC ? "grpc" : "http"), ("response_code", "\(status)"),
            ("grpc_response_status", grpcStatus?.description ?? "unknown"), ("response_flags", "\(flags)"),
            ("connection_security_policy", isMutual ? "mutual_tls" : "none"),
        ]
        return text(pairs)
    }
}

extension FlowKey {
    func labels(_ node: ProxyNode) -> String {
        let unknown = isOthers ? "(others)" : "unknown"
        let name = { (identity: WorkloadIdentity?) in isTunnelled ? identity?.description ?? unknown : unknown }
        var pairs: [(String, String)] = [("reporter", direction == .outbound ? "source" : "destination")]
        pairs += workloadLabels("source", source, name(sourceIdentity), unknown, node)
        pairs += workloadLabels("destination", destination, name(destinationIdentity), unknown, node)
        pairs += upstream == nil ? hostLabels(unknown) : serviceLabels(upstream?.service, unknown)
        pairs += [
            ("request_protocol", "tcp"), ("response_flags", refusal?.flag ?? "-"),
            ("connection_security_policy", isTunnelled ? "mutual_tls" : "none"),
        ]
        return text(pairs)
    }
    /// As the client's node calls the service; only what is in the server's namespace can be meant.
    private func hostLabels(_ unknown: String) -> [(String, String)] {
        let parts = serviceHost?.split(separator: ".", maxSplits: 2) ?? []
        guard let serviceHost, parts.count == 3, let namespace = destination?.workload.namespace,
            parts[1] == namespace[...]
        else { return serviceLabels(nil, unknown) }
        return [
            ("destination_service", serviceHost), ("destination_service_name", String(parts[0])),
            ("destination_service_namespace", namespace),
        ]
    }
}

extension TunnelRefusal.Kind {
    /// Istio's response flags of connections.
    fileprivate var flag: String {
        switch self {
        case .identity, .unknownPod: "IDENTITY_ERROR"
        case .unknownRoot, .expired, .wrongIdentity, .refusedByPeer: "TLS_FAILURE"
        case .policy: "DENY"
        case .handshake: "H2_HANDSHAKE_FAILURE"
        case .connect, .reset, .badRequest, .application, .overload: "CONNECT"
        }
    }
}

private func workloadLabels(
    _ side: String, _ entry: WorkloadEntry?, _ principal: String, _ unknown: String, _ node: ProxyNode
) -> [(String, String)] {
    let workload = entry?.workload
    return [
        ("\(side)_workload", workload?.name ?? unknown),
        ("\(side)_workload_namespace", workload?.namespace ?? unknown), ("\(side)_principal", principal),
        ("\(side)_app", workload?.app ?? unknown), ("\(side)_version", workload?.version ?? unknown),
        ("\(side)_canonical_service", workload?.canonicalService ?? unknown),
        ("\(side)_canonical_revision", workload?.canonicalRevision ?? (workload == nil ? unknown : "latest")),
        ("\(side)_cluster", workload == nil ? "unknown" : node.clusterName),
    ]
}
private func serviceLabels(_ service: RoutedServiceID?, _ unknown: String) -> [(String, String)] {
    [
        ("destination_service", service?.hostname ?? unknown),
        ("destination_service_name", service?.name ?? unknown),
        ("destination_service_namespace", service?.namespace ?? unknown),
    ]
}
private func text(_ pairs: [(String, String)]) -> String {
    pairs.map { "\($0.0)=\"\(escaped($0.1, quotes: true))\"" }.joined(separator: ",")
}
