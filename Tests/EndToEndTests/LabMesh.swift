/// Two nodes of a mesh that share a directory as their certificate authority, and pods on both.
import Addressing
import TestSupport

final class LabMesh {
    let client: Pod
    /// On the client's node, and on the other one.
    let near: Pod
    let far: Pod
    /// On the client's node, and never enrolled.
    let outsider: Pod
    let nodes: [LabNode]
    let agents: [RunningAgent]
    let manifests: ManifestFolder
    let service: TestService
    let authority: TemporaryDirectory

    init(_ lab: Lab, _ dataplane: DataplaneKind, options: [String] = []) throws {
        nodes = [try lab.addNode(), try lab.addNode()]
        client = try nodes[0].addPod("client-pod")
        near = try nodes[0].addPod("near-answers")
        outsider = try nodes[0].addPod("outsider")
        far = try nodes[1].addPod("far-answers")
        for pod in [near, far] { try pod.serve() }
        manifests = try ManifestFolder()
        authority = try TemporaryDirectory()
        service = TestService(name: "web", number: 10, pods: [near, far])
        try manifests.write(service)
        for pod in [client, near, outsider, far] { try manifests.write(pod.name, Self.manifest(pod)) }
        let all = ["--ca", "directory:\(authority.path)"] + options
        let manifests = manifests
        agents = try nodes.map { try RunningAgent(on: $0, dataplane, manifests, options: all) }
    }

    /// Labels the pods, or takes the label away.
    func enrol(_ pods: [Pod], _ isEnrolled: Bool = true) throws {
        for pod in pods {
            try manifests.write(pod.name, Self.manifest(pod, isEnrolled ? "istio.io/dataplane-mode: ambient" : nil))
        }
    }

    /// Of the service; the far one always is.
    func setEndpoints(near isNear: Bool) throws {
        var service = service
        service.pods = isNear ? [near, far] : [far]
        try manifests.write(service)
    }

    /// The agents say that all is in place for these pods.
    func waitUntilEnrolled(_ pods: [Pod]) throws {
        for (node, agent) in zip(nodes, agents) {
            let here = pods.filter { $0.nodeName == node.name }
            try eventually("\(node.name) has its pods in the mesh", within: .seconds(30)) {
                let answer = try agent.agentctl("mesh")
                let lines = answer.split(separator: "\n")
                let areIn = here.allSatisfy { pod in
                    lines.contains { $0.contains("default/\(pod.name)") && $0.contains("spiffe://") }
                }
                guard areIn else { throw TestFailure("\(answer)") }
                return true
            }
        }
    }

    private static func manifest(_ pod: Pod, _ label: String? = nil) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: \(pod.name), namespace: default, uid: uid-\(pod.name), labels: {app: \(pod.name)\(
            label.map { ", " + $0 } ?? "")}}
        spec:
          nodeName: \(pod.nodeName ?? "")
          serviceAccountName: \(pod.name)
          containers: [{name: main, readinessProbe: {tcpSocket: {port: \(TestService.targetPort)}}}]
        status:
          phase: Running
          podIP: \(pod.v4)
          podIPs: [{ip: \(pod.v4)}, {ip: "\(pod.v6)"}]
          conditions: [{type: Ready, status: "True"}]
        """
    }
}
