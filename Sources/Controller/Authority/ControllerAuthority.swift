/// The certificate authority of this replica: what it is made of, what it does, what it tells.
import AdminAPI
import AdminServer
import CertificateAuthority
import Daemon
import Glibc
import KubernetesClient
import Logging
import Signing
import Synchronization
import Telemetry

final class ControllerAuthority: Sendable {
    static let audiences: Set = ["istio-ca", "heddle-ca"]
    /// Each node's proxy keeps a connection for a while after it has asked.
    static var limits: ConnectionLimits {
        var limits = ConnectionLimits()
        (limits.connections, limits.requestBytes) = (2048, 128 << 10)
        return limits
    }

    private let identity: String
    private let trustDomain: String
    private let keeper: AuthorityKeeper
    private let pods: PodWatch
    private let service: CertificateService
    private let reviews: ObjectWriter
    private let registry = MetricRegistry()
    private let metrics: AuthorityMetrics
    private let calls = GRPCCalls()
    private let names: [String]
    private let log: Logger
    /// Handshakes cost: they must hold up no probe.
    let loop = ServerLoop()
    let certificate = ServedCertificate()
    private let isOpen = Atomic(false)

    init(_ configuration: ControllerConfiguration, _ access: ClusterAccess, _ keeper: AuthorityKeeper, _ log: Logger) {
        (identity, trustDomain) = (configuration.identity, configuration.trustDomain)
        (self.keeper, self.log, names) = (keeper, log, configuration.serviceNames)
        pods = PodWatch(access)
        metrics = AuthorityMetrics(registry)
        reviews = ObjectWriter(access: access, program: "heddle-controller")
        service = CertificateService(
            WhoMayAsk(
                trustDomain: configuration.trustDomain, audiences: Self.audiences,
                nodeAccounts: Set(configuration.nodeAccounts)),
            pods: pods, reviewer: TokenReviewer(writer: reviews, audiences: Self.audiences), metrics: metrics,
            signer: { keeper.signer }, log: { log.notice("\($0)", metadata: ["audit": "certificates"]) })
    }

    /// The replica leads now.
    func lead() { keeper.lead() }

    var responder: HTTPResponder { service.responder(calls) }
    var watches: [WatchStatus] { pods.status }

    /// Until the task is cancelled.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask {
                await self.keeper.run {
                    self.log.warning("certificate authority: \($0)")
                } note: {
                    self.log.notice("certificate authority: \($0)")
                }
            }
            group.addTask { await self.pods.run { self.log.warning("\($0)") } }
            group.addTask { await self.calls.run() }
            await keepDoorOpen()
        }
        reviews.shutdown()
    }

    private func keepDoorOpen() async {
        var door = DoorCertificate(names: names)
        var known = ""
        while !Task.isCancelled {
            do {
                if let signer = keeper.signer, let next = try door.next(by: signer, now: Glibc.time(nil)) {
                    try certificate.set(chain: next.chain, key: next.key.pem)
                    isOpen.store(true, ordering: .relaxed)
                }
                known = ""
            } catch {
                // The one that is shown stays.
                if "\(error)" != known { log.warning("certificate of --ca-address: \(error)") }
                known = "\(error)"
            }
            try? await Task.sleep(for: isOpen.load(ordering: .relaxed) ? .seconds(1) : .milliseconds(100))
        }
    }

    var report: AuthorityReport {
        var report = AuthorityReport(identity: identity, trustDomain: trustDomain)
        report.keys = keeper.report
        report.keys.isReady = report.keys.isReady && isOpen.load(ordering: .relaxed)
        (report.pods, report.podsAreListed) = (pods.count, pods.isComplete)
        service.fill(&report)
        report.problems += pods.problems
        return report
    }

    var metricsText: String {
        metrics.note(report)
        return registry.render()
    }

    func answer(_ request: HTTPRequest, _ reply: (HTTPResponse) -> Void) {
        guard let part = request.query["renew"] else { return reply(jsonResponse(report)) }
        let problem =
            switch part {
            case "root": keeper.renewRoot()
            case "intermediate": keeper.renewIntermediate()
            default: "renew=\(shown(part)) is none of root and intermediate"
            }
        if let problem {
            log.notice("\(part) is not renewed: \(problem)")
        } else {
            log.notice("\(part) is to be renewed")
        }
        reply(problem.map { failureResponse($0, status: 409) } ?? jsonResponse(report))
    }
}
