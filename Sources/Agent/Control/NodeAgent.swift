/// The control actor: takes in what sources and watchers tell, keeps the desired state, and writes it to the kernel. It
/// runs on its own thread, which may block in netlink and bpf calls; everything it knows belongs to that thread.
///
/// Events only mark what is out of date; `settle`, which runs once the queue is empty, does the work. So a burst of
/// events costs one compilation and one write.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import Compile
import DataplaneIR
import Logging
import Netns
import Reconcile
import RouteIR

actor NodeAgent {
    /// Everything from outside, so that tests can replace it.
    struct Environment: Sendable {
        var sources: [AgentSource]
        var openDataplane: @Sendable () throws -> OpenDataplane
        /// Sentences about what the host lacks and could not be given.
        var hostWarnings: @Sendable () -> [String] = { [] }
        /// Sentences about what another service proxy left in the kernel.
        var leftovers: @Sendable () -> [String] = { [] }
        var snapshot = SnapshotAccess()
        var timers: ServerLoop
        var board: StatusBoard
        var metrics: AgentMetrics
        var log: Logger
        /// Where packets from an address come in; nil: there is no way back to it.
        var interfaceTowards: @Sendable (IPAddress) -> String? = { _ in nil }
        /// Told after each write which health-check servers must run.
        var healthChecks: @Sendable ([ObjectName: HealthCheck], NodeProgram) -> Void = { _, _ in }
        var auditPeriod = Duration.seconds(3)
        /// Whoever observes asks again within this time.
        var observerPatience = FlowWatch.patience
        /// In the kernel whatever the cluster's services are.
        var ownPrograms: [ServiceProgram] = []
        /// nil: not asked for.
        var serviceMetrics: ServiceMetrics?
        /// nil: no L7 proxy.
        var proxy: ProxyLink?
    }

    nonisolated let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    nonisolated let mailbox = Mailbox()

    let configuration: AgentConfiguration
    let environment: Environment
    let dataplane: OpenDataplane

    var state = ClusterState()
    var dirty = Dirty()
    var compiler: Compiler
    var routes: RouteCompiler
    var proxy: ProxyControl
    var proxyWasNeeded = false
    var pods = PodFollowing()
    /// Proxies that were asked to end and have not yet.
    var toldToLeave: Set<UInt32> = []
    var reconciler: Reconciler
    var nodeInputs = NodeInputs()
    var node: NodeProgram
    var nodeWarnings: [String] = []
    /// Both are looked for again as long as there are any.
    var hostWarnings: [String] = []
    var leftovers: [String] = []
    var hasAddresses = false
    var nodeWasSeen = false
    var serviceAddresses = ServiceAddressIndex()
    var policyGaps = LocalPolicyGaps()
    var completeSources: Set<Int> = []
    var isComplete = false
    var changeLog = ChangeLog()
    var removedBackends = RemovedBackends()
    var audit: AuditSchedule
    var deadlines = Deadlines()
    var details = DetailsState()
    var snapshot = SnapshotState()
    var flowNames = FlowNames()
    var serviceTotals = ServiceTotals()
    /// Why traffic is not counted although it should be.
    var trafficWarnings: [String] = []
    /// What the source has told before its first lists were complete; a snapshot must not undo it.
    var toldIDs: Set<ObjectID> = []

    private var settleIsQueued = false
    private var timer: (at: Duration, timer: ServerLoop.Timer)?

    /// Opens the dataplane on the agent's thread.
    static func make(
        _ configuration: AgentConfiguration, thread: KernelThread, environment: Environment
    ) async throws -> NodeAgent {
        let agent = try NodeAgent(configuration, thread: thread, environment: environment)
        await agent.prepareStatus()
        return agent
    }

    /// eBPF: what a connection meets depends on the cgroup of the process that makes it.
    var translatesByConnect: Bool { dataplane.writer.name == "ebpf" }

    private init(_ configuration: AgentConfiguration, thread: KernelThread, environment: Environment) throws {
        self.configuration = configuration
        self.thread = thread
        self.environment = environment
        dataplane = try environment.openDataplane()
        audit = AuditSchedule(parts: dataplane.parts, period: environment.auditPeriod)
        var compilerOptions = CompilerOptions(proxyName: configuration.serviceProxyName)
        compilerOptions.servesExternalIPs = configuration.servesExternalIPs
        compilerOptions.failsOpen = configuration.l7Failure == .open
        let facts = NodeFacts(name: configuration.nodeName)
        compiler = Compiler(node: facts, options: compilerOptions)
        routes = RouteCompiler(node: facts, options: compilerOptions)
        // Milliseconds since 1970: no agent makes a thousand generations a second for long.
        proxy = ProxyControl(nodeName: configuration.nodeName, generation: UInt64(max(0, Self.wallTime * 1000)))
        var options = Reconciler.Options()
        options.minSyncPeriod = configuration.minSyncPeriod
        options.ownPrograms = environment.ownPrograms
        reconciler = Reconciler(options: options)
        node = NodeProgram(nodeName: configuration.nodeName)
    }

    var foreignChanges: ForeignChanges? { dataplane.foreignChanges }
    var now: Duration { environment.board.clock() }
    var log: Logger { environment.log }
    var metrics: AgentMetrics { environment.metrics }

    /// Works until `.stop` arrives.
    func run() async {
        if environment.snapshot.load != nil { deadlines.snapshot = now + environment.snapshot.patience }
        armTimer()
        await withDiscardingTaskGroup { group in
            for index in environment.sources.indices { group.addTask { await self.follow(index) } }
            await self.work()
            group.cancelAll()
        }
    }

    private func follow(_ index: Int) async {
        for await event in environment.sources[index].events { take(event, from: index) }
    }

    private func work() async {
        for await message in mailbox.messages {
            switch message {
            case .settle:
                settleIsQueued = false
                settle()
            case .tick:
                timer = nil
                passDeadlines()
            case .addresses(let addresses):
                nodeInputs.addresses = addresses
                hasAddresses = true
                environment.board.update { board in
                    board.hasNodeAddress = addresses.contains { $0.address.isOfOneMachine }
                }
                serviceAddresses.reset(local: nodeInputs.interfaceAddresses, programs: compiler.programs)
                settleSoon()
            case .foreignChange(let name):
                audit.foreignChange(in: name, now: now)
                deadlines.audit = audit.next
                armTimer()
            case .proxies(let proxies): take(proxies)
            case .request(let request): answer(request)
            case .traffic(let result): count(result)
            case .stop:
                saveSnapshot()
                return
            }
        }
    }

    /// After whatever else is already in the queue.
    func settleSoon() {
        guard !settleIsQueued else { return }
        settleIsQueued = true
        mailbox.send(.settle)
    }

    // MARK: Deadlines

    struct Deadlines {
        var reconcile: Duration?
        var garbage: Duration?
        var audit: Duration?
        /// The next piece of what is doubted.
        var comparison: Duration?
        var snapshot: Duration?
        var proxy: Duration?
        var pods: Duration?

        var next: Duration? {
            [reconcile, garbage, audit, comparison, snapshot, proxy, pods].compactMap { $0 }.min()
        }
    }

    func armTimer() {
        guard timer?.at != deadlines.next else { return }
        timer?.timer.cancel()
        timer = nil
        guard let at = deadlines.next else { return }
        let mailbox = mailbox
        timer = (at, environment.timers.schedule(after: max(.zero, at - now)) { mailbox.send(.tick) })
    }

    private func passDeadlines() {
        let now = now
        // Changes first: comparing may take some milliseconds.
        if settleIsQueued { settle() }
        if let at = deadlines.garbage, at <= now {
            deadlines.garbage = nil
            collectGarbage()
        }
        if let at = deadlines.audit, at <= now {
            deadlines.audit = nil
            runAudit()
        }
        if let at = deadlines.comparison, at <= now { continueComparison() }
        if let at = deadlines.snapshot, at <= now {
            deadlines.snapshot = nil
            passSnapshotDeadline()
        }
        if let at = deadlines.pods, at <= now { followPods() }
        // Also arms the timer again; a tick that came early is no harm.
        settle()
    }
}
