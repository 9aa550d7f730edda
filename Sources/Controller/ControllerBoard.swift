/// The controller's state between the loop that changes it and the servers that tell of it.
import AdminAPI
import AdminServer
import Cluster
import Daemon
import Glibc
import KubernetesClient
import Logging
import RouteStatus
import Synchronization
import Telemetry

final class ControllerBoard: Sendable {
    private struct Contents {
        var view: ClusterView
        var servers: [String: AgentStatus.Server] = [:]
        var changedAt: Duration?
    }
    private let contents: Mutex<Contents>
    private let identity: String
    private let lease: String
    private let source: KubernetesSource
    private let elector: LeaderElector
    let statuses: StatusWriter
    let nodes: NodeWatch
    /// nil: it is switched off.
    private let authority: ControllerAuthority?
    /// nil: it is off.
    let webhook: Webhook?
    private let analyst = ClusterAnalyst()
    private let desk = AnswerDesk()
    private let startedAt: Duration
    private let pid: Int32
    let metrics: ControllerMetrics

    init(
        _ configuration: ControllerConfiguration, source: KubernetesSource, writer: ObjectWriter,
        elector: LeaderElector, authority: ControllerAuthority? = nil, pid: Int32
    ) {
        self.authority = authority
        metrics = ControllerMetrics()
        // Thousands of questions have a loop of their own: whoever asks whether we live waits for none of them.
        nodes = NodeWatch(ServerLoop(), port: configuration.agentPort, metrics: metrics)
        statuses = StatusWriter(writer, elector.leadership, metrics)
        webhook =
            configuration.webhook == .on ? Webhook(configuration, writer, elector.leadership, metrics) : nil
        contents = Mutex(Contents(view: ClusterView(proxyName: configuration.serviceProxyName)))
        (identity, self.source, self.elector, self.pid) = (configuration.identity, source, elector, pid)
        lease = "\(configuration.leaseNamespace)/\(configuration.leaseName)"
        startedAt = ProcessSetup.monotonicClock()
    }

    var isReady: Bool { contents.withLock(\.view.isComplete) }

    /// Until the source ends. `want` hears of routes whose status must be written, `tell` of problems of the source.
    func run(want: (Set<ObjectID>) -> Void, tell: (String) -> Void) async {
        for await event in source.events {
            let (new, routes) = contents.withLock { contents in
                let known = Set(contents.view.problems)
                let routes = contents.view.take(event)
                if case .changes(_) = event { contents.changedAt = ProcessSetup.monotonicClock() }
                return (contents.view.problems.filter { !known.contains($0) }, routes)
            }
            nodes.take(event)
            want(routes)
            for problem in new { tell(problem) }
        }
    }

    /// Routes whose status must be written now.
    var outstanding: Set<ObjectID> { contents.withLock(\.view.statuses.outstanding) }

    func statusWrite(_ route: ObjectID) -> RouteStatusWrite? {
        contents.withLock { $0.view.statuses.write(for: route, now: Glibc.time(nil)) }
    }

    func set(_ server: AgentStatus.Server) {
        contents.withLock { $0.servers[server.name] = server }
        metrics.notListening.set(server.problem == nil ? 0 : 1, server.name)
    }

    var status: ControllerStatus {
        let now = ProcessSetup.monotonicClock()
        var status = ControllerStatus(
            identity: identity, version: ControllerProgram.version, source: .init(name: source.name))
        status.pid = pid
        status.leader = leader
        status.writeProblem = statuses.problem
        status.uptimeSeconds = (now - startedAt) / .seconds(1)
        nodes.fill(&status)
        status.source.watches = watches.map(AgentStatus.Watch.init)
        status.authority = (authority?.report).map(ControllerStatus.Authority.init)
        status.webhook = webhook?.keeper.report
        contents.withLock { contents in
            contents.view.fill(&status)
            status.source.changedSecondsAgo = contents.changedAt.map { (now - $0) / .seconds(1) }
            status.servers = contents.servers.values.sorted { $0.name < $1.name }
        }
        return status
    }

    private var watches: [WatchStatus] { source.status + (authority?.watches ?? []) }

    private var leader: ControllerStatus.Leader {
        let election = elector.status
        var leader = ControllerStatus.Leader()
        (leader.isLeading, leader.lease, leader.holder) = (election.isLeading, lease, election.holder)
        (leader.transitions, leader.problem) = (election.transitions, election.problem)
        return leader
    }

    /// What the leader does, until the task is cancelled; `tell` hears of each problem.
    func writeStatuses(_ tell: @escaping @Sendable (String) -> Void) async {
        await statuses.run(statusWrite, tell: tell)
    }
    func lead() {
        statuses.lead { outstanding }
        webhook?.keeper.lead()
    }

    /// Until the task is cancelled.
    func answerWhenAsked() async {
        async let answers: Void = desk.run()
        await analyst.run { self.contents.withLock(\.view) }
        await answers
    }

    /// The same of the webhook.
    func serveWebhook(_ log: Logger) async { await webhook?.run({ self.contents.withLock(\.view) }, log) }

    // MARK: Servers

    @Sendable func answerHealth(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        switch request.path {
        // An API server that is away is no reason to start anew: what is known stays known.
        case "/healthz", "/livez": reply(.text("ok\n"))
        case "/readyz":
            guard !isReady else { return reply(.text("ok\n")) }
            let waiting = source.status.filter { $0.state != .watching && $0.state != .off }.map(\.resource)
            reply(.text("the first lists are not complete: \(waiting.joined(separator: ", "))\n", status: 503))
        default: reply(.notFound)
        }
    }

    @Sendable func answerMetrics(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        guard request.path == "/metrics" else { return reply(.notFound) }
        desk.ask(reply) { self.metricsAnswer }
    }
    var metricsAnswer: HTTPResponse {
        metrics.note(contents.withLock(\.view))
        metrics.note(watches)
        metrics.note(elector.status)
        if let end = webhook?.keeper.certificateEnd { metrics.note(webhookCertificateEnd: end) }
        var status = ControllerStatus(identity: identity, version: "", source: .init(name: ""))
        nodes.fill(&status)
        metrics.note(status.nodes)
        let text = metrics.registry.render() + (authority?.metricsText ?? "")
        return HTTPResponse(contentType: MetricRegistry.contentType, body: Array(text.utf8))
    }

    @Sendable func answerAdmin(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        switch request.path {
        case AdminPath.status: desk.ask(reply) { jsonResponse(self.status) }
        case AdminPath.routes:
            let service = request.query["service"]
            desk.ask(reply) {
                jsonResponse(self.contents.withLock(\.view).routeList(self.nodes.standing, of: service))
            }
        case AdminPath.analysis: analyst.ask(request.query["namespace"], reply)
        case AdminPath.authority:
            guard let authority else {
                return reply(failureResponse("this controller is no certificate authority: --ca is off", status: 404))
            }
            authority.answer(request, reply)
        default: reply(failureResponse("there is no \(request.path) here", status: 404))
        }
    }
}
