/// The control actor: feeds `NodeController` with what sources and watchers tell, and does what it decides. It runs on
/// its own thread, which may block in netlink and bpf calls; everything it knows belongs to that thread.
///
/// Work begins once the queue is empty: so a burst of events costs one compilation and one write.
import AdminAPI
import AdminServer
import Addressing
import Cluster
import Compile
import DataplaneIR
import HandOver
import Logging
import Posix
import NodeControl
import Reconcile

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
        /// Told after each write what the pods of the mesh on this node are.
        var mesh: @Sendable (_ program: MeshProgram, _ podsHere: [String: [IPAddress]]) -> Void = { _, _ in }
        /// What keeps pods of the mesh from being steered.
        var meshProblems: @Sendable () -> [IPAddress: String] = { [:] }
        /// Why applications do not see who is at a tunnel's other end, and STRICT pods may refuse the proxy.
        var ownSocketProblems: @Sendable () -> [String] = { [] }
    }

    nonisolated let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    nonisolated let mailbox = Mailbox()

    let configuration: AgentConfiguration
    let environment: Environment
    let dataplane: OpenDataplane

    var controller: NodeController
    /// As they were told; which of them run the installed program is looked up again and again.
    var proxies: [ConnectedProxy] = []
    /// Both are looked for again as long as there are any.
    var hostWarnings: [String] = []
    var leftovers: [String] = []
    var audit: AuditSchedule
    var deadlines = Deadlines()
    var details = DetailsState()
    var serviceTotals = ServiceTotals()
    /// Why traffic is not counted although it should be.
    var trafficWarnings: [String] = []

    private var settleIsQueued = false
    private var timer: (at: Duration, number: UInt64, timer: ServerLoop.Timer)?
    /// Timers that were set, and those that went off: what an idle agent wakes up for.
    private var lastTimer: UInt64 = 0
    private(set) var ticks = 0

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
        // Milliseconds since 1970: no agent makes a thousand generations a second for long.
        controller = NodeController(
            environment.settings(configuration), generation: UInt64(max(0, Self.wallTime * 1000)),
            isFirstHere: dataplane.isFirstHere, now: environment.board.clock(), wallTime: Self.wallTime)
    }

    var foreignChanges: ForeignChanges? { dataplane.foreignChanges }
    var now: Duration { environment.board.clock() }
    var log: Logger { environment.log }
    var metrics: AgentMetrics { environment.metrics }

    /// Works until `.stop` arrives.
    func run() async {
        armTimer()
        await withDiscardingTaskGroup { group in
            for index in environment.sources.indices { group.addTask { await self.follow(index) } }
            await self.work()
            group.cancelAll()
        }
    }

    private func follow(_ index: Int) async {
        for await event in environment.sources[index].events { take(.source(index, event)) }
    }

    private func work() async {
        for await message in mailbox.messages {
            switch message {
            case .settle:
                settleIsQueued = false
                settle()
            case .tick(let number):
                ticks += 1
                // One that was cancelled too late: another has taken its place, and must not be set twice.
                guard timer?.number == number else { break }
                timer = nil
                passDeadlines()
            case .addresses(let addresses): take(.addresses(addresses))
            case .foreignChange(let name):
                audit.foreignChange(in: name, now: now)
                deadlines.audit = audit.next
                armTimer()
            case .request(let request): answer(request)
            case .name(let seen, let reply): reply(named(seen))
            case .traffic(let result): count(result)
            case .stop:
                controller.take(.stopping, now: now)
                for action in controller.next(now: now) { perform(action) }
                return
            }
        }
    }

    func take(_ event: NodeEvent) {
        controller.take(event, now: now)
        settleSoon()
    }

    /// The L7 proxies that are connected now. Whoever tells waits until it is taken: proxies decide how often.
    func connected(_ proxies: [ConnectedProxy]) {
        self.proxies = proxies
        settleSoon()
    }

    /// Does what the controller wants done now.
    func settle() {
        decide()
        armTimer()
        publish()
    }

    private func decide() {
        if !proxies.isEmpty || !controller.proxy.proxies.isEmpty {
            controller.take(.proxies(proxies, outdated: outdatedProxies), now: now)
        }
        while true {
            let actions = controller.next(now: now)
            guard !actions.isEmpty else { break }
            for action in actions { perform(action) }
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
        var audit: Duration?
        /// The next piece of what is doubted.
        var comparison: Duration?
    }

    private var nextDeadline: Duration? {
        [controller.deadline, deadlines.audit, deadlines.comparison].compactMap { $0 }.min()
    }

    func armTimer() {
        guard timer?.at != nextDeadline else { return }
        timer?.timer.cancel()
        timer = nil
        guard let at = nextDeadline else { return }
        let mailbox = mailbox
        lastTimer += 1
        let number = lastTimer
        timer = (at, number, environment.timers.schedule(after: max(.zero, at - now)) { mailbox.send(.tick(number)) })
    }

    private func passDeadlines() {
        let now = now
        // Changes first: comparing may take some milliseconds.
        decide()
        if let at = deadlines.audit, at <= now {
            deadlines.audit = nil
            runAudit()
        }
        if let at = deadlines.comparison, at <= now { continueComparison() }
        // What they found has been put into the queue. A tick that came early is no harm.
        armTimer()
        publish()
    }
}
