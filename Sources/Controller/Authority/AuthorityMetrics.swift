/// The metrics of the certificate authority.
import AdminAPI
import CertificateAuthority
import Glibc
import Telemetry

struct AuthorityMetrics: Sendable {
    let issued: Counter
    private let refused: Counter
    /// Of TokenReviews, in seconds.
    let reviews: Histogram
    private let ready: Gauge
    private let rootDays: Gauge
    private let intermediateDays: Gauge
    private let problems: Gauge

    init(_ registry: MetricRegistry) {
        issued = registry.counter("heddle_ca_issued_total", "Certificates of workloads that were issued.")
        refused = registry.counter(
            "heddle_ca_refused_total", "Requests for certificates that were refused.", labels: ["reason"])
        reviews = registry.histogram(
            "heddle_ca_token_review_seconds", "How long the API server took to review a token.",
            buckets: [0.005, 0.02, 0.1, 0.5, 2, 5])
        ready = registry.gauge("heddle_ca_ready", "1 when certificates can be issued.")
        rootDays = registry.gauge("heddle_ca_root_days", "Days until the root that signs ends.")
        intermediateDays = registry.gauge(
            "heddle_ca_intermediate_days", "Days until the intermediate that signs ends.")
        problems = registry.gauge("heddle_ca_problems", "What is wrong with the authority, as agentctl ca tells.")
        // A reason that never was must be 0, so that its first time is a rise.
        for reason in Refusal.Reason.allCases { refused.add(0, reason.rawValue) }
    }

    func count(_ refusal: Refusal) { refused.add(1, refusal.reason.rawValue) }

    func note(_ report: AuthorityReport) {
        let now = Glibc.time(nil)
        let days = { (certificate: AuthorityReport.Certificate?) in
            certificate.map { Double($0.notAfter - now) / 86_400 } ?? 0
        }
        ready.set(report.isReady ? 1 : 0)
        rootDays.set(days(report.keys.root))
        intermediateDays.set(days(report.keys.intermediate))
        problems.set(Double(report.allProblems.count))
    }
}
