/// Everything known about the cluster, and which services a change touches.
package import Addressing
package import RouteIR

/// What a change made out of date. Empty for a change that changed nothing.
package struct Dirty: Equatable, Sendable {
    package var services: Set<ObjectName> = []
    package var nodes: Set<String> = []
    package var serviceCIDRs = false
    /// Addresses of pods that came, went or are called otherwise, or that slices name and nobody else does.
    package var pods: Set<IPAddress> = []
    /// Namespaces whose policies for peers differ.
    package var policies: Set<String> = []
    /// Policies about callers that differ; the pods that they are for are among `pods`.
    package var accessPolicies: Set<ObjectName> = []

    package init() {}
    package var isEmpty: Bool {
        services.isEmpty && nodes.isEmpty && !serviceCIDRs && pods.isEmpty && policies.isEmpty
            && accessPolicies.isEmpty
    }

    package mutating func formUnion(_ other: Dirty) {
        services.formUnion(other.services)
        nodes.formUnion(other.nodes)
        serviceCIDRs = serviceCIDRs || other.serviceCIDRs
        pods.formUnion(other.pods)
        policies.formUnion(other.policies)
        accessPolicies.formUnion(other.accessPolicies)
    }
}

/// The objects by name. Of pods only addresses and names are kept, for people and for telemetry; where endpoints are
/// derived from them, `PodEndpoints` does it.
package struct ClusterState: Sendable {
    package private(set) var services: [ObjectName: Service] = [:]
    package private(set) var slices: [ObjectName: EndpointSlice] = [:]
    package private(set) var nodes: [String: Node] = [:]
    package private(set) var namespaces: [String: Namespace] = [:]
    package private(set) var serviceCIDRs: [String: ServiceCIDR] = [:]
    package private(set) var podAddresses: [ObjectName: [IPAddress]] = [:]
    package private(set) var workloads: [ObjectName: Workload] = [:]
    /// Several where pods use the network of their node, and where one goes while another has got its address.
    private var podNames: [IPAddress: [ObjectName]] = [:]
    package private(set) var routes: [ObjectID: Route] = [:]
    package private(set) var mesh: MeshFacts
    /// Routes by the services they are attached to, which need not exist.
    private var routeIDs: [ObjectName: Set<ObjectID>] = [:]
    /// Slices by the service they belong to. A slice may come before its service, and outlive it (spec row 64).
    private var sliceNames: [ObjectName: Set<ObjectName>] = [:]

    /// `meshNode`: where who is in the mesh matters, and for the pods of which node.
    package init(meshNode: String? = nil) { mesh = MeshFacts(node: meshNode) }

    /// The slices of a service, by name, so that the order of arrival decides nothing.
    package func slices(of service: ObjectName) -> [EndpointSlice] {
        guard let names = sliceNames[service] else { return [] }
        return (names.count > 1 ? names.sorted() : Array(names)).compactMap { slices[$0] }
    }
    /// The routes attached to a service: the older first, then by name (spec 1.9).
    package func routes(of service: ObjectName) -> [Route] {
        guard let ids = routeIDs[service] else { return [] }
        return ids.compactMap { routes[$0] }.sorted {
            ($0.creationTime, $0.name, $0.kind == .grpc ? 0 : 1) < ($1.creationTime, $1.name, $1.kind == .grpc ? 0 : 1)
        }
    }
    /// The pods that have an address: the one that got it last is the last, those that are terminating come first.
    package func pods(at address: IPAddress) -> [ObjectName] { podNames[address] ?? [] }
    /// Services that routes name as their parents, which need not exist.
    package var routedServices: Set<ObjectName> { Set(routeIDs.keys) }
    /// Every range of every ServiceCIDR object, sorted.
    package var serviceCIDRRanges: [IPPrefix] { Set(serviceCIDRs.values.flatMap(\.cidrs)).sorted() }
    /// Services that exist or have slices.
    package var knownServices: Set<ObjectName> { Set(services.keys).union(sliceNames.keys) }

    /// Every object that decides what is programmed: what a snapshot keeps. Without a service an EndpointSlice and a
    /// route decide nothing, and a change of theirs touches nothing.
    package var objects: [ClusterObject] {
        services.values.map { .service($0) }
            + slices.values.filter { $0.service != nil }.map { .endpointSlice($0) } + nodes.values.map { .node($0) }
            + serviceCIDRs.values.map { .serviceCIDR($0) }
            + routes.values.filter { !$0.parents.isEmpty }.map { .route($0) }
    }

    /// Takes a change in and says what it touched.
    package mutating func apply(_ change: Change) -> Dirty {
        switch change {
        case .upsert(.service(let new)): return put(new)
        case .upsert(.endpointSlice(let new)): return put(new)
        case .upsert(.node(let new)):
            guard nodes.updateValue(new, forKey: new.name) != new else { return Dirty() }
            return touching { $0.nodes.insert(new.name) }
        case .upsert(.namespace(let new)):
            return put(new)
        case .upsert(.serviceCIDR(let new)):
            guard serviceCIDRs.updateValue(new, forKey: new.name) != new else { return Dirty() }
            return touching { $0.serviceCIDRs = true }
        case .upsert(.pod(let new)):
            return put(new)
        case .upsert(.route(let new)): return put(new)
        case .upsert(.peerAuthentication(let new)):
            guard mesh.put(new) else { return Dirty() }
            return touching { $0.policies = [new.name.namespace] }
        case .upsert(.authorizationPolicy(let new)): return replace(new.name, with: new)
        case .delete(let id): return remove(id)
        }
    }

    private mutating func put(_ new: Service) -> Dirty {
        guard services.updateValue(new, forKey: new.name) != new else { return Dirty() }
        return touching { $0.services.insert(new.name) }
    }

    private mutating func put(_ new: EndpointSlice) -> Dirty {
        let old = slices.updateValue(new, forKey: new.name)
        guard old != new else { return Dirty() }
        mesh.replace(old, with: new)
        if old?.service != new.service {
            if let service = old?.service { unlink(new.name, from: service) }
            if let service = new.service { sliceNames[service, default: []].insert(new.name) }
        }
        return touching {
            $0.services.formUnion([old?.service, new.service].compactMap { $0 })
            $0.pods = podsInQuestion(old, new).union(podsBehindTargets(old, new))
        }
    }

    /// Addresses of pods that nobody has told of: whether a slice names them is all that is known.
    private func podsInQuestion(_ old: EndpointSlice?, _ new: EndpointSlice?) -> Set<IPAddress> {
        guard mesh.node != nil, old?.endpoints != new?.endpoints else { return [] }
        return Set(old?.unknownPods(self) ?? []).union(new?.unknownPods(self) ?? [])
    }

    private mutating func put(_ new: Namespace) -> Dirty {
        relabel(namespaces.updateValue(new, forKey: new.name), to: new)
    }

    /// A namespace enrols its pods.
    private func relabel(_ old: Namespace?, to new: Namespace?) -> Dirty {
        let labels = [old, new].map { $0.flatMap { MeshLabel($0.labels) } }
        guard labels[0] != labels[1], let name = (new ?? old)?.name else { return Dirty() }
        return touching { $0.pods = Set(mesh.pods(in: name).lazy.flatMap { podAddresses[$0] ?? [] }) }
    }

    private mutating func put(_ new: Pod) -> Dirty {
        // A pod that has ended keeps its name but not its addresses: another may have them by now.
        let addresses = new.isFinished ? [] : new.addresses
        let workload = addresses.isEmpty || new.isOnHostNetwork ? nil : Workload(new)
        let old = podAddresses[new.name] ?? []
        var touched = Set(old).symmetricDifference(addresses)
        if mesh.put(new) || workloads[new.name] != workload { touched.formUnion(addresses) }
        for address in old where !addresses.contains(address) { unlinkPod(new.name, from: address) }
        for address in addresses {
            let isKnown = old.contains(address)
            if isKnown, !new.isTerminating || podNames[address]?.first == new.name { continue }
            if isKnown { unlinkPod(new.name, from: address) }
            let end = podNames[address]?.count ?? 0
            podNames[address, default: []].insert(new.name, at: new.isTerminating ? 0 : end)
            touched.insert(address)
        }
        podAddresses[new.name] = addresses.isEmpty ? nil : addresses
        workloads[new.name] = workload
        return touching { $0.pods = touched }
    }

    private mutating func unlinkPod(_ pod: ObjectName, from address: IPAddress) {
        podNames[address]?.removeAll { $0 == pod }
        if podNames[address]?.isEmpty == true { podNames[address] = nil }
    }

    private mutating func put(_ new: Route) -> Dirty {
        let old = routes.updateValue(new, forKey: new.id)
        guard old != new else { return Dirty() }
        return relink(new.id, from: old, to: new)
    }

    /// Keeps the index of parents; all of them, old and new, are touched.
    private mutating func relink(_ id: ObjectID, from old: Route?, to new: Route?) -> Dirty {
        for parent in old?.parents ?? [] {
            routeIDs[parent.service]?.remove(id)
            if routeIDs[parent.service]?.isEmpty == true { routeIDs[parent.service] = nil }
        }
        for parent in new?.parents ?? [] { routeIDs[parent.service, default: []].insert(id) }
        let parents = (old?.parents ?? []) + (new?.parents ?? [])
        return touching { $0.services = Set(parents.map(\.service)) }
    }

    private mutating func remove(_ id: ObjectID) -> Dirty {
        switch id.kind {
        case .service:
            guard services.removeValue(forKey: id.name) != nil else { return Dirty() }
            return touching { $0.services.insert(id.name) }
        case .endpointSlice:
            let old = slices.removeValue(forKey: id.name)
            mesh.replace(old, with: nil)
            if let service = old?.service { unlink(id.name, from: service) }
            return touching {
                if let service = old?.service { $0.services = [service] }
                $0.pods = podsInQuestion(old, nil).union(podsBehindTargets(old, nil))
            }
        case .node:
            guard nodes.removeValue(forKey: id.name.name) != nil else { return Dirty() }
            return touching { $0.nodes.insert(id.name.name) }
        case .serviceCIDR:
            guard serviceCIDRs.removeValue(forKey: id.name.name) != nil else { return Dirty() }
            return touching { $0.serviceCIDRs = true }
        case .namespace: return relabel(namespaces.removeValue(forKey: id.name.name), to: nil)
        case .pod:
            workloads[id.name] = nil
            mesh.remove(pod: id.name)
            let addresses = podAddresses.removeValue(forKey: id.name) ?? []
            for address in addresses { unlinkPod(id.name, from: address) }
            return touching { $0.pods = Set(addresses) }
        case .httpRoute, .grpcRoute:
            guard let old = routes.removeValue(forKey: id) else { return Dirty() }
            return relink(id, from: old, to: nil)
        case .peerAuthentication:
            guard mesh.remove(policy: id.name) else { return Dirty() }
            return touching { $0.policies = [id.name.namespace] }
        case .authorizationPolicy: return replace(id.name, with: nil)
        }
    }

    private mutating func replace(_ policy: ObjectName, with new: AuthorizationPolicy?) -> Dirty {
        guard mesh.node != nil else { return Dirty() }
        let old = mesh.access.replace(policy, with: new)
        guard old != new else { return Dirty() }
        return touching {
            $0.accessPolicies = [policy]
            $0.pods = addresses(ofPodsFor: [old, new].compactMap(\.self))
        }
    }

    private mutating func unlink(_ slice: ObjectName, from service: ObjectName) {
        sliceNames[service]?.remove(slice)
        if sliceNames[service]?.isEmpty == true { sliceNames[service] = nil }
    }
}

private func touching(_ edit: (inout Dirty) -> Void) -> Dirty {
    var dirty = Dirty()
    edit(&dirty)
    return dirty
}
