/// What a pod is called in metrics and logs, from its labels and its owner (spec 5.1).
package import RouteIR

extension Workload {
    package init(_ pod: Pod) {
        let name = Workload.name(of: pod)
        let first = { (labels: [String]) in labels.lazy.compactMap { pod.labels[$0] }.first { !$0.isEmpty } }
        self.init(
            namespace: pod.name.namespace, pod: pod.name.name, name: name, app: first(["app"]) ?? "unknown",
            version: first(["version"]) ?? "unknown",
            canonicalService: first(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]) ?? name,
            canonicalRevision: first(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"])
                ?? "latest",
            serviceAccount: pod.serviceAccount, node: pod.nodeName ?? "")
    }

    /// The owner's name; a ReplicaSet's without the hash by which its Deployment made it.
    private static func name(of pod: Pod) -> String {
        if let given = pod.labels["service.istio.io/workload-name"], !given.isEmpty { return given }
        guard let owner = pod.ownerName, !owner.isEmpty else { return pod.name.name }
        guard pod.ownerKind == "ReplicaSet", let hash = pod.labels["pod-template-hash"], owner.hasSuffix("-" + hash)
        else { return owner }
        return String(owner.dropLast(hash.count + 1))
    }
}
