/// A running controller: puts the parts together, starts them, and ends them on a signal. It is never in the way of
/// traffic: without it everything that runs goes on.
import Addressing
import AdminAPI
import AdminServer
import Daemon
import Glibc
import KubernetesClient
import Logging
import Posix
import Telemetry

struct ControllerProcess {
    private let configuration: ControllerConfiguration
    private let log: Logger
    private let loop = ServerLoop()
    private let source: KubernetesSource
    private let writer: ObjectWriter
    private let elector: LeaderElector
    private let authority: ControllerAuthority?
    private let board: ControllerBoard

    init(_ configuration: ControllerConfiguration) throws(StartupError) {
        self.configuration = configuration
        log = LogSettings(configuration.logLevel, configuration.logFormat).logger()
        let access = try Self.access(configuration)
        var followed = KubernetesSource.Configuration(access: access, role: .controller)
        followed.serviceProxyName = configuration.serviceProxyName
        followed.agents = .init(namespace: configuration.leaseNamespace, selector: configuration.agentSelector)
        source = KubernetesSource(configuration: followed)
        writer = ObjectWriter(access: access, program: "heddle-controller")
        elector = LeaderElector(
            writer, lease: .lease(namespace: configuration.leaseNamespace, name: configuration.leaseName),
            // Another one for each process: the next one of the same pod does not know what this one began.
            identity: "\(configuration.identity)_\(UInt64.random(in: .min ... .max))")
        authority = Self.authority(configuration, access, writer, elector, log)
        board = ControllerBoard(
            configuration, source: source, writer: writer, elector: elector, authority: authority, pid: getpid())
    }

    private static func authority(
        _ configuration: ControllerConfiguration, _ access: ClusterAccess, _ writer: ObjectWriter,
        _ elector: LeaderElector, _ log: Logger
    ) -> ControllerAuthority? {
        guard configuration.authority == .on else { return nil }
        let keeper = AuthorityKeeper(
            writer, elector.leadership, namespace: configuration.leaseNamespace,
            // Without the part that tells its processes apart.
            leader: { elector.status.holder.split(separator: "_").first.map(String.init) ?? "" })
        return ControllerAuthority(configuration, access, keeper, log)
    }

    private static func access(_ configuration: ControllerConfiguration) throws(StartupError) -> ClusterAccess {
        do throws(AccessError) {
            guard let path = configuration.kubeconfig else {
                return try ClusterAccess.inCluster(environment: ControllerProgram.environment)
            }
            return try ClusterAccess.kubeconfig(path: path)
        } catch {
            throw StartupError(error.description)
        }
    }

    /// Ends the process when a signal asks for it.
    func run() async throws {
        let signals = try SignalWatcher()
        let admin = try bindAdminSocket()
        listen("metrics", configuration.metricsAddress, "--metrics-address", board.answerMetrics)
        listen("health", configuration.healthzAddress, "--healthz-address", board.answerHealth)
        if let authority {
            listen(
                "certificates", configuration.authorityAddress, "--ca-address", authority.responder,
                on: authority.loop, limits: ControllerAuthority.limits, tls: authority.certificate)
        }
        if let webhook = board.webhook {
            listen(
                "webhook", configuration.webhookAddress, "--webhook-address", webhook.desk.answer, on: webhook.loop,
                limits: AdmissionDesk.limits, tls: webhook.keeper.certificate)
        }
        try await HTTPListener(.unix(admin), on: loop, responder: board.answerAdmin).startNow()
        log.info(
            "heddle-controller \(ControllerProgram.version) started as \(configuration.identity)",
            metadata: ["source": "\(source.name)"])
        await withDiscardingTaskGroup { group in
            group.addTask { await source.run() }
            group.addTask { await lead() }
            group.addTask { await board.nodes.run { log.notice("\($0)") } }
            group.addTask { await board.answerWhenAsked() }
            if let authority { group.addTask { await authority.run() } }
            group.addTask { await board.serveWebhook(log) }
            group.addTask { await board.writeStatuses { log.warning("\($0)") } }
            group.addTask {
                await signals.run { signal in
                    guard signal != SIGHUP else { return log.notice("SIGHUP: restart to read the configuration again") }
                    log.info("stopping on signal \(signal); what runs goes on")
                    elector.stop()
                }
            }
            await board.run(want: board.statuses.want) { log.warning("\($0)") }
            admin.removeFile()
            // The thread of signals waits in a system call; it ends with the process, which must not wait for it.
            _exit(0)
        }
    }

    /// Until the elector was stopped and has handed the Lease back; then everything ends.
    private func lead() async {
        await withDiscardingTaskGroup { group in
            group.addTask {
                await elector.run()
                source.stop()
            }
            for await change in elector.changes {
                switch change {
                case .leading(let term):
                    log.info("leading", metadata: ["term": "\(term)"])
                    board.lead()
                    authority?.lead()
                case .lost(let reason):
                    board.statuses.stopLeading()
                    log.notice("not leading any more: \(reason)")
                }
            }
        }
    }

    private func bindAdminSocket() throws(StartupError) -> BoundUnixSocket {
        let path = configuration.apiSocket
        try ProcessSetup.makeDirectory(
            ProcessSetup.parent(of: path), mode: 0o755, purpose: "directory of the admin socket",
            option: "--api-socket")
        do throws(PosixError) {
            return try UnixSocket.bind(path, mode: 0o600)
        } catch {
            throw StartupError(
                error.code == EADDRINUSE
                    ? "another controller answers on \(path); stop it or pass another --api-socket"
                    : "\(error); pass another --api-socket")
        }
    }

    /// `other`: the loop, if not that of the small servers.
    private func listen(
        _ name: String, _ address: SocketAddress, _ option: String, _ responder: @escaping HTTPResponder,
        on other: ServerLoop? = nil, limits: ConnectionLimits = ConnectionLimits(), tls: ServedCertificate? = nil
    ) {
        let place = ListenAddress.tcp(host: address.address.description, port: address.port)
        HTTPListener(
            place, on: other ?? loop, limits: limits, tls: tls,
            report: { [board, log] failure in
                let problem = failure.map { "\($0.reason); free the address or pass another \(option)" }
                board.set(AgentStatus.Server(name: name, address: place.description, problem: problem))
                if let problem {
                    log.warning("\(name): cannot listen on \(place): \(problem)")
                } else {
                    log.info("\(name): listening on \(place)")
                }
            }, shed: { [board] in board.metrics.shed.add(1, name, $0.rawValue) }, responder: responder
        ).start()
    }
}
