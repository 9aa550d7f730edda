/// Routes in the control actor: compiling them, handing them to the proxy, and what the status says of it.
package import AdminAPI
package import Addressing
import Cluster
import Compile
import DataplaneIR
import HandOver
import RouteIR

extension NodeController {
    /// Compiles routes; returns the programs that differ because the proxy came, went or is needed for the first time.
    mutating func compileRoutes(followsAnother: Bool) -> (changed: Set<ServicePortID>, routesDiffer: Bool) {
        let facts = NodeFacts(
            name: settings.nodeName, zone: state.nodes[settings.nodeName]?.zone)
        let own = OwnSockets(addresses: nodeInputs.interfaceAddresses, ports: settings.ownPorts)
        let changes = routes.update(
            dirty.services, pods: dirty.pods, node: facts, own: own, mesh: mesh?.view ?? MeshView(), from: state)
        // Findings change without a write to the kernel.
        if changes.findings { findingsVersion += 1 }
        guard settings.proxy != .off else { return ([], false) }
        tell(changes.newFindings)
        proxyWasNeeded = proxyWasNeeded || routes.isNeeded
        followPods()
        let available = proxy.step(
            isNeeded: routes.isNeeded, knowsPods: knowsPods, followsAnother: followsAnother, now: now)
        tendProxies()
        return (noted(compiler.update(proxy: available, from: state)), changes.snapshot)
    }

    /// After all programs are up to date, before the kernel hears of them.
    mutating func handOver(_ changed: Set<ServicePortID>, routesDiffer: Bool) {
        guard settings.proxy != .off else { return }
        let snapshot = proxy.changed(
            changed, compiler.programs, routes: routesDiffer || proxy.owesRoutes ? routes.snapshot : nil, now: now)
        if let snapshot { act(.publish(snapshot)) }
    }

    /// After the kernel has everything.
    mutating func trimHandedOver() {
        if let snapshot = proxy.written(routes.snapshot, now: now) { act(.publish(snapshot)) }
        deadlines.proxy = proxy.deadline
    }

    /// Where the proxy is reached: once there was a route, and from then on, because what is in the kernel must not
    /// lose its target before it is replaced. What it is not told of yet is refused at once.
    func proxyListeners() -> Set<SocketAddress> {
        guard proxyWasNeeded, !isLearning else { return [] }
        return Set(
            AddressFamily.allCases.compactMap { family in
                let local = nodeInputs.interfaceAddresses.filter {
                    $0.family == family && $0.isOfOneMachine
                }
                let primary = nodeInputs.node?.nodeIPs.first { local.contains($0) }
                let own = local.subtracting(nodeInputs.serviceAddresses)
                return (primary ?? own.min()).map { SocketAddress($0, settings.proxyPort) }
            })
    }

    /// Nothing was handed over yet, because pods are not known.
    private var isLearning: Bool {
        if case .learning(wasRouted: false, _) = proxy.phase { true } else { false }
    }

    mutating func take(_ proxies: [ConnectedProxy], _ outdated: Set<UInt32>) {
        for gone in proxy.proxies where !proxies.contains(where: { $0.pid == gone.pid }) {
            log(.notice, "L7 proxy \(gone.pid) is gone")
        }
        for new in proxies {
            let old = proxy.proxies.first { $0.pid == new.pid }
            if old == nil { log(.notice, "L7 proxy \(new.pid) (\(new.version)) is here") }
            if old?.isAnswering == true, !new.isAnswering { log(.error, "L7 proxy \(new.pid) does not answer") }
            if let refusal = new.refusal, old?.refusal != refusal {
                log(.error, "L7 proxy \(new.pid) refused the configuration and keeps its last one: \(refusal)")
            }
        }
        if proxy.proxies != proxies || outdatedProxies != outdated { mustCompile = true }
        proxy.proxies = proxies
        outdatedProxies = outdated
        for pid in succession.leaving.subtracting(toldToLeave).sorted() {
            log(.notice, "L7 proxy \(pid) is not the installed one; its successor has the configuration, so it may end")
            act(.drain(pid: pid))
        }
        toldToLeave = succession.leaving
    }

    private mutating func tendProxies() {
        let wanted = TendedProxies(isNeeded: routes.isNeeded, succession: succession)
        guard wanted != tended else { return }
        tended = wanted
        act(.tendProxies(isNeeded: wanted.isNeeded, wanted.succession))
    }

    private var succession: ProxySuccession {
        ProxySuccession(proxy.proxies, oldest: proxy.firstGeneration) { !outdatedProxies.contains($0.pid) }
    }

    package var proxyStatus: AgentStatus.Proxy {
        var status = AgentStatus.Proxy(mode: settings.proxy.rawValue)
        status.state =
            switch proxy.phase {
            case .notNeeded: "not needed"
            case .learning: "waiting for the pods of this node"
            case .starting: "starting"
            case .assumed: "not yet heard of"
            case .up: "up"
            case .down: "down"
            }
        if settings.proxy == .off { status.state = "off" }
        if !unreachableFamilies.isEmpty { status.state += ", but out of reach" }
        status.failure = settings.l7Failure.rawValue
        status.generation = proxy.published.generation
        status.routedServices = routedServices
        status.listeners = node.proxyListeners.sorted().map(\.description)
        status.instances = proxy.proxies.map { proxy in
            var instance = AgentStatus.Proxy.Instance(
                pid: proxy.pid, version: proxy.version, generation: proxy.generation, refusal: proxy.refusal,
                answering: proxy.isAnswering)
            instance.process = proxy.rights.map {
                .init(
                    user: $0.user, capabilities: String($0.effective, radix: 16),
                    boundingSet: String($0.bounding, radix: 16), noNewPrivileges: $0.hasNoNewPrivileges,
                    seccomp: $0.filtersCalls)
            }
            instance.ignored = proxy.ignored
            instance.outdated = outdatedProxies.contains(proxy.pid)
            return instance
        }
        return status
    }

    /// Up to which hand-over routes are in force; nil: none of them is.
    var acknowledgedGeneration: UInt64? {
        guard routes.isNeeded else { return .max }
        return settings.proxy == .off ? nil : proxy.servedGeneration(without: toldToLeave)
    }

    /// Families in which something is routed, but this node has no address where the proxy could be reached.
    package var unreachableFamilies: [AddressFamily] {
        guard hasAddresses, settings.proxy != .off, proxyWasNeeded, !isLearning else { return [] }
        return AddressFamily.allCases.filter { node.proxyListener($0) == nil && routes.isRouted($0) }
    }

    /// Sentences for the status and the log.
    var proxyWarnings: [String] {
        guard routes.isNeeded else { return [] }
        if settings.proxy == .off {
            return [
                "routes are attached to Services but not followed: the agent runs with --proxy off, or there is no "
                    + "heddle-proxy beside it"
            ]
        }
        let unreachable = unreachableFamilies.map { family in
            "the L7 proxy is out of reach over \(family): \(Interpreter.noListener(family)); routed services refuse "
                + "connections over it"
        }
        let troubles = proxy.proxies.flatMap { proxy -> [String] in
            var troubles =
                proxy.refusal.map { ["L7 proxy \(proxy.pid) does not have the last configuration: \($0)"] } ?? []
            if !proxy.ignored.isEmpty {
                troubles.append(
                    "L7 proxy \(proxy.pid) (\(proxy.version)) is older than this agent and does not know "
                        + "\(proxy.ignored.joined(separator: ", ")): run both of one release")
            }
            return troubles
        }
        let known = unreachable + troubles
        if case .learning = proxy.phase {
            return known + [
                "routes wait for the L7 proxy to be told them: the pods of this node, whose namespaces decide which "
                    + "routes apply, are not known yet; see the watch of pods"
            ]
        }
        guard proxy.phase == .down else { return known }
        return known + [
            "the L7 proxy is down: \(routedServices) routed service ports "
                + (settings.l7Failure == .closed
                    ? "refuse connections (unless heddle.io/l7-failure says open)"
                    : "are balanced without their routes (unless heddle.io/l7-failure says closed)")
        ] + meshWarningsWithoutProxy
    }
}
