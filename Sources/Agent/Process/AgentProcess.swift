/// A running agent: puts the parts together, starts them, and stops them on a signal.
import AdminAPI
import AdminServer
import Addressing
import CLinux
import DataplaneIR
import Glibc
import LinuxDataplane
import Logging
import Netlink
import Netns
import Reconcile

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
        settings = LogSettings(configuration)
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
        let socket = configuration.apiSocket
        // Before anything touches the kernel: two agents would undo each other's work.
        guard !ProcessSetup.isAnswering(socket: socket) else {
            throw StartupError("another agent answers on \(socket); stop it or pass another --api-socket")
        }
        let source = try SourceFactory.open(configuration)
        let health = HealthEndpoint(board: board, metrics: metrics)
        startServers(health)
        let checks = HealthCheckServers(
            on: loop, servesAllAddresses: configuration.nodePortAddresses == .all, reports: reports,
            record: source.record,
            isHealthy: { health.health.isHealthy })
        let configuration = configuration
        let snapshots = try makeSnapshots(source)
        let (proxies, sendProxies) = AsyncStream<[HandOverServer.Proxy]>.makeStream()
        let handOver = HandOverServer(on: loop) { sendProxies.yield($0) }
        let child = ProxyChild(ProxyChild.command(configuration), timers: loop, log: log)
        let link = ProxyLink(
            publish: { handOver.publish($0) }, ask: { handOver.ask($0, $1) },
            update: { if configuration.proxy == .spawn { child.update(isWanted: $0, isServed: $1) } })
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
                proxy: configuration.proxy == .off ? nil : link))
        let dataplane = board.now.status.dataplane
        log.info(
            "heddle-agent \(AgentProgram.version) started on node \(configuration.nodeName)",
            metadata: [
                "dataplane": "\(dataplane.name)", "why": "\(dataplane.configured)", "source": "\(source.name)",
            ])
        let isEBPF = await agent.translatesByConnect
        let flows = try FlowWatch(timers: loop) { () throws(DataplaneError) in
            try DataplaneFactory.openTracers(configuration, isEBPF: isEBPF)
        }
        try await openAdminSocket(agent.mailbox, flows)
        if configuration.hasServiceMetrics { countTraffic(flows, agent.mailbox) }
        if configuration.proxy != .off { try await openProxySocket(handOver) }
        try await work(agent, source, signals, snapshots, proxies, flows)
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
            (kind: ServerKind, address: SocketAddress, option: OptionName, responder: @escaping HTTPResponder) in
            reports.listener(
                kind, kind.rawValue, .tcp(host: address.address.description, port: address.port),
                remedy: "pass another \(option.flag)", on: loop, responder: responder
            ).start()
        }
        listen(
            .metrics, configuration.metricsAddress, .metricsAddress,
            MetricsEndpoint(metrics: metrics, board: board, health: health).respond)
        if let address = configuration.probeAddress { listen(.probes, address, .probeAddress, health.respond) }
        // Last, so that whoever sees the node healthy finds the rest too.
        listen(.health, configuration.healthzAddress, .healthzAddress, health.respond)
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

    private func openAdminSocket(_ mailbox: Mailbox, _ flows: FlowWatch) async throws {
        let path = configuration.apiSocket
        let directory = path.split(separator: "/").dropLast().map { "/" + $0 }.joined()
        try ProcessSetup.makeDirectory(
            directory.isEmpty ? "/" : directory, mode: 0o755, purpose: "directory of the admin socket",
            option: .apiSocket)
        let admin = AdminEndpoint(mailbox: mailbox, board: board, timers: loop, flows: flows)
        // The socket must never be open to others, not even for the moment until a chmod.
        let mask = umask(0o177)
        defer { umask(mask) }
        do {
            try await HTTPListener(.unix(path: path), on: loop, responder: admin.respond).startNow()
        } catch {
            throw StartupError("cannot open the admin socket \(path): \(error); pass another --api-socket")
        }
    }

    private func openProxySocket(_ server: HandOverServer) async throws {
        let path = configuration.proxySocket
        let mask = umask(0o177)
        defer { umask(mask) }
        do {
            try await server.start(path: path)
        } catch {
            throw StartupError("cannot open the socket for the L7 proxy \(path): \(error); pass another --proxy-socket")
        }
    }

    private func work(
        _ agent: NodeAgent, _ source: AgentSource, _ signals: SignalWatcher, _ snapshots: Snapshots?,
        _ proxies: AsyncStream<[HandOverServer.Proxy]>, _ flows: FlowWatch
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
            group.addTask { for await list in proxies { agent.mailbox.send(.proxies(list)) } }
            group.addTask { await signals.run { continuation.yield($0) } }
            group.addTask { [log] in
                await addresses.run(log: log) { agent.mailbox.send(.addresses($0)) }
            }
            if let changes = await agent.foreignChanges {
                group.addTask { await foreign.run(changes) { agent.mailbox.send(.foreignChange(dataplane: $0)) } }
            }
            group.addTask {
                for await signal in stream {
                    if signal == SIGHUP { reload() } else { stop(agent, signal) }
                }
            }
            if let snapshots { group.addTask { await snapshots.run() } }
            group.addTask { await flows.run() }
            if let canary { group.addTask { await canary.run() } }
            await agent.run()
            await snapshots?.flush()
            if let cgroup { CanaryProbe.removeChild(of: cgroup) }
            // The watchers' threads wait in system calls; they end with the process, which must not wait for them.
            unlink(configuration.apiSocket)
            _exit(0)
        }
    }

    private func stop(_ agent: NodeAgent, _ signal: Int32) {
        log.info("stopping on signal \(signal); what is in the kernel stays in force")
        agent.mailbox.send(.stop)
        let path = configuration.apiSocket
        _ = loop.schedule(after: Self.longestStop) {
            unlink(path)
            _exit(0)
        }
    }

    /// SIGHUP. The log follows at once; what shapes the kernel state needs a restart, which interrupts nothing.
    private func reload() {
        do throws(ConfigurationError) {
            let new = Self.possible(try reread())
            settings.change(new)
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
