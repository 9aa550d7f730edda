/// A running agent: puts the parts together, starts them, and stops them on a signal.
import Addressing
import AdminAPI
import AdminServer
import CLinux
import Daemon
import DataplaneIR
import Glibc
import HandOver
import HandOverLink
import LinuxDataplane
import Logging
import Netlink
import Netns
import NodeControl
import Posix

struct AgentProcess {
    /// A write that takes longer than this is left to the kernel when the agent must stop: it is atomic.
    private static let longestStop = Duration.seconds(4)

    let configuration: AgentConfiguration
    let reread: @Sendable () throws(ConfigurationError) -> AgentConfiguration
    private let settings: LogSettings
    private let log: Logger
    private let loop = ServerLoop()
    private let metrics = AgentMetrics()
    private let board: StatusBoard

    init(
        _ configuration: AgentConfiguration,
        reread: @escaping @Sendable () throws(ConfigurationError) -> AgentConfiguration
    ) {
        self.configuration = Self.possible(configuration)
        self.reread = reread
        settings = LogSettings(configuration.logLevel, configuration.logFormat)
        log = settings.logger()
        var status = AgentStatus(
            node: configuration.nodeName, version: AgentProgram.version,
            dataplane: .init(
                name: configuration.dataplane == .auto ? "" : configuration.dataplane.rawValue,
                configured: configuration.dataplane.rawValue))
        status.pid = getpid()
        board = StatusBoard(status: status, clock: ProcessSetup.monotonicClock)
    }

    /// Ends the process when a signal asks for it. The kernel keeps what was written.
    func run() async throws {
        let signals = try SignalWatcher()
        let adminSocket = try bindAdminSocket()
        let source = try SourceFactory.open(configuration)
        let health = HealthEndpoint(board: board, metrics: metrics)
        startServers(health)
        let checks = HealthCheckServers(
            on: loop, servesAllAddresses: configuration.nodePortAddresses == .all, reports: reports,
            record: source.record,
            isHealthy: { health.health.isHealthy })
        let configuration = configuration
        let snapshots = try makeSnapshots(source)
        let (proxies, sendProxies) = AsyncStream<[ConnectedProxy]>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let desk = try CertificateSources.open(configuration).map { CertificateDesk($0, log: log) }
        let mesh = configuration.nodeSettings.mesh.map { _ in MeshKeeper(log: log) }
        let own = mesh.map { _ in OwnSocketKeeper(configuration, log: log) }
        let handOver = HandOverServer(on: loop, certify: desk?.certify) {
            sendProxies.yield($0)
            own?.update(proxies: $0)
        }
        let proxyUser = try ProxyChild.user(configuration.proxyUser)
        let child = ProxyChild(configuration, user: proxyUser, timers: loop, log: log)
        let link = ProxyLink(
            publish: {
                desk?.publish($0)
                handOver.publish($0)
            }, ask: { handOver.ask($0, $1) },
            update: { if configuration.proxy == .spawn { child.update(isWanted: $0, $1) } },
            isCurrent: { child.isCurrent($0) }, drain: { handOver.drain($0) })
        let agent = try await NodeAgent.make(
            configuration, thread: try KernelThread(name: "heddle-kernel"),
            environment: .init(
                sources: [source],
                openDataplane: { try DataplaneFactory.open(configuration) },
                hostWarnings: { HostSettings.apply(configuration) },
                leftovers: HostSettings.kubeProxyLeftovers, snapshot: snapshots?.access ?? SnapshotAccess(),
                timers: loop, board: board, metrics: metrics, log: log,
                interfaceTowards: { try? RouteQuery.interface(to: $0) },
                healthChecks: { checks.update($0, node: $1) },
                ownPrograms: configuration.hasCanary ? Canary.programs : [],
                serviceMetrics: configuration.hasServiceMetrics ? ServiceMetrics(metrics.registry) : nil,
                proxy: configuration.proxy == .off ? nil : link,
                mesh: {
                    mesh?.apply($0, present: $1)
                    own?.update(pods: $0.pods)
                }, meshProblems: { mesh?.problems ?? [:] }, ownSocketProblems: { own?.problems ?? [] }))
        let dataplane = board.now.status.dataplane
        log.info(
            "heddle-agent \(AgentProgram.version) started on node \(configuration.nodeName)",
            metadata: [
                "dataplane": "\(dataplane.name)", "why": "\(dataplane.configured)", "source": "\(source.name)",
            ])
        let isEBPF = await agent.translatesByConnect
        if let mesh {
            try mesh.start(configuration, isEBPF: isEBPF)
            if isEBPF { try own?.start { handOver.publish(ownSockets: $0) } }
        } else {
            MeshKeeper.removeLeftovers(configuration, log: log)
        }
        let flows = try FlowWatch(timers: loop) { () throws(DataplaneError) in
            try DataplaneFactory.openTracers(configuration, isEBPF: isEBPF)
        }
        let admin = AdminEndpoint(mailbox: agent.mailbox, board: board, timers: loop, flows: flows)
        try await HTTPListener(.unix(adminSocket), on: loop, responder: admin.respond).startNow()
        if configuration.hasServiceMetrics { countTraffic(flows, agent.mailbox) }
        if configuration.proxy != .off { try await openProxySocket(handOver, mesh, for: proxyUser) }
        try await work(agent, source, signals, snapshots, proxies, flows, adminSocket) {
            await desk?.run { handOver.publish(roots: $0) }
        }
    }

    /// A directory on this node needs no second copy; an API server may be away at the next start.
    private func makeSnapshots(_ source: AgentSource) throws -> Snapshots? {
        guard case .kubernetes = configuration.source else { return nil }
        return try Snapshots(configuration, source: source.name, log: log)
    }

    private var reports: ServerReports { ServerReports(board: board, metrics: metrics, log: log) }

    /// These answer before the dataplane is open, which may take a while.
    private func startServers(_ health: HealthEndpoint) {
        let listen = {
            (kind: ServerKind, address: SocketAddress, option: String, responder: @escaping HTTPResponder) in
            reports.listener(
                kind, kind.rawValue, .tcp(host: address.address.description, port: address.port),
                remedy: "pass another \(option)", on: loop, responder: responder
            ).start()
        }
        listen(
            .metrics, configuration.metricsAddress, "--metrics-address",
            MetricsEndpoint(metrics: metrics, board: board, health: health).respond)
        if let address = configuration.probeAddress { listen(.probes, address, "--probe-address", health.respond) }
        // Last, so that whoever sees the node healthy finds the rest too.
        listen(.health, configuration.healthzAddress, "--healthz-address", health.respond)
    }

    private static func possible(_ asked: AgentConfiguration) -> AgentConfiguration {
        var configuration = asked
        if asked.proxy == .spawn, !ProxyChild.isInstalled { configuration.proxy = .off }
        return configuration
    }

    private func countTraffic(_ flows: FlowWatch, _ mailbox: Mailbox) {
        _ = loop.schedule(after: .seconds(5)) {
            flows.send(
                .traffic { result in
                    mailbox.send(.traffic(result))
                    countTraffic(flows, mailbox)
                })
        }
    }

    /// Before anything touches the kernel, and with it the proof that no other agent runs.
    private func bindAdminSocket() throws(StartupError) -> BoundUnixSocket {
        let path = configuration.apiSocket
        try ProcessSetup.makeDirectory(
            ProcessSetup.parent(of: path), mode: 0o755, purpose: "directory of the admin socket", option: "--api-socket"
        )
        // Made for its lock; where it cannot be, the admin socket's is enough.
        _ = HostSettings.obstacle(toState: configuration.stateDirectory)
        try AgentLocks.take(stateDirectory: configuration.stateDirectory, adminSocket: path)
        do throws(PosixError) {
            return try UnixSocket.bind(path, mode: 0o600)
        } catch {
            throw StartupError(
                error.code == EADDRINUSE
                    ? "another agent answers on \(path); stop it or pass another --api-socket"
                    : "\(error); pass another --api-socket")
        }
    }

    /// For root and the proxy's user: its group may connect, and the server looks who did.
    private func openProxySocket(
        _ server: HandOverServer, _ mesh: MeshKeeper?, for user: ProcessUser
    ) async throws {
        let users: Set = [geteuid(), user.user]
        do {
            try ProcessSetup.makeDirectory(
                ProcessSetup.parent(of: configuration.proxySocket), mode: 0o755,
                purpose: "directory of the L7 proxy's socket",
                option: "--proxy-socket")
            func bind(_ path: String, _ kind: UnixSocket.Kind) throws(PosixError) -> BoundUnixSocket {
                let socket = try UnixSocket.bind(path, kind, mode: 0o600)
                do throws(PosixError) { try socket.admit(group: user.group) } catch {
                    log.warning("\(error): the L7 proxy cannot connect unless it runs as root")
                }
                return socket
            }
            try await server.start(on: bind(configuration.proxySocket, .stream), admitting: users)
            let pods = PodSockets.path(beside: configuration.proxySocket)
            try mesh?.sockets.start(on: bind(pods, .packets), admitting: users)
            guard configuration.proxy == .spawn, !mayPass(user, to: configuration.proxySocket) else { return }
            // By way of its descriptor, however long its path is. The directory gives the socket its group: to follow a
            // name in it, which is another user's, is not for root.
            let directory = try ProxyChild.directory(configuration, user)
            let path = "/proc/self/fd/\(directory)/\(ProxyChild.socketName)"
            try await server.start(on: UnixSocket.bind(path, mode: 0o660), admitting: users)
            let inner = PodSockets.path(beside: path)
            try mesh?.sockets.start(on: UnixSocket.bind(inner, .packets, mode: 0o660), admitting: users)
        } catch {
            throw StartupError("cannot open the socket for the L7 proxy: \(error); pass another --proxy-socket")
        }
    }

    private func work(
        _ agent: NodeAgent, _ source: AgentSource, _ signals: SignalWatcher, _ snapshots: Snapshots?,
        _ proxies: AsyncStream<[ConnectedProxy]>, _ flows: FlowWatch, _ adminSocket: BoundUnixSocket,
        certify: @escaping @Sendable () async -> Void
    ) async throws {
        let addresses = try AddressWatcher()
        let foreign = try ForeignChangeWatcher()
        let isEBPF = await agent.translatesByConnect
        let cgroup = DataplaneFactory.canaryCgroup(configuration, isEBPF: isEBPF)
        let canary =
            configuration.hasCanary
            ? try CanaryWatch(cgroup: cgroup, isEBPF: isEBPF, board: board, metrics: metrics, log: log) : nil
        let (stream, continuation) = AsyncStream<Int32>.makeStream()
        await withDiscardingTaskGroup { group in
            group.addTask { await source.run() }
            group.addTask { for await list in proxies { await agent.connected(list) } }
            group.addTask { await signals.run { continuation.yield($0) } }
            group.addTask { [log] in
                await addresses.run(log: log) { agent.mailbox.send(.addresses($0)) }
            }
            if let changes = await agent.foreignChanges {
                group.addTask { await foreign.run(changes) { agent.mailbox.send(.foreignChange(dataplane: $0)) } }
            }
            group.addTask {
                for await signal in stream {
                    if signal == SIGHUP { reload() } else { stop(agent, signal, adminSocket) }
                }
            }
            if let snapshots { group.addTask { await snapshots.run() } }
            group.addTask { await flows.run() }
            group.addTask { await certify() }
            if let canary { group.addTask { await canary.run() } }
            await agent.run()
            await snapshots?.flush()
            if let cgroup { CanaryProbe.removeChild(of: cgroup) }
            // The watchers' threads wait in system calls; they end with the process, which must not wait for them.
            adminSocket.removeFile()
            _exit(0)
        }
    }

    private func stop(_ agent: NodeAgent, _ signal: Int32, _ adminSocket: BoundUnixSocket) {
        log.info("stopping on signal \(signal); what is in the kernel stays in force")
        agent.mailbox.send(.stop)
        _ = loop.schedule(after: Self.longestStop) {
            adminSocket.removeFile()
            _exit(0)
        }
    }

    /// SIGHUP. The log follows at once; what shapes the kernel state needs a restart, which interrupts nothing.
    private func reload() {
        do throws(ConfigurationError) {
            let new = Self.possible(try reread())
            settings.change(new.logLevel, new.logFormat)
            var rest = new
            (rest.logLevel, rest.logFormat) = (configuration.logLevel, configuration.logFormat)
            log.notice(
                rest == configuration
                    ? "configuration read again"
                    : "configuration read again: only log-level and log-format follow at once, restart for the rest")
        } catch {
            log.error("the new configuration is refused, the old one stays in force: \(error)")
        }
    }
}
