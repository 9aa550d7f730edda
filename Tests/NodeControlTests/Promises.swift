/// What an agent promises at every moment, checked from outside: from what the cluster was, what the kernel holds and
/// what the proxies have, not from what the controller thinks.
import Cluster
import Compile
import DataplaneIR
import HandOver
import NodeControl
import Reconcile
import RouteIR

struct Promises {
    /// Every version of a service that some state of the cluster means, whole.
    private var versions: [ServicePortID: [ServiceProgram]] = [:]
    /// When this agent began to write.
    private var isFirstHere = true
    private var firstWriteAt: Duration?
    /// When this agent handed over a service first, without taking it back since.
    private var handedOverAt: [String: Duration] = [:]
    private var lastPublished: Set<String>?
    private var wasProxied: Set<ServicePortID> = []
    private var newlyProxied: Set<ServicePortID> = []
    private var forgotten: String?
    var neededSince: Duration?
    private var hasBeenUp = false
    private var isUp = false
    /// Since when there is room for every service.
    var roomSince: Duration?
    /// The agent was told the pods of its node, who are the clients of routes.
    var knowsPods: Bool { followedRound != nil && followedRound == knownRound }
    /// In which pods are followed now, and the last one of which all are known.
    private var followedRound: Int?
    private var knownRound: Int?
    private var handedOverBlindly: String?
    var actedOnHalfAList = false
    private var history = VersionHistory()

    mutating func agentStarted(isFirstHere: Bool) {
        self.isFirstHere = isFirstHere
        firstWriteAt = nil
        (handedOverAt, lastPublished, neededSince, hasBeenUp) = ([:], nil, nil, false)
        (followedRound, knownRound) = (nil, nil)
        history = VersionHistory()
    }

    mutating func follows(_ scope: PodScope, _ round: Int) { followedRound = scope == .none ? nil : round }
    mutating func podsAreKnown(_ round: Int) { knownRound = max(knownRound ?? 0, round) }

    mutating func learn(_ world: World) {
        let compiled = ([.off, .up, .down] as [CompilerOptions.L7Proxy]).map { world.compiled($0) }
        for (id, program) in compiled.joined() where versions[id]?.contains(program) != true {
            versions[id, default: []].append(program)
        }
        history.learn(world, compiled)
    }

    mutating func proxyIsNeeded(_ now: Duration) { neededSince = neededSince ?? now }

    mutating func note(_ proxies: SimulatedProxies) {
        isUp = proxies.seen.contains(where: \.isUp)
        hasBeenUp = hasBeenUp || isUp
    }

    mutating func published(_ snapshot: ProxySnapshot, _ kernel: SimulatedKernel, _ now: Duration) {
        let names = Set(snapshot.services.keys.map(\.name))
        for name in names.sorted() where handedOverAt[name] == nil {
            handedOverAt[name] = now
            if !knowsPods { handedOverBlindly = name }
        }
        let proxied = Set(kernel.programs.values.filter(\.isProxied).map(\.id.service))
        if let lastPublished { forgotten = lastPublished.subtracting(names).intersection(proxied).sorted().first }
        for name in handedOverAt.keys where !names.contains(name) { handedOverAt[name] = nil }
        lastPublished = names
    }

    mutating func wrote(_ kernel: SimulatedKernel, _ now: Duration) {
        let proxied = Set(kernel.programs.values.filter(\.isProxied).map(\.id))
        firstWriteAt = firstWriteAt ?? now
        newlyProxied = proxied.subtracting(wasProxied)
        wasProxied = proxied
    }

    /// nil: all are kept.
    mutating func broken(
        _ kernel: SimulatedKernel, _ proxies: SimulatedProxies, _ controller: NodeController, _ now: Duration
    ) -> String? {
        defer { (newlyProxied, forgotten) = ([], nil) }
        for (id, program) in kernel.programs.sorted(by: { $0.key < $1.key })
        where versions[id]?.contains(program) != true {
            return "half a service: \(id) is in the kernel as no state of the cluster meant it"
        }
        for id in newlyProxied.sorted() where !mayBeProxied(id, proxies, now) {
            return "\(id) goes to the proxy, which does not have its routes yet"
        }
        if let forgotten { return "the proxy was told to forget \(forgotten), to which the kernel still sends" }
        if let handedOverBlindly { return "the proxy was told of \(handedOverBlindly) before its clients were known" }
        if actedOnHalfAList { return "the agent acted on a part of what there is" }
        if let ahead = history.ahead(kernel, proxies, controller) { return ahead }
        return refusedTooLong(controller, now)
    }

    private func mayBeProxied(_ id: ServicePortID, _ proxies: SimulatedProxies, _ now: Duration) -> Bool {
        if isUp {
            if proxies.served.contains(where: { $0.services.keys.contains { $0.name == id.service } }) { return true }
            // One that does not answer is not waited for without end.
            if let at = handedOverAt[id.service] { return now >= at + .seconds(1) }
        }
        // An agent that has just begun trusts what its predecessor left, and a proxy that is down refuses.
        if !isFirstHere, let firstWriteAt, now <= firstWriteAt + .seconds(60),
            handedOverAt[id.service] == nil || !hasBeenUp
        {
            return true
        }
        return hasBeenUp || neededSince.map { now >= $0 + .seconds(5) } ?? false
    }

    /// Every 30 s another try, which the storm may make fail some times, with at most 30 s between two.
    private func refusedTooLong(_ controller: NodeController, _ now: Duration) -> String? {
        guard let roomSince, now > roomSince + .seconds(150), controller.reconciler.status.failuresInARow == 0,
            let first = controller.reconciler.status.refused.keys.min()
        else { return nil }
        return "\(first) is refused although there has been room for \(now - roomSince)"
    }
}
