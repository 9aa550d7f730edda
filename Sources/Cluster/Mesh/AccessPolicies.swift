/// The policies about callers, found by the pods that they are for: a pod's change looks at its own policies, and a
/// policy's at its own pods. Kept only where there is a mesh.
import Addressing
package import RouteIR

package struct AccessPolicies: Sendable {
    fileprivate struct Namespace {
        var policies: [ObjectName: AuthorizationPolicy] = [:]
        /// Of no label and no target.
        var forAll: Set<ObjectName> = []
        /// By one of the labels that they ask for.
        var byLabel: [Label: Set<ObjectName>] = [:]
        /// By the name of the Service that they are for.
        var byService: [String: Set<ObjectName>] = [:]
    }
    fileprivate struct Label: Hashable {
        let key: String
        let value: String
    }
    private var namespaces: [String: Namespace] = [:]

    package var all: [AuthorizationPolicy] { namespaces.values.flatMap(\.policies.values) }
    package func policy(_ name: ObjectName) -> AuthorizationPolicy? { namespaces[name.namespace]?.policies[name] }
    /// Whether a policy is for what is behind the Service.
    func areFor(service: ObjectName) -> Bool { namespaces[service.namespace]?.byService[service.name] != nil }

    /// By name: those of its namespace and of the whole mesh. `services`: those that it is behind.
    fileprivate func policies(of pod: Pod, behind services: Set<String>) -> [AuthorizationPolicy] {
        Set([pod.name.namespace, PeerAuthentication.rootNamespace]).compactMap { namespaces[$0] }
            .flatMap { namespace in
                var names = namespace.forAll
                for (key, value) in pod.labels {
                    names.formUnion(namespace.byLabel[Label(key: key, value: value)] ?? [])
                }
                for service in services { names.formUnion(namespace.byService[service] ?? []) }
                return names.compactMap { namespace.policies[$0] }.filter { $0.isFor(pod, behind: services) }
            }
            .sorted { $0.name < $1.name }
    }

    /// What was there before.
    mutating func replace(_ name: ObjectName, with new: AuthorizationPolicy?) -> AuthorizationPolicy? {
        let old = policy(name)
        guard old != new else { return old }
        namespaces[name.namespace, default: Namespace()].replace(name, old, with: new)
        if namespaces[name.namespace]?.policies.isEmpty == true { namespaces[name.namespace] = nil }
        return old
    }
}

extension AccessPolicies.Namespace {
    fileprivate mutating func replace(_ name: ObjectName, _ old: AuthorizationPolicy?, with new: AuthorizationPolicy?) {
        policies[name] = new
        if let old {
            forAll.remove(name)
            if let label = old.indexedLabel { byLabel.remove(name, under: label) }
            for service in old.services { byService.remove(name, under: service) }
        }
        guard let new else { return }
        if let label = new.indexedLabel { byLabel[label, default: []].insert(name) }
        for service in new.services { byService[service, default: []].insert(name) }
        if new.selector.isEmpty, new.targets.isEmpty { forAll.insert(name) }
    }
}

extension AuthorizationPolicy {
    fileprivate var indexedLabel: AccessPolicies.Label? {
        selector.min { $0.key < $1.key }.map { AccessPolicies.Label(key: $0.key, value: $0.value) }
    }
    /// Names of those that it is for.
    fileprivate var services: Set<String> { Set(targets.lazy.filter(\.isService).map(\.name)) }
    fileprivate func selects(_ labels: [String: String]) -> Bool {
        selector.allSatisfy { labels[$0.key] == $0.value }
    }
    fileprivate func isFor(_ pod: Pod, behind services: Set<String>) -> Bool {
        let isOfNamespace = name.namespace == pod.name.namespace
        guard targets.isEmpty else { return isOfNamespace && !self.services.isDisjoint(with: services) }
        return (isOfNamespace || isOfRootNamespace) && selects(pod.labels)
    }
}

extension ClusterState {
    /// The policies about who may call a pod of this node, by name.
    package func authorizationPolicies(of pod: Pod) -> [AuthorizationPolicy] {
        mesh.access.policies(of: pod, behind: services(before: pod))
    }
    package func accessPolicies(of pod: Pod) -> [AccessPolicy] { authorizationPolicies(of: pod).map(\.access) }

    /// Names of those that it is behind: a Service has pods of its own namespace only, whatever a slice says.
    private func services(before pod: Pod) -> Set<String> {
        let services = pod.addresses.lazy.flatMap { slices(withEndpointAt: $0) }.compactMap(\.service)
        return Set(services.filter { $0.namespace == pod.name.namespace }.map(\.name))
    }

    /// Of this node, by all their addresses.
    func addresses(ofPodsFor policies: [AuthorizationPolicy]) -> Set<IPAddress> {
        let pods = mesh.localPods.values.filter { pod in
            let services = policies.allSatisfy(\.targets.isEmpty) ? [] : services(before: pod)
            return policies.contains { $0.isFor(pod, behind: services) }
        }
        return Set(pods.flatMap(\.addresses))
    }

    /// The pods of this node that came behind a Service, or left it, which a policy is for; by all their addresses.
    func podsBehindTargets(_ old: EndpointSlice?, _ new: EndpointSlice?) -> Set<IPAddress> {
        let services = [old?.service, new?.service].compactMap(\.self)
        guard services.contains(where: mesh.access.areFor),
            old?.service != new?.service || old?.endpoints != new?.endpoints
        else { return [] }
        let addresses = Set([old, new].compactMap(\.self).flatMap(\.endpoints).map(\.address))
        let names = Set(addresses.flatMap(pods(at:)))
        return Set(names.compactMap { mesh.localPods[$0] }.flatMap(\.addresses))
    }
}
