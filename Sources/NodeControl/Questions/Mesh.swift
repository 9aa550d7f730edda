/// What the admin socket says of the mesh: every pod of this node, and why it is in or out.
package import AdminAPI
package import Addressing
import CertificateAuthority
import Cluster
import Compile
import DataplaneIR
import RouteIR

extension NodeController {
    /// `problems`: what keeps the kernel from doing its part, by addresses of pods.
    package func meshList(problems: [IPAddress: String] = [:]) -> MeshList {
        let pods = state.mesh.localPods.values.sorted { $0.name < $1.name }
        return MeshList(
            trustDomain: mesh?.mesh.trustDomain, pods: pods.map { view($0, problems) },
            enrolledAddresses: mesh?.view.reach.enrolled.count ?? 0,
            findings: meshFindings.map(\.description).sorted())
    }

    private func view(_ pod: Pod, _ problems: [IPAddress: String]) -> MeshList.Pod {
        let enrolment = state.enrolment(of: pod)
        var view = MeshList.Pod(
            name: "\(pod.name)", addresses: pod.addresses.map(\.description), isEnrolled: enrolment.isEnrolled,
            reason: enrolment.description)
        guard let mesh, enrolment.isEnrolled else { return view }
        let rule = PeerRule(of: pod, state.mesh)
        view.mode = rule.mode.rawValue
        view.modeSource = rule.source
        for (port, mode) in rule.portModes { view.portModes["\(port)"] = mode.rawValue }
        guard !pod.serviceAccount.isEmpty else {
            view.problem = "it has no ServiceAccount, and so no identity"
            return view
        }
        let identity = mesh.mesh.identity(namespace: pod.name.namespace, serviceAccount: pod.serviceAccount)
        view.identity = identity?.description
        // Another pod may have got its address since.
        if pod.addresses.contains(where: { mesh.programs[$0]?.name != "\(pod.name)" }) {
            view.problem = "its address is also that of another pod, which came later"
        }
        view.problem = view.problem ?? pod.addresses.lazy.compactMap { problems[$0] }.first ?? problemWithoutProxy
        return view
    }

    /// nil: a proxy answers, or is trusted to.
    private var problemWithoutProxy: String? {
        switch proxy.phase {
        case .learning(false, _):
            "it waits for the pods of other nodes to be known: what may be one of them is refused until then"
        case .notNeeded, .starting: "it waits for its node's proxy: connections to pods of the mesh are refused"
        case .down: "its node's proxy is down: connections to pods of the mesh are refused"
        case .learning(true, _), .assumed, .up: nil
        }
    }

    /// Sentences for the status.
    package func meshWarnings(_ problems: [IPAddress: String]) -> [String] {
        var pods: [String: Set<String>] = [:]
        for (address, problem) in problems {
            guard let pod = mesh?.programs[address] else { continue }
            pods[problem, default: []].insert(pod.name)
        }
        return pods.sorted { $0.key < $1.key }.map { problem, names in
            let first = names.min() ?? ""
            let more = names.count > 1 ? " and \(names.count - 1) more pods" : ""
            return "no tunnel is taken for \(first)\(more): \(problem); see agentctl mesh"
        }
    }
}
