/// Cluster state -> who is in the mesh, incrementally: a pod that comes, goes or is labelled costs itself, a namespace
/// its pods. Compiling everything from scratch gives the same result (tested).
package import Addressing
package import Cluster
package import DataplaneIR
package import RouteIR

/// What the compilers of services and of routes must know of the mesh.
package struct MeshView: Equatable, Sendable {
    /// nil: no pod of this node is in it, so nothing here depends on it.
    package var mesh: ProxyMesh?
    /// The pods of this node that are in it.
    package var pods: [IPAddress: MeshPod] = [:]
    /// Who may call them.
    package var policies: [String: AccessPolicy] = [:]
    package var reach = MeshReach()

    package init() {}
}

/// The addresses to which an enrolled pod sends nothing in the clear.
package struct MeshReach: Equatable, Sendable {
    /// Of all pods that are in the mesh, wherever they run: they take tunnels.
    package var enrolled: Set<IPAddress> = []
    /// Of pods that slices name and nobody has told of: they may be in it. Whoever dials them waits until it is known.
    /// For a service it is only what its own slices say: others' do not keep anybody from it.
    package var unknown: Set<IPAddress> = []
    /// The pods of all nodes were told. Before that nearly every endpoint is unknown, and so is what no slice names.
    package var isListed = true

    package init() {}
    package var isEmpty: Bool { enrolled.isEmpty && unknown.isEmpty }
    package var all: Set<IPAddress> { unknown.isEmpty ? enrolled : enrolled.union(unknown) }

    /// The services with an endpoint at one of these may be compiled otherwise.
    func difference(from old: MeshReach) -> Set<IPAddress> {
        let differences = enrolled.symmetricDifference(old.enrolled)
        return isListed == old.isListed
            ? differences.union(unknown.symmetricDifference(old.unknown))
            : differences.union(unknown).union(old.unknown)
    }

    func isUnknown(_ endpoint: EndpointSlice.Endpoint) -> Bool {
        endpoint.conditions.contains(.ofPod) && unknown.contains(endpoint.address)
    }

    /// Whether a connection to one of these endpoints may have to be a tunnel, or wait. One that terminates is chosen
    /// only where none is ready: that its pod is gone before its slice says so is no reason to turn the others round.
    func includes(oneOf slices: [EndpointSlice]) -> Bool {
        guard !isEmpty else { return false }
        var (hasReady, hasLast) = (false, false)
        for endpoint in slices.lazy.flatMap(\.endpoints) {
            if enrolled.contains(endpoint.address) { return true }
            if endpoint.conditions.contains(.ready) { hasReady = true }
            guard isUnknown(endpoint) else { continue }
            if !endpoint.conditions.contains(.terminating) { return true }
            hasLast = true
        }
        return hasLast && !hasReady
    }
}

package struct MeshChanges: Equatable, Sendable {
    /// Addresses that are within reach now and were not, or the other way round, or are otherwise.
    package var reach: Set<IPAddress> = []
    /// Some came or went.
    package var findings = false
    package var newFindings: [Finding] = []

    package init() {}
}

package struct MeshCompiler: Sendable {
    package let mesh: ProxyMesh
    package private(set) var view = MeshView()
    /// What the kernel must know of the pods in `view.pods`.
    package private(set) var programs: [IPAddress: MeshPodProgram] = [:]
    /// Also while nothing here depends on it.
    private var enrolled: Set<IPAddress> = []
    /// While a pod of this node is in the mesh.
    private var unknown: Set<IPAddress> = []
    private var arePodsKnown = false
    private var findingsByAddress: [IPAddress: [Finding]] = [:]
    private var headers = HeaderIndex()
    private var policies = PolicyUse()
    /// Addresses that all updates together looked at: a change must cost the change (tested).
    package private(set) var made = 0

    package init(_ mesh: ProxyMesh) { self.mesh = mesh }

    /// A walk over the pods of this node.
    package var findings: [Finding] { unique(findingsByAddress.sorted { $0.key < $1.key }.flatMap(\.value)) }

    /// Brings everything up to date. `pods`: addresses of those that came, went or differ; `policies`: namespaces with
    /// others; `services`: those that, or whose endpoints, differ. `arePodsKnown`: those of all nodes were told, as far
    /// as there were any; until then whoever is told is one of many, and what is unknown stays it.
    package mutating func update(
        _ pods: Set<IPAddress>, policies: Set<String>, services: Set<ObjectName>, arePodsKnown: Bool = true,
        from state: borrowing ClusterState
    ) -> MeshChanges {
        var changes = MeshChanges()
        let (old, wasKnown) = (view, self.arePodsKnown)
        self.arePodsKnown = arePodsKnown
        var addresses = policies.isEmpty ? pods : pods.union(view.pods.keys.filter { isMeant($0, by: policies) })
        for address in headers.update(services, from: state) {
            guard let pod = view.pods[address] else { continue }
            let name = ObjectName(pod.namespace, pod.name)
            addresses.formUnion(state.mesh.localPods[name]?.addresses ?? [address])
        }
        if !policies.isEmpty { changes.findings = true }
        made += addresses.count
        for address in addresses { compile(address, state, &changes) }
        view.mesh = view.pods.isEmpty ? nil : mesh
        view.policies = self.policies.policies
        view.reach = MeshReach()
        if view.mesh != old.mesh || wasKnown != arePodsKnown {
            // The first pod of this node came, or the last one went; or all pods of the others are known.
            unknown = view.mesh == nil ? [] : state.unknownPods
        }
        if view.mesh != nil {
            (view.reach.enrolled, view.reach.unknown, view.reach.isListed) = (enrolled, unknown, arePodsKnown)
        }
        if view.mesh != old.mesh || wasKnown != arePodsKnown {
            changes.reach = view.reach.difference(from: old.reach)
        } else if view.mesh == nil {
            changes.reach = []
        }
        changes.newFindings = unique(changes.newFindings)
        return changes
    }

    private func isMeant(_ pod: IPAddress, by policies: Set<String>) -> Bool {
        policies.contains(PeerAuthentication.rootNamespace)
            || view.pods[pod].map { policies.contains($0.namespace) } ?? false
    }

    private mutating func compile(
        _ address: IPAddress, _ state: borrowing ClusterState, _ changes: inout MeshChanges
    ) {
        // Of two pods with one address the older is about to go. Those that use their node's have none of their own.
        let owner = state.pods(at: address).last { state.workloads[$0] != nil }
        let isEnrolled = owner.map { state.enrolment(of: $0).isEnrolled } ?? false
        let isUnknown =
            view.mesh != nil && (state.isUnknownPod(at: address) || !arePodsKnown && unknown.contains(address))
        let differs = isEnrolled ? enrolled.insert(address).inserted : enrolled.remove(address) != nil
        let wasUnknown = isUnknown ? !unknown.insert(address).inserted : unknown.remove(address) != nil
        if differs || isUnknown != wasUnknown { changes.reach.insert(address) }
        let pod = isEnrolled ? owner.flatMap { state.mesh.localPods[$0] } : nil
        let requests = pod.map { state.headerRequests(for: $0) } ?? []
        let policies = pod.map { state.accessPolicies(of: $0) } ?? []
        self.policies.set(policies, of: address)
        view.pods[address] = pod.map { MeshPod($0, requests, policies) }
        let rule = pod.map { PeerRule(of: $0, state.mesh) }
        programs[address] = pod.map { MeshPodProgram($0, rule ?? PeerRule()) }
        let access = PolicyProgram(policies, in: mesh)
        let hasManyPorts = programs[address]?.refuse(byPolicies: access, at: address) == false

        let findings = state.pods(at: address).compactMap { state.mesh.localPods[$0] }.flatMap { pod in
            meshFindings(of: pod, rule: pod.name == owner ? rule : nil)
                + headerFindings(requests, rule: pod.name == owner ? rule : nil)
                + (hasManyPorts && pod.name == owner ? [manyPorts(of: pod)] : [])
        }
        let known = findingsByAddress[address] ?? []
        guard findings != known else { return }
        changes.findings = true
        changes.newFindings += findings.filter { !known.contains($0) }
        findingsByAddress[address] = findings.isEmpty ? nil : findings
    }
}

extension MeshPod {
    init(_ pod: Pod, _ requests: [HeaderRequest], _ policies: [AccessPolicy]) {
        self.init(
            namespace: pod.name.namespace, name: pod.name.name, uid: pod.knownUID, serviceAccount: pod.serviceAccount,
            policies: policies.map(\.name).sorted())
        for request in requests where request.isUnderstood { headerPorts.formUnion(request.ports) }
    }
}

extension MeshPodProgram {
    init(_ pod: Pod, _ rule: PeerRule) {
        self.init(name: "\(pod.name)", uid: pod.knownUID)
        (mode, portModes) = (rule.mode, rule.portModes)
        probePorts = pod.probePorts
    }
}

extension Pod {
    /// Whoever writes pods into files gives them none, and no later one of the same name either.
    package var knownUID: String { uid ?? "\(name)" }
}

/// A pod with two addresses says everything twice.
private func unique(_ findings: [Finding]) -> [Finding] {
    var seen: Set<Finding> = []
    return findings.filter { seen.insert($0).inserted }
}
