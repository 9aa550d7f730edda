/// Every metric of the controller.
import AdminAPI
import AdminServer
import Admission
import Compile
import InForce
import KubernetesClient
import RouteStatus
import Telemetry

struct ControllerMetrics: Sendable {
    let registry = MetricRegistry()
    private let ready: Gauge
    private let services: Gauge
    private let routes: Gauge
    private let findings: Gauge
    private let problems: Gauge
    private let leader: Gauge
    private let statusesToWrite: Gauge
    private let writes: Counter
    private let nodes: Gauge
    private let nodesBehind: Gauge
    private let reports: Counter
    private let watching: Gauge
    private let watchErrors: Counter
    private let watchObjects: Gauge
    /// By verdict.
    let admissions: Counter
    private let admissionTime: Histogram
    private let webhookCertificateEnd: Gauge
    let shed: Counter
    let notListening: Gauge

    init() {
        ready = registry.gauge("heddle_controller_ready", "1 when every first list is complete.")
        services = registry.gauge("heddle_controller_services", "Services that are followed.")
        routes = registry.gauge("heddle_controller_routes", "Routes with a Service as a parent.")
        findings = registry.gauge(
            "heddle_controller_findings", "What is wrong with routes of the cluster.", labels: ["reason"])
        problems = registry.gauge("heddle_controller_source_problems", "Objects and watches with a problem.")
        leader = registry.gauge("heddle_controller_leader", "1 while this replica leads, and writes.")
        statusesToWrite = registry.gauge(
            "heddle_controller_route_statuses_to_write", "Routes whose status in the API is not yet what it should be.")
        writes = registry.counter(
            "heddle_controller_route_status_writes_total", "Writes of the status of a route.", labels: ["outcome"])
        nodes = registry.gauge("heddle_controller_nodes", "Nodes with an agent.")
        nodesBehind = registry.gauge(
            "heddle_controller_nodes_behind", "Nodes that lag, or whose agent does not answer, for more than a minute.")
        reports = registry.counter(
            "heddle_controller_node_reports_total", "Questions to agents how far their nodes are.", labels: ["outcome"])
        watching = registry.gauge(
            "heddle_controller_watching", "1 while a watch of the kind is open.", labels: ["resource"])
        watchErrors = registry.counter(
            "heddle_controller_watch_errors_total", "Requests of a watch that ended badly.", labels: ["resource"])
        watchObjects = registry.gauge(
            "heddle_controller_watched_objects", "Objects of the kind that are known.", labels: ["resource"])
        admissions = registry.counter(
            "heddle_controller_admission_total", "Objects that API servers asked about.", labels: ["verdict"])
        admissionTime = registry.histogram(
            "heddle_controller_admission_seconds", "From a question of an API server to its verdict.",
            buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10])
        webhookCertificateEnd = registry.gauge(
            "heddle_controller_webhook_certificate_end_timestamp_seconds",
            "When the certificate ends that the webhook serves by, in seconds since 1970.")
        shed = registry.counter(
            "heddle_controller_connections_shed_total", "Connections closed before their client was done.",
            labels: ["server", "reason"])
        notListening = registry.gauge(
            "heddle_controller_servers_not_listening", "1 while a server cannot listen.", labels: ["server"])
    }

    func note(_ view: ClusterView) {
        ready.set(view.isComplete ? 1 : 0)
        services.set(Double(view.serviceCount))
        routes.set(Double(view.routeCount))
        statusesToWrite.set(Double(view.statuses.outstanding.count))
        problems.set(Double(view.problems.count))
        findings.replace(
            Dictionary(grouping: view.findings, by: \.reason).reduce(into: [:]) {
                $0[[$1.key]] = Double($1.value.count)
            })
    }

    func count(_ outcome: WriteOutcome) {
        let name =
            switch outcome {
            case .written: "written"
            case .unchanged: "unchanged"
            case .failed(.conflict): "conflict"
            case .failed(.gone): "gone"
            case .failed(.forbidden): "forbidden"
            case .failed(.throttled): "throttled"
            case .failed(.refused), .failed(.tooLarge): "refused"
            case .failed(.trouble): "trouble"
            case .failed(.fenced): "not_leading"
            }
        writes.add(1, name)
    }

    func count(_ report: Result<ProgrammedReport, NodeFailure>) {
        if case .success = report { reports.add(1, "answered") } else { reports.add(1, "failed") }
    }
    func note(_ nodes: ControllerStatus.Nodes) {
        self.nodes.set(Double(nodes.count))
        nodesBehind.set(Double(nodes.lagging))
    }

    func count(_ outcome: AdmissionAnswer.Outcome, after time: Duration) {
        let verdict =
            switch outcome {
            case .allowed(warnings: 0): "allowed"
            case .allowed: "warned"
            case .refused: "refused"
            case .unreadable: "unreadable"
            }
        admissions.add(1, verdict)
        admissionTime.observe(time / .seconds(1))
    }
    func note(webhookCertificateEnd end: Int) { webhookCertificateEnd.set(Double(end)) }

    func note(_ election: ElectionStatus) { leader.set(election.isLeading ? 1 : 0) }

    func note(_ watches: [WatchStatus]) {
        let byName = { (value: (WatchStatus) -> Int) in
            Dictionary(watches.map { ([$0.resource], Double(value($0))) }, uniquingKeysWith: +)
        }
        watching.replace(byName { $0.state == .watching ? 1 : 0 })
        watchErrors.replace(byName(\.errors))
        watchObjects.replace(byName(\.objects))
    }
}
