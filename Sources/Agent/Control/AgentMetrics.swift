/// Every metric of the agent. Where kube-proxy has one, its name is used, so that dashboards keep working (spec rows
/// 148-155); the rest is `heddle_*`.
import Addressing
import Observation
import Telemetry

struct ComparisonMetrics: Sendable {
    let entries: Counter
    let whole: Counter

    init(_ registry: MetricRegistry) {
        let labels = ["dataplane"]
        entries = registry.counter(
            "heddle_compared_entries_total", "Kernel entries compared with what was written.", labels: labels)
        whole = registry.counter(
            "heddle_comparisons_total", "How often everything was compared with what was written.", labels: labels)
    }
}

struct AgentMetrics: Sendable {
    let registry: MetricRegistry

    let syncDuration: Histogram
    let fullSyncDuration: Histogram
    let partialSyncDuration: Histogram
    let networkProgramming: Histogram
    let endpointChangesPending: Gauge
    let endpointChanges: Counter
    let serviceChangesPending: Gauge
    let serviceChanges: Counter
    let lastSync: Gauge
    let lastQueued: Gauge
    let noLocalEndpoints: Gauge
    let syncFailures: Counter
    let conntrackDeleted: Counter
    let conntrackDuration: Histogram
    let cleanupFailures: Counter
    let healthz: Counter
    let livez: Counter
    let servers: ServerMetrics

    let generation: Gauge
    let inSync: Gauge
    let fallback: Gauge
    let proven: Gauge
    let canaryPassed: Gauge
    let drift: Counter
    let comparisons: ComparisonMetrics
    let operations: Counter
    let failures: Counter
    let refused: Gauge
    let leftovers: Gauge
    let findings: Gauge
    let proxyUp: Gauge
    let routedServices: Gauge
    let sourceProblems: Gauge
    let maps: MapMetrics
    let dataplaneEvents: Gauge

    init(_ registry: MetricRegistry = MetricRegistry()) {
        self.registry = registry
        let family = ["ip_family"]
        let kubeProxy = "kubeproxy_sync_proxy_rules_"
        let short = (0..<15).map { 0.001 * Double(1 << $0) }
        syncDuration = registry.histogram(
            kubeProxy + "duration_seconds", "Time to write a plan to the kernel.", labels: family, buckets: short)
        fullSyncDuration = registry.histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds", "Time to write a full plan.", labels: family,
            buckets: short)
        partialSyncDuration = registry.histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds", "Time to write an incremental plan.",
            labels: family, buckets: short)
        networkProgramming = registry.histogram(
            "kubeproxy_network_programming_duration_seconds",
            "Time from the change of an endpoint in the cluster until it is in the kernel.", labels: family,
            buckets: [0.25, 0.5] + (1..<60).map(Double.init) + stride(from: 60.0, to: 120, by: 5)
                + stride(from: 120.0, through: 300, by: 30))
        endpointChangesPending = registry.gauge(
            kubeProxy + "endpoint_changes_pending", "Endpoint changes not yet in the kernel.")
        endpointChanges = registry.counter(kubeProxy + "endpoint_changes_total", "Endpoint changes seen.")
        serviceChangesPending = registry.gauge(
            kubeProxy + "service_changes_pending", "Service changes not yet in the kernel.")
        serviceChanges = registry.counter(kubeProxy + "service_changes_total", "Service changes seen.")
        lastSync = registry.gauge(
            kubeProxy + "last_timestamp_seconds", "When the last plan was written.", labels: family)
        lastQueued = registry.gauge(
            kubeProxy + "last_queued_timestamp_seconds", "When a change was last queued.", labels: family)
        noLocalEndpoints = registry.gauge(
            kubeProxy + "no_local_endpoints_total",
            "Service ports under policy Local with endpoints elsewhere but none on this node.",
            labels: family + ["traffic_policy"])
        syncFailures = registry.counter(
            kubeProxy + "nftables_sync_failures_total", "Plans the kernel refused.", labels: family)
        conntrackDeleted = registry.counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "UDP flows that were sent elsewhere or ended because their endpoint went away.", labels: family)
        conntrackDuration = registry.histogram(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds", "Time to find and cut stale UDP flows.",
            labels: family, buckets: short)
        cleanupFailures = registry.counter(
            kubeProxy + "nftables_cleanup_failures_total", "Replaced entries that could not be freed at once.",
            labels: family)
        healthz = registry.counter("kubeproxy_proxy_healthz_total", "Answers of /healthz.", labels: ["code"])
        livez = registry.counter("kubeproxy_proxy_livez_total", "Answers of /livez.", labels: ["code"])
        servers = ServerMetrics(registry)
        generation = registry.gauge("heddle_generation", "Number of the last plan in the kernel.")
        inSync = registry.gauge("heddle_in_sync", "1 when nothing waits, nothing failed and nothing was refused.")
        fallback = registry.gauge("heddle_dataplane_fallback", "1 when auto took nftables, as eBPF is not possible.")
        proven = registry.gauge("heddle_dataplane_proven", "1 when the audit found no drift and the canary passed.")
        canaryPassed = registry.gauge("heddle_dataplane_canary_timestamp_seconds", "When the canary last passed.")
        drift = registry.counter(
            "heddle_drift_total", "Differences found between the kernel and what was written.", labels: ["dataplane"])
        comparisons = ComparisonMetrics(registry)
        operations = registry.counter("heddle_kernel_operations_total", "Kernel entries written or removed.")
        failures = registry.counter("heddle_sync_failures_total", "Plans that failed and were tried again.")
        leftovers = registry.gauge(
            "heddle_kube_proxy_leftovers", "1 when rules of kube-proxy were found in the kernel.")
        refused = registry.gauge("heddle_refused_services", "Service ports that did not fit.")
        proxyUp = registry.gauge("heddle_l7_proxy_up", "1 when an L7 proxy is connected, configured and answers.")
        routedServices = registry.gauge("heddle_routed_service_ports", "Service ports with routes.")
        findings = registry.gauge(
            "heddle_findings", "Fields and claims of objects that were left out.", labels: ["reason"])
        sourceProblems = registry.gauge(
            "heddle_source_problems", "Documents or objects that could not be used.", labels: ["source"])
        maps = MapMetrics(registry)
        dataplaneEvents = registry.gauge(
            "heddle_dataplane_events", "Counters kept by the dataplane.", labels: ["name"])
        startAtZero()
    }

    func note(_ contents: StatusBoard.Contents) { proven.set(contents.isProven ? 1 : 0) }

    /// A counter that appears only with its first event cannot be told from one that is missing.
    private func startAtZero() {
        for family in AddressFamily.allCases {
            syncFailures.add(0, family.description)
            cleanupFailures.add(0, family.description)
            conntrackDeleted.add(0, family.description)
            for policy in ["internal", "external"] { noLocalEndpoints.set(0, family.description, policy) }
        }
        for code in ["200", "503"] {
            healthz.add(0, code)
            livez.add(0, code)
        }
    }
}

/// How full the dataplane's maps are.
struct MapMetrics: Sendable {
    private let entries: Gauge
    private let maxEntries: Gauge
    private let bytes: Gauge

    init(_ registry: MetricRegistry) {
        entries = registry.gauge("heddle_map_entries", "Entries in use.", labels: ["map"])
        maxEntries = registry.gauge("heddle_map_max_entries", "Most entries; 0: no limit.", labels: ["map"])
        bytes = registry.gauge("heddle_map_bytes", "Kernel memory.", labels: ["map"])
    }

    func replace(_ maps: [MapUsage]) {
        let byName = { (value: (MapUsage) -> Int) in
            Dictionary(maps.map { ([$0.name], Double(value($0))) }, uniquingKeysWith: +)
        }
        entries.replace(byName { $0.entries })
        maxEntries.replace(byName { $0.maxEntries })
        bytes.replace(byName { $0.bytes })
    }
}
