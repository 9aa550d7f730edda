/// When routed traffic may go to the L7 proxy, and in which order kernel and proxy learn of a change. Pure; the
/// controller gives it the time and does what it says.
///
/// A service goes to the proxy only once a proxy has its routes, and the proxy forgets a service only once the kernel
/// sends nothing there any more: so neither adding nor removing a route costs a connection.
import Compile
import DataplaneIR
package import HandOver
package import RouteIR

package struct ProxyControl: Sendable {
    package enum Phase: Equatable, Sendable {
        /// No route is attached to any service.
        case notNeeded
        /// The pods of this node, which are the clients, are not known yet. Nothing is handed over, and the kernel goes
        /// on with what it did. `wasRouted`: the agent has just started, so an earlier one's routes may be in force,
        /// and until then a proxy is trusted to serve them.
        case learning(wasRouted: Bool, until: Duration?)
        /// The first route has just come and a proxy is starting: services are balanced as before until then.
        case starting(until: Duration)
        /// The agent has just started: the kernel may send traffic to a proxy that has not come to us yet.
        case assumed(until: Duration)
        case up
        case down
    }
    private static let startTime = Duration.seconds(5)
    /// How long the kernel waits for a proxy to take a new configuration.
    private static let acknowledgeTime = Duration.seconds(1)

    package private(set) var phase = Phase.notNeeded
    package private(set) var published: ProxySnapshot
    /// Of the first configuration that this agent hands over.
    let firstGeneration: UInt64
    package internal(set) var proxies: [ConnectedProxy] = []
    /// How it stands with services of the published one that are not routed any more.
    private enum Leftovers: Equatable {
        case none
        /// The kernel may send something there yet.
        case inUse
        /// It does not; until then.
        case lingering(until: Duration)
        case due
    }
    private var leftovers = Leftovers.none
    /// What the kernel has sent to the proxy last may still wait there to be accepted.
    private static let lingerTime = Duration.seconds(1)
    private var gate: Duration?
    /// There is something to hand over that was held back.
    private(set) var owesRoutes = false
    private var proxied: Set<ServicePortID> = []

    /// Generations go on from `generation`, which must be larger than any an earlier agent gave.
    init(nodeName: String, generation: UInt64) {
        published = ProxySnapshot(generation: generation, node: ProxyNode(name: nodeName))
        firstGeneration = generation + 1
    }

    var deadline: Duration? {
        let phaseEnd: Duration? =
            switch phase {
            case .starting(let until), .assumed(let until): until
            case .learning(_, let until): until
            case .notNeeded, .up, .down: nil
            }
        let lingerEnd: Duration? = if case .lingering(let until) = leftovers { until } else { nil }
        return [phaseEnd, gate, lingerEnd].compactMap { $0 }.min()
    }

    /// What the compiler must count with. `followsAnother`: the agent has just started, where another was before it.
    mutating func step(
        isNeeded: Bool, knowsPods: Bool, followsAnother: Bool, now: Duration
    ) -> CompilerOptions.L7Proxy {
        if !isNeeded {
            phase = .notNeeded
        } else if !knowsPods, phase == .notNeeded {
            phase = .learning(wasRouted: followsAnother, until: followsAnother ? now + Self.startTime : nil)
        } else if !knowsPods, case .learning(true, let until) = phase {
            // What an earlier agent handed over stays as it is, with all it knew of pods.
            phase = .learning(wasRouted: true, until: until.flatMap { now < $0 ? $0 : nil })
        } else if !knowsPods, case .learning = phase {
            // Nothing is routed yet.
        } else if proxies.contains(where: \.isUp) {
            // One that comes with what an earlier agent handed over gets ours before it gets its traffic.
            if phase != .up, published.generation >= firstGeneration, !isAcknowledged {
                gate = now + Self.acknowledgeTime
            }
            phase = .up
        } else {
            switch phase {
            case .notNeeded:
                phase = followsAnother ? .assumed(until: now + Self.startTime) : .starting(until: now + Self.startTime)
            case .learning(true, let until): phase = until.map { .assumed(until: $0) } ?? .down
            case .learning(false, _): phase = .starting(until: now + Self.startTime)
            case .starting(let until), .assumed(let until): if now >= until { phase = .down }
            case .up: phase = .down
            case .down: break
            }
        }
        return switch phase {
        case .notNeeded, .starting, .learning(false, _): .off
        case .learning(true, let until): until != nil || proxies.contains(where: \.isUp) ? .up : .down
        case .assumed, .up: .up
        case .down: .down
        }
    }

    /// Programs changed; says what to hand to the proxy, if anything.
    mutating func changed(
        _ ids: Set<ServicePortID>, _ programs: [ServicePortID: ServiceProgram], routes: ProxySnapshot?, now: Duration
    ) -> ProxySnapshot? {
        let wanted = ids.filter { programs[$0]?.isProxied == true }
        // What was held back goes to the proxy now, whatever the kernel was to be told meanwhile.
        let isMore = owesRoutes || !wanted.isSubset(of: proxied)
        proxied.subtract(ids)
        proxied.formUnion(wanted)
        defer {
            if isMore, phase == .up, !isAcknowledged { gate = now + Self.acknowledgeTime }
        }
        if case .learning = phase {
            owesRoutes = owesRoutes || routes != nil
            return nil
        }
        owesRoutes = false
        guard let routes else { return nil }
        var next = routes
        for (id, service) in published.services where next.services[id] == nil {
            next.services[id] = service
            if leftovers == .none { leftovers = .inUse }
        }
        if leftovers != .none { next.upstreams.merge(published.upstreams) { new, _ in new } }
        return publish(next)
    }

    /// The kernel has everything; says what to hand to the proxy, if anything.
    mutating func written(_ routes: ProxySnapshot, now: Duration) -> ProxySnapshot? {
        // These routes may be held back; what was to be taken back goes with them.
        if case .learning = phase { return nil }
        switch leftovers {
        case .none, .lingering: return nil
        case .inUse:
            leftovers = .lingering(until: now + Self.lingerTime)
            return nil
        case .due:
            leftovers = .none
            return publish(routes)
        }
    }

    private mutating func publish(_ snapshot: ProxySnapshot) -> ProxySnapshot {
        let generation = published.generation + 1
        published = snapshot
        published.generation = generation
        return published
    }

    /// Whether the kernel may be written.
    mutating func mayWrite(now: Duration) -> Bool {
        if case .lingering(let until) = leftovers, until <= now { leftovers = .due }
        guard let end = gate, now < end, !isAcknowledged else {
            gate = nil
            return true
        }
        return false
    }

    /// With which everything compiled so far is handed over.
    var promisedGeneration: UInt64 { published.generation + (owesRoutes ? 1 : 0) }

    /// The oldest that serves new connections here; nil: none does, or not everything may be handed over.
    func servedGeneration(without leaving: Set<UInt32>) -> UInt64? {
        guard phase == .up, !owesRoutes else { return nil }
        return proxies.filter { $0.isUp && !leaving.contains($0.pid) }.map(\.generation).min()
    }

    private var isAcknowledged: Bool { proxies.contains { $0.isUp && $0.generation >= published.generation } }
}
