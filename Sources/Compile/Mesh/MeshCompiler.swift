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
    /// The addresses of all pods that are in it, wherever they run: they take tunnels.
    package var enrolled: Set<IPAddress> = []

    package init() {}
}

package struct MeshChanges: Equatable, Sendable {
    /// Addresses that take tunnels now and did not, or the other way round.
    package var enrolled: Set<IPAddress> = []
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
    private var findingsByAddress: [IPAddress: [Finding]] = [:]
    /// Addresses that all updates together looked at: a change must cost the change (tested).
    package private(set) var made = 0

    package init(_ mesh: ProxyMesh) { self.mesh = mesh }

    /// A walk over the pods of this node.
    package var findings: [Finding] { unique(findingsByAddress.sorted { $0.key < $1.key }.flatMap(\.value)) }

    /// Brings everything up to date. `pods`: addresses of those that came, went or differ; `policies`: namespaces with
    /// others.
    package mutating func update(
        _ pods: Set<IPAddress>, policies: Set<String>, from state: borrowing ClusterState
    ) -> MeshChanges {
        var changes = MeshChanges()
        let addresses = policies.isEmpty ? pods : pods.union(view.pods.keys.filter { isMeant($0, by: policies) })
        if !policies.isEmpty { changes.findings = true }
        guard !addresses.isEmpty else { return changes }
        made += addresses.count
        for address in addresses { compile(address, state, &changes) }
        let now = view.pods.isEmpty ? [] : enrolled
        if view.pods.isEmpty != (view.mesh == nil) {
            // The first pod came, or the last one went.
            changes.enrolled = view.enrolled.symmetricDifference(now)
            view.mesh = view.pods.isEmpty ? nil : mesh
        } else if view.pods.isEmpty {
            changes.enrolled = []
        }
        view.enrolled = now
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
        let differs = isEnrolled ? enrolled.insert(address).inserted : enrolled.remove(address) != nil
        if differs { changes.enrolled.insert(address) }
        let pod = isEnrolled ? owner.flatMap { state.mesh.localPods[$0] } : nil
        view.pods[address] = pod.map(MeshPod.init)
        let rule = pod.map { PeerRule(of: $0, state.mesh) }
        programs[address] = pod.map { MeshPodProgram($0, rule ?? PeerRule()) }

        let findings = state.pods(at: address).compactMap { state.mesh.localPods[$0] }.flatMap { pod in
            meshFindings(of: pod, rule: pod.name == owner ? rule : nil)
        }
        let known = findingsByAddress[address] ?? []
        guard findings != known else { return }
        changes.findings = true
        changes.newFindings += findings.filter { !known.contains($0) }
        findingsByAddress[address] = findings.isEmpty ? nil : findings
    }
}

extension MeshPod {
    init(_ pod: Pod) {
        self.init(
            namespace: pod.name.namespace, name: pod.name.name, uid: pod.knownUID, serviceAccount: pod.serviceAccount)
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
