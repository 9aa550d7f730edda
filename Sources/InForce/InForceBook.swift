/// Whether routes are in force, as a value: pods of agents, routes and nodes' reports in; out comes whom to ask next
/// and when, and of each route on how many nodes it is in force and where it is not.
///
/// A generation of a route is in force on a node once the node's position has passed the version at which that
/// generation was first seen. So a node tells a few numbers, however many routes there are, and is asked in waves: soon
/// after a change, then only those that lag, in pauses that grow.
package import AdminAPI
package import Addressing
package import Cluster

package struct InForceBook: Sendable {
    /// How often nodes are asked.
    package struct Pace: Sendable {
        /// From a change to the first question, and between the first two to one that lags.
        package var first = Duration.milliseconds(300)
        /// Waves follow each other no faster than this for each node: 5,000 nodes are asked a thousand times a second
        /// at most, however often something changes.
        package var perNode = Duration.milliseconds(1)
        /// Between two questions to one that lags or does not answer.
        package var longest = Duration.seconds(30)
        /// To one that something waits on, and to one where all is well.
        package var watchful = Duration.seconds(15)
        package var seldom = Duration.seconds(60)
        /// Who lags for so long is told of, and other news of that kind no sooner than so long afterwards.
        package var patience = Duration.seconds(60)
        /// Nodes are looked at no more often than this.
        package var tick = Duration.milliseconds(100)

        package init() {}
    }
    package struct Question: Sendable, Equatable {
        package let node: String
        package let pod: ObjectName
        package let address: IPAddress
        /// It did not answer last.
        package let isDoubtful: Bool
    }

    struct Node: Sendable {
        let name: String
        var pod: ObjectName
        var address: IPAddress?
        var reached: [ObjectKind: Version] = [:]
        var isKnown = false
        var waitsFor: String?
        /// Services that its kernel has no room for.
        var refused: Set<String> = []
        var refusedCount = 0
        /// Why it did not answer last.
        var problem: String?
        var isAsked = false
        /// nil: while it is asked, and as long as it cannot be.
        var nextAsk: Duration?
        /// Questions in a row after which it still lagged.
        var tries = 0
        var lagsSince: Duration?
    }
    private struct Route {
        var generation: Int64
        /// Of one that was made anew generations begin again.
        var creationTime: Int64
        var version: Version
    }

    private let pace: Pace
    private(set) var nodes: [Node] = []
    private var indexes: [String: Int] = [:]
    private var nodesOfPods: [ObjectName: String] = [:]
    private var routes: [ObjectID: Route] = [:]
    /// The newest of each kind, as it was seen.
    private var lastSeen: [ObjectKind: Version] = [:]
    private var isComplete = false
    /// What nodes must reach to be up to date; newer versions make the next wave.
    private var target: [ObjectKind: Version] = [:]
    private var wavedAt: Duration?
    private var nextWave: Duration?
    /// Those to be asked now, the last first.
    private var due: [Question] = []
    private var dueDoubtful: [Question] = []
    private var nextLook: Duration?
    private var told: [String] = []
    private var toldAt: Duration?
    private var news: String?
    /// Nodes and routes that were looked at (tested: in proportion to what happens).
    package private(set) var looks = 0

    package init(pace: Pace = Pace()) { self.pace = pace }

    // MARK: What happened

    package mutating func take(_ event: SourceEvent, now: Duration) {
        switch event {
        case .changes(let changes): for change in changes { take(change, now) }
        case .synced:
            isComplete = true
            if !routes.isEmpty { wantWave(now) }
        case .podsKnown, .problems, .reached: break
        }
    }

    private mutating func take(_ change: Change, _ now: Duration) {
        switch change {
        case .upsert(.pod(let pod)):
            guard let node = pod.nodeName, !pod.isFinished else { return remove(pod.name) }
            put(pod, on: node, now)
        case .delete(let id) where id.kind == .pod: remove(id.name)
        case .upsert(.route(let route)): put(route, now)
        case .delete(let id) where id.kind.isRoute: routes[id] = nil
        default: break
        }
    }

    private mutating func put(_ route: Cluster.Route, _ now: Duration) {
        guard !route.parents.isEmpty, let record = route.record, let version = Version(record.resourceVersion) else {
            routes[route.id] = nil
            return
        }
        if let known = routes[route.id], known.generation == record.generation, record.generation > 0,
            known.creationTime == route.creationTime
        {
            // A smaller one: the server's history went back, as after etcd was restored from a backup.
            guard case .number(let old) = known.version, case .number(let new) = version, new < old else { return }
        }
        routes[route.id] = Route(
            generation: record.generation, creationTime: route.creationTime, version: version)
        lastSeen[route.id.kind] = version
        if isComplete { wantWave(now) }
    }

    private mutating func put(_ pod: Pod, on name: String, _ now: Duration) {
        nodesOfPods[pod.name] = name
        // An agent that listens on one family listens on IPv4.
        let address = pod.addresses.first { $0.family == .ipv4 } ?? pod.addresses.first
        guard let index = indexes[name] else {
            indexes[name] = nodes.count
            nodes.append(Node(name: name, pod: pod.name, address: address, lagsSince: now))
            ask(nodes.count - 1, at: now)
            return
        }
        if nodes[index].pod != pod.name {
            // One that ends says nothing about its successor.
            guard !pod.isTerminating else { return }
            nodes[index] = Node(name: name, pod: pod.name, address: address, lagsSince: now)
            ask(index, at: now)
        } else if nodes[index].address != address {
            nodes[index].address = address
            ask(index, at: now)
        } else if pod.isReady, nodes[index].problem != nil {
            ask(index, at: now)
        }
    }

    private mutating func remove(_ pod: ObjectName) {
        guard let name = nodesOfPods.removeValue(forKey: pod), let index = indexes[name], nodes[index].pod == pod
        else { return }
        indexes[name] = nil
        let last = nodes.removeLast()
        guard last.name != name else { return }
        nodes[index] = last
        indexes[last.name] = index
    }

    private mutating func ask(_ index: Int, at: Duration) {
        guard !nodes[index].isAsked, nodes[index].address != nil else { return }
        nodes[index].nextAsk = min(nodes[index].nextAsk ?? at, at)
        nextLook = min(nextLook ?? at, at)
    }

    private mutating func wantWave(_ now: Duration) {
        guard nextWave == nil else { return }
        let spacing = max(pace.first, pace.perNode * nodes.count)
        let at = max(now + pace.first, wavedAt.map { $0 + spacing } ?? now)
        nextWave = at
        nextLook = min(nextLook ?? at, at)
    }

    // MARK: Whom to ask

    /// When `next` is to be called although nothing happened; nil: never.
    package var deadline: Duration? { deadline(doubtful: true) }
    /// `doubtful`: those may be asked, too, that did not answer last.
    package func deadline(doubtful: Bool) -> Duration? {
        due.isEmpty && (!doubtful || dueDoubtful.isEmpty) ? nextLook : .zero
    }

    /// Whom to ask now; nil: nobody before `deadline`.
    package mutating func next(now: Duration, doubtful: Bool = true) -> Question? {
        if due.isEmpty, let at = nextLook, at <= now { look(now) }
        while let question = due.popLast() ?? (doubtful ? dueDoubtful.popLast() : nil) {
            // Between the two its pod may have gone.
            if let index = indexes[question.node], nodes[index].pod == question.pod { return question }
        }
        return nil
    }

    private mutating func look(_ now: Duration) {
        var doubtful: [Question] = []
        if let at = nextWave, at <= now { beginWave(now) }
        nextLook = nextWave
        for index in nodes.indices {
            looks += 1
            guard let at = nodes[index].nextAsk, let address = nodes[index].address else { continue }
            guard at <= now else {
                nextLook = min(nextLook ?? at, at)
                continue
            }
            (nodes[index].nextAsk, nodes[index].isAsked) = (nil, true)
            let question = Question(
                node: nodes[index].name, pod: nodes[index].pod, address: address,
                isDoubtful: nodes[index].problem != nil)
            if question.isDoubtful { doubtful.append(question) } else { due.append(question) }
        }
        due.reverse()
        // Those that wait already are asked before.
        dueDoubtful = doubtful.reversed() + dueDoubtful
        noteLaggards(now)
    }

    private mutating func beginWave(_ now: Duration) {
        (wavedAt, nextWave) = (now, nil)
        target = [:]
        for (id, route) in routes {
            looks += 1
            switch (route.version, target[id.kind]) {
            case (.number(let new), .number(let old)): target[id.kind] = .number(max(new, old))
            case (.other, _): target[id.kind] = lastSeen[id.kind]
            case (_, nil): target[id.kind] = route.version
            case (_, .other): break
            }
        }
        // Who does not answer is asked in pauses of its own.
        for index in nodes.indices where nodes[index].problem == nil && !hasReached(nodes[index]) {
            nodes[index].tries = 0
            nodes[index].lagsSince = nodes[index].lagsSince ?? now
            ask(index, at: now)
        }
    }

    private func hasReached(_ node: Node) -> Bool {
        target.allSatisfy { $0.value.isReached(by: node.reached[$0.key]) }
    }

    // MARK: What nodes say

    /// `spread`: a random number in 0..<1, so that nodes which were asked together are not asked together for ever.
    package mutating func answered(
        _ question: Question, _ answer: Result<ProgrammedReport, NodeFailure>, now: Duration, spread: Double
    ) {
        guard let index = indexes[question.node], nodes[index].pod == question.pod else { return }
        nodes[index].isAsked = false
        switch answer {
        case .success(let report): note(report, index, now)
        case .failure(let failure):
            nodes[index].problem = failure.sentence
            nodes[index].lagsSince = nodes[index].lagsSince ?? now
        }
        let node = nodes[index]
        let pause: Duration
        if node.problem != nil || !hasReached(node) {
            pause = min(pace.first * (1 << min(node.tries, 12)), pace.longest)
            nodes[index].tries += 1
        } else {
            pause = node.waitsFor == nil ? pace.seldom : pace.watchful
            nodes[index].tries = 0
        }
        let at = now + pause * (0.75 + spread / 2)
        // Many are looked at together: each look is a walk over all.
        ask(index, at: pause < .seconds(1) ? at : pace.tick * (at / pace.tick).rounded(.up))
    }

    private mutating func note(_ report: ProgrammedReport, _ index: Int, _ now: Duration) {
        nodes[index].problem = nil
        nodes[index].isKnown = true
        nodes[index].reached = [:]
        for (kind, version) in report.reached {
            guard let kind = ObjectKind(rawValue: kind), let version = Version(version) else { continue }
            nodes[index].reached[kind] = version
        }
        nodes[index].waitsFor = report.waitsFor.map { String($0.prefix(40)) }
        nodes[index].refused = Set(report.refused.prefix(100))
        nodes[index].refusedCount = max(report.refusedCount, nodes[index].refused.count)
        // Something always waits for a moment where something always changes.
        let seconds = report.waitsSeconds ?? 0
        let waited = Duration.seconds(seconds.isFinite ? min(max(seconds, 0), 1e9) : 0)
        let isStuck = waited >= pace.patience
        if hasReached(nodes[index]), !isStuck, nodes[index].refusedCount == 0 {
            nodes[index].lagsSince = nil
        } else {
            let since = nodes[index].lagsSince ?? now
            nodes[index].lagsSince = isStuck ? min(since, now - waited) : since
        }
    }

    // MARK: Who lags

    /// One that has lagged, or has not answered, for longer than patience lasts.
    package struct Laggard: Sendable, Equatable {
        package let node: String
        package let cause: String
        package let since: Duration
    }

    package func laggards(now: Duration) -> [Laggard] {
        nodes.compactMap { node in
            guard let since = node.lagsSince, isLaggard(node, now) else { return nil }
            return Laggard(node: node.name, cause: cause(node), since: since)
        }.sorted { $0.node < $1.node }
    }

    private func isLaggard(_ node: Node, _ now: Duration) -> Bool {
        node.lagsSince.map { now - $0 >= pace.patience } ?? false
    }

    private func cause(_ node: Node) -> String {
        if node.address == nil { return "its agent's pod has no address yet" }
        if let problem = node.problem { return "its agent does not answer: \(problem)" }
        guard node.isKnown else { return "its agent was not asked yet" }
        switch node.waitsFor {
        case ProgrammedReport.Cause.source: return "its agent does not have the first lists of the API server"
        case ProgrammedReport.Cause.kernel: return "writes to its kernel wait or fail: see agentctl status there"
        case ProgrammedReport.Cause.proxy: return "its L7 proxy does not have the routes: see agentctl proxy there"
        case ProgrammedReport.Cause.noProxy:
            return "its agent runs without an L7 proxy, so that routes are not followed"
        case let other?: return "it waits for \(other)"
        case nil: break
        }
        guard node.refusedCount > 0 else { return "its agent has not heard of the last changes" }
        let some = node.refused.sorted().prefix(3).joined(separator: ", ")
        let more = node.refusedCount - min(node.refused.count, 3)
        return "its kernel has no room for \(some)" + (more > 0 ? " and \(more) more Services" : "")
    }

    private mutating func noteLaggards(_ now: Duration) {
        if told.isEmpty {
            guard nodes.contains(where: { isLaggard($0, now) }) else { return }
        } else if let toldAt, now - toldAt < pace.patience, nodes.contains(where: { isLaggard($0, now) }) {
            return
        }
        let names = nodes.filter { isLaggard($0, now) }.map(\.name).sorted()
        guard names != told else { return }
        (told, toldAt) = (names, now)
        guard !names.isEmpty else { return news = "no node lags any more" }
        let some = names.prefix(3).map { name in "\(name) (\(indexes[name].map { cause(nodes[$0]) } ?? ""))" }
        let more = names.count > 3 ? " and \(names.count - 3) more" : ""
        news =
            "\(names.count) of \(nodes.count) nodes have lagged for more than \(pace.patience): "
            + some.joined(separator: ", ") + more
    }

    /// What is worth a line in the log since the last time; who lags is looked at with each look at all nodes.
    package mutating func takeNews() -> String? { news.take() }

    // MARK: Routes

    package var nodeCount: Int { nodes.count }
    package var answeringCount: Int { nodes.count { $0.isKnown && $0.problem == nil } }

    package func version(of route: ObjectID) -> Version? { routes[route]?.version }
}

/// Why a node's report could not be had.
package struct NodeFailure: Error, Sendable, Equatable {
    package let sentence: String
    package init(_ sentence: String) { self.sentence = String(sentence.prefix(200)) }
}
