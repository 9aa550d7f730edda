/// An agent of a mesh in a made-up world, by seed: kinds are listed in any order and one behind the other, writes fail,
/// proxies come and go, agents restart. Whatever is not known yet, the kernel never lets more pass in the clear than
/// what is known allows, and after a restart never more than before it.
import Addressing
import Cluster
import DataplaneIR
import HandOver
import NodeControl
import Reconcile
import RouteIR
import TestSupport

struct MeshSimulation {
    /// What is listed and watched by itself.
    enum Kind: CaseIterable {
        case namespaces, policies, services, slices, podsHere, podsElsewhere
        static let synced: [Kind] = [.namespaces, .policies, .services, .slices]
    }
    /// What is in force.
    struct Kernel: Equatable {
        var mesh = MeshProgram()
        var action: Frontend.Action?
    }

    private var random: SeededGenerator
    private var now = Duration.seconds(1000)
    private var controller: NodeController
    private var truth: [Kind: [ObjectID: ClusterObject]] = [:]
    /// As this agent was told; nil: not listed yet.
    private var told: [Kind: [ObjectID: ClusterObject]] = [:]
    private var kernel = Kernel()
    /// As the earlier agent left it, until this one knows what it is about; nil: it does.
    private var inherited: Kernel?
    private var scope = PodScope.none
    private var round = 0
    private var isSynced = false
    private var knowsPods = false
    private(set) var writes = 0

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        controller = Self.controller(now, isFirstHere: true)
        truth[.services] = Self.objects([Self.service])
        for _ in 0..<20 { edit() }
        start(isFirstHere: true)
    }

    mutating func run(steps: Int) throws(BrokenPromise) {
        for _ in 0..<steps {
            stir()
            if random.oneIn(3) { continue }
            try act(mayFail: true)
        }
        take(.proxies([.init(pid: 9, version: "v", generation: .max)], outdated: []))
        for _ in 0..<40 {
            for kind in Kind.allCases { tell(kind) }
            tellPods(ofAll: scope == .all)
            try act(mayFail: false)
            now += .seconds(10)
        }
        let wanted = clients.isEmpty ? [] : guarded
        guard kernel.mesh.enrolled == wanted, kernel.mesh.unlisted.isEmpty else {
            throw broken("at rest the kernel tunnels to \(kernel.mesh), not to \(wanted)")
        }
    }

    private func broken(_ what: String) -> BrokenPromise { BrokenPromise(description: "\(what), at \(now)") }

    // MARK: The world

    private static func controller(_ now: Duration, isFirstHere: Bool) -> NodeController {
        var settings = NodeSettings(nodeName: "node-a")
        (settings.podSources, settings.proxy) = ([0], .external)
        settings.mesh = ProxyMesh(trustDomain: "cluster.local")
        return NodeController(
            settings, generation: UInt64(now / .milliseconds(1)), isFirstHere: isFirstHere, now: now, wallTime: 0)
    }

    private mutating func start(isFirstHere: Bool) {
        controller = Self.controller(now, isFirstHere: isFirstHere)
        (told, scope, round, isSynced, knowsPods) = ([:], .none, 0, false, false)
        inherited = isFirstHere ? nil : kernel
        take(.addresses([LocalAddress(IPAddress(v4: 0xc0a8_0002))]))
    }

    private mutating func stir() {
        now += .milliseconds(Int.random(in: 0...400, using: &random))
        switch Int.random(in: 0..<20, using: &random) {
        case 0: if random.oneIn(4) { start(isFirstHere: false) }
        case 1: take(.proxies([.init(pid: 9, version: "v", generation: .max)], outdated: []))
        case 2: take(.proxies([], outdated: []))
        case 3: now += .seconds(6)
        case 4..<9: edit()
        // What is said of this node's pods may be under way while all are asked for.
        case 9: tellPods(ofAll: false)
        case 10, 11: tellPods(ofAll: true)
        default: tell(Kind.allCases[Int.random(in: 0..<Kind.allCases.count, using: &random)])
        }
    }

    private mutating func take(_ event: NodeEvent) { controller.take(event, now: now) }

    private mutating func edit() {
        let number = UInt32.random(in: 1...6, using: &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0:
            var namespace = Namespace(name: "shop")
            if !random.oneIn(3) { namespace.labels = ["istio.io/dataplane-mode": "ambient"] }
            truth[.namespaces] = Self.objects([.namespace(namespace)])
        case 1:
            var policy = PeerAuthentication(name: ObjectName("shop", "strict"))
            policy.mode = .strict
            truth[.policies] = random.oneIn(2) ? [:] : Self.objects([.peerAuthentication(policy)])
        case 2, 3:
            var slice = EndpointSlice(name: ObjectName("shop", "web"), serviceName: "web", addressType: .ipv4)
            slice.ports = [.init(name: "tcp", port: 8080)]
            slice.endpoints = Set([number, UInt32.random(in: 1...6, using: &random)]).sorted().map {
                .init(address($0), conditions: [.ready, .serving, .ofPod])
            }
            truth[.slices] = Self.objects([.endpointSlice(slice)])
        default:
            // Of some numbers the pods run here.
            let kind = number <= 2 ? Kind.podsHere : .podsElsewhere
            var pod = Cluster.Pod(name: ObjectName("shop", "p\(number)"))
            (pod.addresses, pod.nodeName) = ([address(number)], number <= 2 ? "node-a" : "node-b")
            pod.serviceAccount = "p"
            if random.oneIn(4) { pod.labels = ["heddle.io/mesh": random.oneIn(2) ? "enabled" : "disabled"] }
            truth[kind, default: [:]][ObjectID(.pod, pod.name)] = random.oneIn(4) ? nil : .pod(pod)
        }
    }

    /// The list of a kind, or what has changed of it since.
    private mutating func tell(_ kind: Kind) {
        if kind == .podsHere, scope == .none { return }
        if kind == .podsElsewhere, scope != .all { return }
        let (old, new) = (told[kind] ?? [:], truth[kind] ?? [:])
        let gone = old.keys.filter { new[$0] == nil }.map { Change.delete($0) }
        let changes = gone + new.filter { old[$0.key] != $0.value }.map { Change.upsert($0.value) }
        told[kind] = new
        if !changes.isEmpty {
            take(.source(0, .changes(changes.sorted { "\($0.id)" < "\($1.id)" })))
        }
        guard !isSynced, Kind.synced.allSatisfy({ told[$0] != nil }) else { return }
        isSynced = true
        take(.source(0, .synced))
    }

    /// Once they were told.
    private mutating func tellPods(ofAll: Bool) {
        guard told[.podsHere] != nil, !ofAll || scope == .all && told[.podsElsewhere] != nil else { return }
        if ofAll || scope == .ofNode { knowsPods = true }
        take(.source(0, .podsKnown(round: round, ofAll: ofAll)))
    }

    // MARK: The agent

    private mutating func act(mayFail: Bool) throws(BrokenPromise) {
        for _ in 0..<1000 {
            let actions = controller.next(now: now)
            if actions.isEmpty { return try checkIdle() }
            for action in actions {
                perform(action, mayFail: mayFail)
                try checkInherited()
            }
        }
        throw broken("the controller does not come to rest within a moment")
    }

    private mutating func perform(_ action: NodeAction, mayFail: Bool) {
        switch action {
        case .apply(let plan):
            writes += 1
            guard !mayFail || !random.oneIn(5) else {
                let error = DataplaneError(operation: "write", code: 12, description: "told to fail")
                return take(.applied(.failure(error), jitter: 0))
            }
            kernel.mesh = plan.node.mesh
            if let program = plan.upserts.first { kernel.action = program.frontends.first?.action }
            take(.applied(.success(Receipt(generation: plan.generation)), jitter: 0))
        case .follow(let wanted, let number):
            if wanted == .all { knowsPods = false }
            if wanted != .all, let others = told.removeValue(forKey: .podsElsewhere) {
                take(.source(0, .changes(others.keys.sorted { "\($0)" < "\($1)" }.map { .delete($0) })))
            }
            (scope, round) = (wanted, number)
        default: break
        }
    }

    // MARK: Promises

    /// What was in force stays until all that decides is known.
    private mutating func checkInherited() throws(BrokenPromise) {
        if isSynced, knowsPods { inherited = nil }
        if let inherited, kernel != inherited { throw broken("what an earlier agent wrote was replaced on a guess") }
    }

    private func checkIdle() throws(BrokenPromise) {
        guard inherited == nil, isSynced, controller.reconciler.status.isInSync else { return }
        let clients = clients
        guard !clients.isEmpty else { return }
        for client in clients where kernel.mesh.pods[client] == nil {
            throw broken("\(client) is enrolled, and the kernel lets it dial in the clear")
        }
        let isStrict = told[.policies]?.isEmpty == false
        for client in clients where isStrict && kernel.mesh.pods[client]?.mode != .strict {
            throw broken("\(client) is STRICT, and the kernel lets plaintext in")
        }
        let isListed = knowsPods && scope == .all
        for one in guarded.union(isListed ? [] : [address(7)]) where !kernel.mesh.takes(one) {
            throw broken("\(one) may be in the mesh, and is dialled in the clear")
        }
        guard guarded.isDisjoint(with: endpoints) || kernel.action == .tunnel else {
            throw broken("the service has endpoints of the mesh, and is balanced in the clear")
        }
    }

    /// By what was told, of pods that are known.
    private var pods: [Cluster.Pod] {
        [Kind.podsHere, .podsElsewhere].flatMap { kind in
            (told[kind] ?? [:]).values.compactMap { if case .pod(let pod) = $0 { pod } else { nil } }
        }
    }
    private func isEnrolled(_ pod: Cluster.Pod) -> Bool {
        if let own = pod.labels["heddle.io/mesh"] { return own == "enabled" }
        return told[.namespaces]?.values.contains { object in
            if case .namespace(let namespace) = object { !namespace.labels.isEmpty } else { false }
        } ?? false
    }
    private var clients: Set<IPAddress> {
        Set(pods.filter { $0.nodeName == "node-a" && isEnrolled($0) }.flatMap(\.addresses))
    }
    private var endpoints: Set<IPAddress> {
        Set(
            (told[.slices] ?? [:]).values.flatMap { object -> [IPAddress] in
                if case .endpointSlice(let slice) = object { slice.endpoints.map(\.address) } else { [] }
            })
    }
    /// To which nothing may go in the clear.
    private var guarded: Set<IPAddress> {
        Set(pods.filter(isEnrolled).flatMap(\.addresses)).union(endpoints.subtracting(pods.flatMap(\.addresses)))
    }

    private func address(_ number: UInt32) -> IPAddress { IPAddress(v4: 0x0a01_0000 + number) }
    private static func objects(_ all: [ClusterObject]) -> [ObjectID: ClusterObject] {
        Dictionary(all.map { ($0.id, $0) }) { $1 }
    }
    private static var service: ClusterObject {
        var service = Service(name: ObjectName("shop", "web"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(name: "tcp", port: 80)]
        return .service(service)
    }
}

extension MeshProgram {
    fileprivate func takes(_ address: IPAddress) -> Bool {
        enrolled.contains(address) || unlisted.contains { $0.contains(address) }
    }
}
