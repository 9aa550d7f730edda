/// Everything known about the cluster, and which services a change touches.
package import Addressing

/// What a change made out of date. Empty for a change that changed nothing.
package struct Dirty: Equatable, Sendable {
    package var services: Set<ObjectName> = []
    package var nodes: Set<String> = []
    package var serviceCIDRs = false

    package init() {}
    package var isEmpty: Bool { services.isEmpty && nodes.isEmpty && !serviceCIDRs }

    package mutating func formUnion(_ other: Dirty) {
        services.formUnion(other.services)
        nodes.formUnion(other.nodes)
        serviceCIDRs = serviceCIDRs || other.serviceCIDRs
    }
}

/// The objects by name. Of pods only the addresses are kept, so that a person can name one; where endpoints are derived
/// from them, `PodEndpoints` does it.
package struct ClusterState: Sendable {
    package private(set) var services: [ObjectName: Service] = [:]
    package private(set) var slices: [ObjectName: EndpointSlice] = [:]
    package private(set) var nodes: [String: Node] = [:]
    package private(set) var namespaces: [String: Namespace] = [:]
    package private(set) var serviceCIDRs: [String: ServiceCIDR] = [:]
    package private(set) var podAddresses: [ObjectName: [IPAddress]] = [:]
    /// Slices by the service they belong to. A slice may come before its service, and outlive it (spec row 64).
    private var sliceNames: [ObjectName: Set<ObjectName>] = [:]

    package init() {}

    /// The slices of a service, by name, so that the order of arrival decides nothing.
    package func slices(of service: ObjectName) -> [EndpointSlice] {
        guard let names = sliceNames[service] else { return [] }
        return (names.count > 1 ? names.sorted() : Array(names)).compactMap { slices[$0] }
    }
    /// Every range of every ServiceCIDR object, sorted.
    package var serviceCIDRRanges: [IPPrefix] { Set(serviceCIDRs.values.flatMap(\.cidrs)).sorted() }
    /// Services that exist or have slices.
    package var knownServices: Set<ObjectName> { Set(services.keys).union(sliceNames.keys) }

    /// Takes a change in and says what it touched.
    package mutating func apply(_ change: Change) -> Dirty {
        switch change {
        case .upsert(.service(let new)): return put(new)
        case .upsert(.endpointSlice(let new)): return put(new)
        case .upsert(.node(let new)):
            guard nodes.updateValue(new, forKey: new.name) != new else { return Dirty() }
            return touching { $0.nodes.insert(new.name) }
        case .upsert(.namespace(let new)):
            namespaces[new.name] = new
            return Dirty()
        case .upsert(.serviceCIDR(let new)):
            guard serviceCIDRs.updateValue(new, forKey: new.name) != new else { return Dirty() }
            return touching { $0.serviceCIDRs = true }
        case .upsert(.pod(let new)):
            podAddresses[new.name] = new.addresses.isEmpty ? nil : new.addresses
            return Dirty()
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
        if old?.service != new.service {
            if let service = old?.service { unlink(new.name, from: service) }
            if let service = new.service { sliceNames[service, default: []].insert(new.name) }
        }
        return touching { $0.services.formUnion([old?.service, new.service].compactMap { $0 }) }
    }

    private mutating func remove(_ id: ObjectID) -> Dirty {
        switch id.kind {
        case .service:
            guard services.removeValue(forKey: id.name) != nil else { return Dirty() }
            return touching { $0.services.insert(id.name) }
        case .endpointSlice:
            guard let service = slices.removeValue(forKey: id.name)?.service else { return Dirty() }
            unlink(id.name, from: service)
            return touching { $0.services.insert(service) }
        case .node:
            guard nodes.removeValue(forKey: id.name.name) != nil else { return Dirty() }
            return touching { $0.nodes.insert(id.name.name) }
        case .serviceCIDR:
            guard serviceCIDRs.removeValue(forKey: id.name.name) != nil else { return Dirty() }
            return touching { $0.serviceCIDRs = true }
        case .namespace:
            namespaces[id.name.name] = nil
            return Dirty()
        case .pod:
            podAddresses[id.name] = nil
            return Dirty()
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
