/// What is around the agent in a simulation: a cluster with its source, a kernel, proxies.
import Addressing
import Cluster
import Compile
import DataplaneIR
import HandOver
import Reconcile
import RouteIR
import TestSupport

enum WorldEvent {
    case edit, deliver, watchBreaks, watchIsBack, listGoesOn, somebodyObserves
    /// For the agent that started then.
    case podsKnown(round: Int, agent: Duration)
    case proxyComes, proxyDies
    case proxyAnswers(SimulatedProxies.Answer)
    case othersChangeTheKernel, roomChanges, agentRestarts, nodeRestarts, addressesChange, nothing
}

struct Agenda {
    private var entries: [(at: Duration, event: WorldEvent)] = []

    var count: Int { entries.count }
    var next: Duration? { entries.map(\.at).min() }
    mutating func add(_ event: WorldEvent, at: Duration) { entries.append((at, event)) }
    mutating func due(_ now: Duration) -> [WorldEvent] {
        let due = entries.filter { $0.at <= now }
        entries.removeAll { $0.at <= now }
        return due.map(\.event)
    }
}

/// The cluster as it is, and as the agent was told it is.
struct World {
    private var cluster: RandomCluster
    private var truth: [ObjectID: ClusterObject] = [:]
    /// Of what is, of what was told as a whole, and of the list that is being told.
    private var version = 1
    private(set) var toldVersion: Int?
    private var listVersion = 0
    private var told: [ObjectID: ClusterObject] = [:]
    /// What is still to be listed, and what was.
    private var list: [ClusterObject] = []
    private var listed: [ObjectID: ClusterObject] = [:]
    /// By lists that may have broken off.
    private var said: Set<ObjectID> = []
    /// The source cannot tell anything.
    var isAway = false
    var isListed = false
    /// What was told is added to an earlier state that was found on disk.
    var hasSnapshot = false
    /// What was told is a state of the cluster, not a part of one.
    var isComplete: Bool { isListed || hasSnapshot }

    init(_ options: RandomCluster.Options) {
        cluster = RandomCluster(options: options)
        var node = Node(name: RandomCluster.nodeName)
        node.nodeIPs = [IPAddress(v4: 0xc0a8_0002)]
        truth[ObjectID(.node, ObjectName("", node.name))] = .node(node)
        var pod = Pod(name: ObjectName("ns", "client"))
        (pod.addresses, pod.nodeName) = ([IPAddress(v4: 0x0a01_0063)], RandomCluster.nodeName)
        truth[ObjectID(.pod, pod.name)] = .pod(pod)
    }

    mutating func edit(using random: inout SeededGenerator) {
        version += 1
        switch cluster.edit(using: &random) {
        case .upsert(let object): truth[object.id] = object
        case .delete(let id): truth[id] = nil
        }
    }

    /// The difference between what is and what was told.
    mutating func untold() -> [Change] {
        let gone = told.keys.filter { truth[$0] == nil }.map { Change.delete($0) }
        let news = truth.filter { told[$0.key] != $0.value }.map { Change.upsert($0.value) }
        (told, toldVersion) = (truth, version)
        return (gone + news).sorted { "\($0.id)" < "\($1.id)" }
    }

    /// Another agent: it was told nothing.
    mutating func forget() {
        (told, listed, list, said) = ([:], [:], [], [])
        (isListed, hasSnapshot, toldVersion) = (false, false, nil)
    }

    mutating func beginList() {
        (listed, listVersion) = ([:], version)
        list = truth.values.sorted { "\($0.id)" < "\($1.id)" }
    }
    /// Empty: that was all.
    mutating func nextPieceOfList(using random: inout SeededGenerator) -> [Change] {
        let count = min(list.count, Int.random(in: 1...4, using: &random))
        let piece = Array(list.prefix(count))
        list.removeFirst(count)
        for object in piece { (told[object.id], listed[object.id]) = (object, object) }
        said.formUnion(piece.map(\.id))
        return piece.map { .upsert($0) }
    }

    /// The list is complete; what an earlier one, which was not, had and this one has not is gone.
    mutating func endList() -> [Change] {
        isListed = true
        hasSnapshot = false
        (told, toldVersion) = (listed, listVersion)
        return said.filter { listed[$0] == nil }.sorted { "\($0)" < "\($1)" }.map { .delete($0) }
    }

    mutating func restore(_ objects: [ClusterObject]) {
        for object in objects where told[object.id] == nil { told[object.id] = object }
        hasSnapshot = true
    }

    /// Pods are in no snapshot.
    /// The first object that a snapshot has otherwise than it was told; nil: none.
    func differing(_ snapshot: [ClusterObject]) -> ObjectID? {
        let saved = Dictionary(snapshot.map { ($0.id, $0) }) { $1 }
        let told = Dictionary(state.objects.map { ($0.id, $0) }) { $1 }
        return Set(saved.keys).union(told.keys).filter { saved[$0] != told[$0] }.min { "\($0)" < "\($1)" }
    }

    private var state: ClusterState {
        var state = ClusterState()
        for object in told.values { _ = state.apply(.upsert(object)) }
        return state
    }

    /// What the proxy must be told of everything that was told, compiled from nothing.
    var routed: Set<RoutedServiceID> {
        var compiler = RouteCompiler(node: NodeFacts(name: RandomCluster.nodeName))
        let state = state
        _ = compiler.update(
            state.knownServices, pods: [], node: NodeFacts(name: RandomCluster.nodeName), own: OwnSockets(), from: state
        )
        return Set(compiler.snapshot.services.keys)
    }

    /// Everything that was told, compiled from nothing.
    func compiled(_ proxy: CompilerOptions.L7Proxy) -> [ServicePortID: ServiceProgram] {
        let state = state
        var options = CompilerOptions()
        options.proxy = proxy
        var compiler = Compiler(node: NodeFacts(name: RandomCluster.nodeName), options: options)
        _ = compiler.update(state.knownServices, from: state)
        return compiler.programs
    }
}

/// What is in force: whole services, also when a write fails in the middle.
struct SimulatedKernel {
    private(set) var programs: [ServicePortID: ServiceProgram] = [:]
    private(set) var node: NodeProgram?
    /// What others took away, and no write has put back.
    private(set) var lost: Set<ServicePortID> = []
    /// Services that find room.
    var limit = Int.max
    var isRefusing: Bool { limit < .max }
    /// When a write last left something to free.
    var garbageSince: Duration?
    static let error = DataplaneError(operation: "write", code: 12, description: "told to fail")

    mutating func apply(
        _ plan: Plan, _ now: Duration, fails: Bool, using random: inout SeededGenerator
    ) -> Result<Receipt, DataplaneError> {
        if fails, random.oneIn(2) { return .failure(Self.error) }
        garbageSince = now
        var receipt = Receipt(generation: plan.generation)
        let end = fails ? Int.random(in: 0...plan.upserts.count, using: &random) : plan.upserts.count
        for program in plan.upserts[..<end] {
            if programs[program.id] == nil, programs.count >= limit {
                receipt.refused[program.id] = "there is no room"
            } else {
                programs[program.id] = program
                lost.remove(program.id)
            }
        }
        if fails { return .failure(Self.error) }
        node = plan.node
        for id in plan.removals { programs[id] = nil }
        if plan.isFull {
            let wanted = Set(plan.upserts.map(\.id))
            for id in programs.keys where !wanted.contains(id) { programs[id] = nil }
        }
        return .success(receipt)
    }

    mutating func lose(using random: inout SeededGenerator) {
        guard let id = programs.keys.sorted().randomElement(using: &random) else { return }
        programs[id] = nil
        lost.insert(id)
    }
}

/// The proxies of the node, as they are and as the agent sees them.
struct SimulatedProxies {
    struct Answer {
        let pid: UInt32
        let snapshot: ProxySnapshot
    }
    private struct Proxy {
        var configuration: ProxySnapshot?
        var refusal: String?
    }
    private var running: [UInt32: Proxy] = [:]
    private var onDisk: ProxySnapshot?
    private var published: ProxySnapshot?
    private var lastPID: UInt32 = 100
    private var told: [ConnectedProxy] = []

    var seen: [ConnectedProxy] {
        running.sorted { $0.key < $1.key }.map {
            ConnectedProxy(
                pid: $0.key, version: "1", generation: $0.value.configuration?.generation ?? 0,
                refusal: $0.value.refusal)
        }
    }
    /// What some of them serve.
    var served: [ProxySnapshot] { running.values.compactMap(\.configuration) }

    /// Whether there is something to tell the agent.
    mutating func changed() -> Bool {
        defer { told = seen }
        return told != seen
    }
    /// The agent is another one: it has heard of nobody.
    mutating func reconnect() {
        (published, told) = (nil, [])
    }
    mutating func restart() { running = [:] }

    mutating func come(_ now: Duration, _ agenda: inout Agenda, using random: inout SeededGenerator) {
        guard running.isEmpty else { return }
        lastPID += 1
        running[lastPID] = Proxy(configuration: onDisk)
        if let published { agenda.add(.proxyAnswers(Answer(pid: lastPID, snapshot: published)), at: now) }
    }
    mutating func die(using random: inout SeededGenerator) {
        if let pid = running.keys.sorted().randomElement(using: &random) { running[pid] = nil }
    }

    mutating func publish(
        _ snapshot: ProxySnapshot, _ now: Duration, _ isStormy: Bool, _ agenda: inout Agenda,
        using random: inout SeededGenerator
    ) {
        published = snapshot
        for pid in running.keys.sorted() {
            let time = isStormy && random.oneIn(4) ? 5000 : 200
            let at = now + .milliseconds(Int.random(in: 0...time, using: &random))
            agenda.add(.proxyAnswers(Answer(pid: pid, snapshot: snapshot)), at: at)
        }
    }

    mutating func answer(_ answer: Answer, _ isStormy: Bool, using random: inout SeededGenerator) {
        guard running[answer.pid] != nil, answer.snapshot.generation == published?.generation else { return }
        if isStormy, random.oneIn(10) {
            running[answer.pid]?.refusal = "told to refuse"
        } else {
            running[answer.pid] = Proxy(configuration: answer.snapshot)
            onDisk = answer.snapshot
        }
    }

    /// Who refused takes everything now.
    mutating func calm(_ now: Duration, _ agenda: inout Agenda) {
        if running.isEmpty { agenda.add(.proxyComes, at: now) }
        guard let published else { return }
        for pid in running.keys { agenda.add(.proxyAnswers(Answer(pid: pid, snapshot: published)), at: now) }
    }
}
