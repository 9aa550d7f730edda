/// What is wrong with how pods are enrolled.
import Addressing
package import Cluster
import DataplaneIR

/// Of a pod of this node. `rule`: what it takes; nil: it is not in the mesh.
func meshFindings(of pod: Pod, rule: PeerRule?) -> [Finding] {
    var findings: [Finding] = []
    func add(_ reason: String, _ field: String, _ message: String) {
        findings.append(Finding(reason: reason, object: ObjectID(.pod, pod.name), field: field, message: message))
    }
    let label = MeshLabel(pod.labels)
    if let label { findings += unknownValue(of: label, on: ObjectID(.pod, pod.name)) }
    if pod.isOnHostNetwork, let label, label.enrols == true {
        add(
            "mesh-host-network", field(label),
            "is not enrolled: it uses the network of its node, whose connections belong to no pod; remove hostNetwork")
    }
    if rule != nil, pod.serviceAccount.isEmpty {
        add(
            "mesh-no-account", "spec.serviceAccountName",
            "has no identity: without a ServiceAccount it gets no certificate, and no tunnel to it or from it works; "
                + "name one")
    }
    if rule?.mode == .strict, !pod.datagramTransports.isEmpty {
        let transports = pod.datagramTransports.map(\.description).sorted().joined(separator: " and ")
        add(
            "mesh-strict-datagrams", "spec.containers.ports",
            "\(transports) from outside its node is refused: it cannot be tunnelled, and the mode is STRICT by "
                + "\(rule?.source ?? ""); make the mode PERMISSIVE for this pod if it must be reached")
    }
    return findings
}

/// Of Services that want a PROXY header for a pod of this node. `rule`: what the pod takes; nil: it is not in the mesh.
func headerFindings(_ requests: [HeaderRequest], rule: PeerRule?) -> [Finding] {
    guard let rule else { return [] }
    return requests.flatMap { request -> [Finding] in
        guard request.isUnderstood else { return request.isHeadless ? policyFindings(of: request.service) : [] }
        let open = request.ports.filter { (rule.portModes[$0] ?? rule.mode) != .strict }
        guard !open.isEmpty else { return [] }
        let ports = open.sorted().map(String.init).joined(separator: ", ")
        return [
            Finding(
                reason: "mesh-open-header-port", object: ObjectID(.service, request.service.name),
                field: "metadata.annotations[\"\(ServicePolicy.prefix)\(Service.proxyProtocol)\"]",
                message: "port \(ports) of its pods also takes connections in the clear, before which nobody writes a "
                    + "header, so that a client can write one of its own; make the mode STRICT there")
        ]
    }
}

/// Policies, or parts of them, that say nothing of any pod.
package func policyFindings(_ state: borrowing ClusterState) -> [Finding] {
    state.mesh.policies.flatMap { policy in
        var findings: [Finding] = []
        func add(_ field: String, _ message: String) {
            findings.append(
                Finding(reason: "mesh-unused-policy", object: policy.id, field: field, message: message))
        }
        if policy.isOfRootNamespace, !policy.selector.isEmpty {
            add(
                "spec.selector",
                "the policy is not used: in namespace \(PeerAuthentication.rootNamespace) it would be for the whole "
                    + "mesh; remove the selector, or put the policy into the namespace of the pods")
        } else if policy.selector.isEmpty, !policy.portModes.isEmpty {
            add("spec.portLevelMtls", "is not used: only a policy with a selector may name ports of pods; add one")
        }
        return findings
    }
}

/// Of all namespaces.
package func namespaceFindings(_ state: borrowing ClusterState) -> [Finding] {
    state.namespaces.values.flatMap { namespace in
        MeshLabel(namespace.labels).map { unknownValue(of: $0, on: namespace.id) } ?? []
    }
}

/// Where there is no mesh: whoever writes our own label expects one. Istio's is not ours then: another mesh may serve
/// the whole cluster by it.
package func findingsWithoutMesh(_ state: borrowing ClusterState) -> [Finding] {
    let namespaces = state.namespaces.values.compactMap { namespace in
        MeshLabel(namespace.labels).map { (object: namespace.id, label: $0) }
    }
    let pods = state.mesh.labels.map { (object: ObjectID(.pod, $0.key), label: $0.value) }
    return (namespaces + pods).filter { $0.label.isOwn && $0.label.enrols == true }.map { object, label in
        Finding(
            reason: "mesh-off", object: object, field: field(label),
            message: "has no effect: the agent runs without a mesh; pass --ca, and leave --proxy as it is")
    }
}

extension Namespace {
    fileprivate var id: ObjectID { ObjectID(.namespace, ObjectName("", name)) }
}

private func unknownValue(of label: MeshLabel, on object: ObjectID) -> [Finding] {
    guard label.enrols == nil else { return [] }
    return [
        Finding(
            reason: "mesh-unknown-label", object: object, field: field(label),
            message: "\(label.value.debugDescription) means nothing and is ignored; write \(label.knownValues)")
    ]
}

private func field(_ label: MeshLabel) -> String { "metadata.labels[\"\(label.key)\"]" }
