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
    private let board: ControllerBoard

    init(_ configuration: ControllerConfiguration) throws(StartupError) {
        self.configuration = configuration
        log = LogSettings(configuration.logLevel, configuration.logFormat).logger()
        source = KubernetesSource(configuration: try Self.source(configuration))
        board = ControllerBoard(configuration, source: source, pid: getpid())
    }

    private static func source(
        _ configuration: ControllerConfiguration
    ) throws(StartupError) -> KubernetesSource.Configuration {
        do throws(AccessError) {
            let access =
                if let path = configuration.kubeconfig {
                    try ClusterAccess.kubeconfig(path: path)
                } else {
                    try ClusterAccess.inCluster(environment: ControllerProgram.environment)
                }
            var source = KubernetesSource.Configuration(access: access, role: .controller)
            source.serviceProxyName = configuration.serviceProxyName
            return source
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
        try await HTTPListener(.unix(admin), on: loop, responder: board.answerAdmin).startNow()
        log.info(
            "heddle-controller \(ControllerProgram.version) started as \(configuration.identity)",
            metadata: ["source": "\(source.name)"])
        await withDiscardingTaskGroup { group in
            group.addTask { await source.run() }
            group.addTask {
                await signals.run { signal in
                    guard signal != SIGHUP else { return log.notice("SIGHUP: restart to read the configuration again") }
                    log.info("stopping on signal \(signal); what runs goes on")
                    source.stop()
                }
            }
            await board.run { log.warning("\($0)") }
            admin.removeFile()
            // The thread of signals waits in a system call; it ends with the process, which must not wait for it.
            _exit(0)
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

    private func listen(
        _ name: String, _ address: SocketAddress, _ option: String, _ responder: @escaping HTTPResponder
    ) {
        let place = ListenAddress.tcp(host: address.address.description, port: address.port)
        HTTPListener(
            place, on: loop,
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
