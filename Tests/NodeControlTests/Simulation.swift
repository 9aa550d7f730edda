/// A whole agent in a made-up world, by seed: the controller decides, everything around it misbehaves. Sources stall
/// and list anew, writes fail as a whole or in the middle, proxies start late, answer late, refuse and die, others
/// change the kernel, the agent and the node restart. Time is a number. After every step the promises are checked.
import Addressing
import Cluster
import Compile
import DataplaneIR
import HandOver
import NodeControl
import Reconcile
import RouteIR
import TestSupport

/// A promise that was broken, and when.
struct BrokenPromise: Error, CustomStringConvertible {
    let description: String
}

struct Simulation {
    var random: SeededGenerator
    var now = Duration.seconds(1000)
    var controller: NodeController
    var world: World
    var kernel = SimulatedKernel()
    var proxies = SimulatedProxies()
    var agenda = Agenda()
    var promises = Promises()
    /// Faults happen; off once everything is to come to rest.
    var isStormy = true
    var savedSnapshot: [ClusterObject]?
    var agentStartedAt = Duration.zero
    var plans = 0

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        var options = RandomCluster.Options()
        options.routed = true
        options.services = 5
        world = World(options)
        controller = Self.controller(now, generation: 1, isFirstHere: true)
        startAgent(sourceIsAway: false)
    }

    private static var settings: NodeSettings {
        var settings = NodeSettings(nodeName: RandomCluster.nodeName)
        settings.snapshots = .init()
        settings.podSources = [0]
        settings.proxy = .external
        return settings
    }
    private static func controller(_ now: Duration, generation: UInt64, isFirstHere: Bool) -> NodeController {
        NodeController(
            settings, generation: generation, isFirstHere: isFirstHere, now: now, wallTime: now.seconds)
    }

    /// Runs `steps` events of the storm, then until nothing moves; throws at the first broken promise.
    mutating func run(steps: Int) throws(BrokenPromise) {
        for _ in 0..<steps {
            if agenda.count < 8 { stir() }
            try step()
            if random.oneIn(20) { try lull() }
        }
        isStormy = false
        world.isAway = false
        setRoom(.max)
        if !world.isListed { listAnew() }
        agenda.add(.deliver, at: now)
        proxies.calm(now, &agenda)
        let end = now + .seconds(300)
        var steps = 0
        while let at = nextTime, at < end {
            try step()
            steps += 1
            guard steps < 5000 else { throw broken("the agent is busy although nothing happens") }
        }
        try checkRest()
    }

    private var nextTime: Duration? { [agenda.next, controller.deadline].compactMap { $0 }.min() }

    /// Time goes on to the next thing that happens.
    private mutating func step() throws(BrokenPromise) {
        guard let at = nextTime else { return }
        now = max(now, at)
        for event in agenda.due(now) { happen(event) }
        // More may come in before there is time to act on it.
        if isStormy, random.oneIn(4) { return }
        try act()
    }

    /// Does what the controller wants until it wants nothing.
    private mutating func act() throws(BrokenPromise) {
        for _ in 0..<1000 {
            let actions = controller.next(now: now)
            if actions.isEmpty { return try checkIdle() }
            for action in actions {
                perform(action)
                try check()
            }
        }
        throw broken("the controller does not come to rest within a moment")
    }

    /// For a while nothing is heard from outside and nothing fails: what the agent was told must get into force by its
    /// own wake-ups, whatever it was in the middle of.
    private mutating func lull() throws(BrokenPromise) {
        // A service's change would bring the node's along: it comes last, and its write may fail.
        if random.oneIn(2) {
            try act()
            tellAddresses()
            try act()
        }
        isStormy = false
        if random.oneIn(2) { setRoom(.max) }
        try act()
        let end = now + .seconds(45)
        var wakeUps = 0
        while let at = controller.deadline, at <= end {
            now = max(now, at)
            try act()
            wakeUps += 1
            guard wakeUps < 1000 else { throw broken("the agent is busy although nothing happens") }
        }
        now = end
        if world.isComplete, promises.knowsPods || world.routed.isEmpty {
            try checkKernel("after a lull", isProxyUp: proxies.seen.contains(where: \.isUp))
        }
        isStormy = true
    }

    private mutating func perform(_ action: NodeAction) {
        switch action {
        case .apply(let plan):
            plans += 1
            if !world.isComplete { promises.actedOnHalfAList = true }
            now += .milliseconds(Int.random(in: 0...20, using: &random))
            let result = kernel.apply(plan, now, fails: isStormy && random.oneIn(5), using: &random)
            promises.wrote(kernel, now)
            controller.take(.applied(result, jitter: Double.random(in: 0..<1, using: &random)), now: now)
        case .collectGarbage:
            let fails = isStormy && random.oneIn(3)
            if !fails { kernel.garbageSince = nil }
            controller.take(.collected(fails ? .failure(SimulatedKernel.error) : .success(())), now: now)
        case .publish(let snapshot):
            if !world.isComplete { promises.actedOnHalfAList = true }
            promises.published(snapshot, kernel, now)
            proxies.publish(snapshot, now, isStormy, &agenda, using: &random)
        case .tendProxies(let isNeeded, let succession):
            if isNeeded { promises.proxyIsNeeded(now) } else { promises.neededSince = nil }
            if isNeeded, succession.needsSuccessor { agenda.add(.proxyComes, at: now + delay(upTo: 3000)) }
        case .follow(let scope, let round):
            promises.follows(scope, round)
            // A list may take longer than whoever wanted it waits.
            let time = isStormy && random.oneIn(3) ? 20_000 : 2000
            if scope != .none {
                agenda.add(.podsKnown(round: round, agent: agentStartedAt), at: now + delay(upTo: time))
            }
        case .loadSnapshot: controller.take(.snapshot(findSnapshot()), now: now)
        case .saveSnapshot(let state): savedSnapshot = state.objects
        case .drain, .healthChecks, .tell, .log, .measure: break
        }
    }

    private mutating func findSnapshot() -> SnapshotFinding {
        if !kernel.programs.isEmpty { return .kernelHoldsServices(age: .seconds(60)) }
        guard let savedSnapshot else { return .none }
        if isStormy, random.oneIn(8) { return .unusable("it is torn") }
        world.restore(savedSnapshot)
        promises.learn(world)
        return .found(savedSnapshot, age: .seconds(60))
    }

    private mutating func delay(upTo milliseconds: Int) -> Duration {
        .milliseconds(Int.random(in: 0...milliseconds, using: &random))
    }

    // MARK: What happens

    /// Something new is on the agenda.
    private mutating func stir() {
        let at = now + .milliseconds(Int.random(in: 0...3000, using: &random))
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<3: agenda.add(.watchBreaks, at: at)
        case 3..<6: agenda.add(.proxyDies, at: at)
        case 6..<9: agenda.add(.othersChangeTheKernel, at: at)
        case 9..<13: agenda.add(.roomChanges, at: at)
        case 13: agenda.add(.agentRestarts, at: at)
        case 14 where random.oneIn(2): agenda.add(.nodeRestarts, at: at)
        case 16: agenda.add(.addressesChange, at: at)
        case 20..<24: agenda.add(.somebodyObserves, at: at)
        case 17..<20: agenda.add(.nothing, at: at + .seconds(20))
        default: agenda.add(.edit, at: at)
        }
    }

    private mutating func happen(_ event: WorldEvent) {
        switch event {
        case .edit:
            world.edit(using: &random)
            agenda.add(.deliver, at: now + delay(upTo: 300))
        case .deliver: deliver()
        case .watchBreaks:
            world.isAway = true
            agenda.add(.watchIsBack, at: now + .seconds(Int.random(in: 0...20, using: &random)))
        case .watchIsBack:
            world.isAway = false
            if world.isListed { deliver() } else { listAnew() }
        case .listGoesOn: goOnListing()
        case .somebodyObserves: controller.take(.observed, now: now)
        case .podsKnown(let round, let agent):
            guard agent == agentStartedAt else { break }
            promises.podsAreKnown(round)
            controller.take(.source(0, .podsKnown(round: round)), now: now)
        case .proxyComes: proxies.come(now, &agenda, using: &random)
        case .proxyDies: if isStormy { proxies.die(using: &random) }
        case .proxyAnswers(let answer): proxies.answer(answer, isStormy, using: &random)
        case .othersChangeTheKernel:
            kernel.lose(using: &random)
            controller.take(.drift, now: now)
        case .roomChanges:
            if isStormy { setRoom(kernel.isRefusing ? .max : Int.random(in: 1...8, using: &random)) }
        case .agentRestarts: startAgent(sourceIsAway: random.oneIn(3))
        case .nodeRestarts:
            kernel = SimulatedKernel()
            proxies.restart()
            startAgent(sourceIsAway: random.oneIn(2))
        case .addressesChange: tellAddresses()
        case .nothing: break
        }
        promises.note(proxies)
        if proxies.changed() { controller.take(.proxies(proxies.seen, outdated: []), now: now) }
    }

    /// Services that find room in the kernel.
    private mutating func setRoom(_ limit: Int) {
        kernel.limit = limit
        promises.roomSince = kernel.isRefusing ? nil : promises.roomSince ?? now
    }

    private mutating func startAgent(sourceIsAway: Bool) {
        agentStartedAt = now
        let isFirstHere = kernel.programs.isEmpty
        controller = Self.controller(now, generation: UInt64(now / .milliseconds(1)), isFirstHere: isFirstHere)
        promises.agentStarted(isFirstHere: isFirstHere)
        tellAddresses()
        proxies.reconnect()
        world.forget()
        world.isAway = sourceIsAway
        if sourceIsAway {
            agenda.add(.watchIsBack, at: now + .seconds(Int.random(in: 1...30, using: &random)))
        } else {
            listAnew()
        }
    }

    private mutating func tellAddresses() {
        let others = UInt32(0xc0a8_0003)...0xc0a8_000a
        let all = [0x7f00_0001, 0xc0a8_0002, UInt32.random(in: others, using: &random)]
        controller.take(.addresses(Set(all.map { LocalAddress(IPAddress(v4: $0)) })), now: now)
    }

    /// What changed since it was told last, as one batch.
    private mutating func deliver() {
        guard !world.isAway, world.isListed else { return }
        let changes = world.untold()
        if !changes.isEmpty { controller.take(.source(0, .changes(changes)), now: now) }
        promises.learn(world)
        tellVersion()
    }

    /// At times later than what it belongs to, as one more event of the source.
    private mutating func tellVersion() {
        guard let version = world.toldVersion else { return }
        let kinds: [ObjectKind] = [.service, .endpointSlice, .httpRoute, .grpcRoute]
        controller.take(
            .source(0, .reached(Dictionary(uniqueKeysWithValues: kinds.map { ($0, "\(version)") }))), now: now)
    }

    private mutating func listAnew() {
        world.beginList()
        goOnListing()
    }

    /// A list comes in pieces; only all of them together are a state of the cluster.
    private mutating func goOnListing() {
        guard !world.isAway, !world.isListed else { return }
        let piece = world.nextPieceOfList(using: &random)
        if !piece.isEmpty {
            controller.take(.source(0, .changes(piece)), now: now)
            agenda.add(.listGoesOn, at: now + delay(upTo: 400))
            if world.hasSnapshot { promises.learn(world) }
            return
        }
        let gone = world.endList()
        promises.learn(world)
        if !gone.isEmpty { controller.take(.source(0, .changes(gone)), now: now) }
        tellVersion()
        controller.take(.source(0, .synced), now: now)
        agenda.add(.deliver, at: now)
    }

    // MARK: Promises

    private mutating func check() throws(BrokenPromise) {
        if let what = promises.broken(kernel, proxies, controller, now) { throw broken(what) }
    }

    /// Nothing is to be done: then an agent that says that it is in sync is.
    private func checkIdle() throws(BrokenPromise) {
        guard controller.reconciler.status.isInSync else { return }
        guard kernel.programs == controller.compiler.programs, kernel.node == controller.node else {
            throw broken("the agent says that it is in sync, and the kernel holds something else")
        }
    }

    /// The kernel holds what the agent was told, but for what it has no room for.
    private func checkKernel(_ when: String, isProxyUp: Bool) throws(BrokenPromise) {
        let refused = controller.reconciler.status.refused.keys.sorted()
        if !kernel.isRefusing, let first = refused.first { throw broken("\(when) \(first) is still refused") }
        var desired = world.compiled(isProxyUp ? .up : .down)
        for id in refused { desired[id] = nil }
        for (id, program) in desired.sorted(by: { $0.key < $1.key }) where kernel.programs[id] != program {
            throw broken("\(when) the kernel has another \(id) than the cluster says")
        }
        for id in kernel.programs.keys where desired[id] == nil { throw broken("\(when) \(id) is still there") }
        guard kernel.node == controller.node, controller.reconciler.status.isInSync == refused.isEmpty else {
            throw broken("\(when) the kernel does not know the node, or the agent says it is not in sync")
        }
        if let since = kernel.garbageSince, now > since + .seconds(5) {
            throw broken("\(when) the kernel holds what a write replaced")
        }
    }

    private mutating func checkRest() throws(BrokenPromise) {
        let before = plans
        try checkKernel("once quiet", isProxyUp: true)
        if let object = world.differing(savedSnapshot ?? []) {
            throw broken("once quiet the snapshot has another \(object)")
        }
        let handedOver = Set(controller.proxy.published.services.keys)
        guard handedOver == world.routed || proxies.seen.isEmpty else {
            throw broken("once quiet the proxy has routes of \(handedOver), not of \(world.routed)")
        }
        let (told, marks) = (world.toldVersion.map { "\($0)" }, controller.marks)
        guard marks.written[.service] == told, marks.acknowledged[.httpRoute] == told else {
            throw broken(
                "once quiet \(told ?? "nothing") was told, and the agent says that \(marks.written) is in the kernel "
                    + "and \(marks.acknowledged) in force")
        }
        // Nothing more happens, however long one waits.
        while let at = controller.deadline, at < now + .seconds(600) {
            now = at
            try act()
        }
        guard plans == before else { throw broken("an idle agent writes") }
    }

    private func broken(_ what: String) -> BrokenPromise {
        BrokenPromise(description: "\(now - agentStartedAt) after the agent's start: \(what)")
    }
}
