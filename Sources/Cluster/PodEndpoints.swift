/// Endpoints from Pods, for services that select pods and have no EndpointSlice: what the cluster's endpoint slice
/// controller would write, for manifests where nobody runs one. Incremental: a change costs what it touches, found
/// through indexes of labels.
import Addressing

package struct PodEndpoints: Sendable {
    private struct Label: Hashable {
        var namespace: String
        var key: String
        var value: String
    }

    /// What a service says about its derived slices: a fraction of it, because all services with a selector are kept.
    private struct Selecting {
        var selector: [String: String]
        var ports: [Service.Port]
        var hasIPv4: Bool
        var hasIPv6: Bool
        var publishesNotReady: Bool
        var hasHeadlessLabel: Bool
        var proxyName: String?
    }

    /// Services with a selector.
    private var services: [ObjectName: Selecting] = [:]
    private var pods: [ObjectName: Pod] = [:]
    private var podsByLabel: [Label: Set<ObjectName>] = [:]
    /// Each service under one label of its selector: a pod can only be selected if it carries that label.
    private var servicesByLabel: [Label: Set<ObjectName>] = [:]
    /// Slices that exist, with the service they belong to.
    private var slices: [ObjectName: ObjectName?] = [:]
    private var sliceCounts: [ObjectName: Int] = [:]
    /// What was derived and is in force.
    private var derived: [ObjectName: [ObjectName: EndpointSlice]] = [:]

    package init() {}

    /// Takes a batch of changes in and returns the changes of derived slices that belong behind it in the same batch.
    package mutating func apply(_ changes: [Change]) -> [Change] {
        var dirty: Set<ObjectName> = []
        for change in changes {
            switch change {
            case .upsert(.service(let service)): set(service.name, service, &dirty)
            case .upsert(.pod(let pod)): set(pod.name, pod, &dirty)
            case .upsert(.endpointSlice(let slice)): setSlice(slice.name, .some(slice.service), &dirty)
            case .delete(let id):
                switch id.kind {
                case .service: set(id.name, nil as Service?, &dirty)
                case .pod: set(id.name, nil as Pod?, &dirty)
                case .endpointSlice: setSlice(id.name, nil, &dirty)
                default: break
                }
            default: break
            }
        }
        return dirty.sorted().flatMap { update($0) }
    }

    // MARK: Indexes

    private mutating func set(_ name: ObjectName, _ service: Service?, _ dirty: inout Set<ObjectName>) {
        if let old = services.removeValue(forKey: name), let label = indexLabel(name, old.selector) {
            servicesByLabel.remove(name, under: label)
            dirty.insert(name)
        }
        guard let service, service.type != .externalName, let label = indexLabel(name, service.selector) else { return }
        services[name] = Selecting(
            selector: service.selector, ports: service.ports,
            hasIPv4: service.clusterIPs.contains { $0.family == .ipv4 },
            hasIPv6: service.clusterIPs.contains { $0.family == .ipv6 },
            publishesNotReady: service.publishNotReadyAddresses, hasHeadlessLabel: service.hasHeadlessLabel,
            proxyName: service.proxyName)
        servicesByLabel[label, default: []].insert(name)
        dirty.insert(name)
    }

    private mutating func set(_ name: ObjectName, _ pod: Pod?, _ dirty: inout Set<ObjectName>) {
        if let old = pods.removeValue(forKey: name) {
            for (key, value) in old.labels {
                podsByLabel.remove(name, under: Label(namespace: name.namespace, key: key, value: value))
            }
            dirty.formUnion(selecting(old))
        }
        guard let pod else { return }
        pods[name] = pod
        for (key, value) in pod.labels {
            podsByLabel[Label(namespace: name.namespace, key: key, value: value), default: []].insert(name)
        }
        dirty.formUnion(selecting(pod))
    }

    /// `service`: nil for a slice that is gone, `.some(nil)` for one that belongs to nobody.
    private mutating func setSlice(_ name: ObjectName, _ service: ObjectName??, _ dirty: inout Set<ObjectName>) {
        let old = slices.removeValue(forKey: name) ?? nil
        let new = service ?? nil
        if let service { slices[name] = .some(service) }
        guard old != new else { return }
        if let old { count(old, -1, &dirty) }
        if let new { count(new, 1, &dirty) }
    }
    private mutating func count(_ service: ObjectName, _ difference: Int, _ dirty: inout Set<ObjectName>) {
        let count = sliceCounts[service, default: 0] + difference
        sliceCounts[service] = count == 0 ? nil : count
        dirty.insert(service)
    }

    /// The label of a selector that sorts first; nil for an empty one, which selects nothing.
    private func indexLabel(_ service: ObjectName, _ selector: [String: String]) -> Label? {
        guard let key = selector.keys.min(), let value = selector[key] else { return nil }
        return Label(namespace: service.namespace, key: key, value: value)
    }

    private func selecting(_ pod: Pod) -> [ObjectName] {
        pod.labels.flatMap { key, value in
            (servicesByLabel[Label(namespace: pod.name.namespace, key: key, value: value)] ?? [])
                .filter { services[$0].map { selects($0, pod) } ?? false }
        }
    }
    private func selects(_ service: Selecting, _ pod: Pod) -> Bool {
        service.selector.allSatisfy { pod.labels[$0] == $1 }
    }

    /// The pods a service selects, sorted by name; looks only at those with its rarest label.
    private func selected(by service: Selecting, in namespace: String) -> [Pod] {
        let candidates = service.selector.map { key, value in
            podsByLabel[Label(namespace: namespace, key: key, value: value)] ?? []
        }
        guard let fewest = candidates.min(by: { $0.count < $1.count }) else { return [] }
        return fewest.sorted().compactMap { pods[$0] }.filter { selects(service, $0) }
    }

    // MARK: Derivation

    private mutating func update(_ name: ObjectName) -> [Change] {
        let old = derived[name] ?? [:]
        var new: [ObjectName: EndpointSlice] = [:]
        if let service = services[name], sliceCounts[name] == nil {
            for slice in derive(name, service) { new[slice.name] = slice }
        }
        derived[name] = new.isEmpty ? nil : new
        var changes: [Change] = []
        for (slice, value) in new.sorted(by: { $0.key < $1.key }) where old[slice] != value {
            changes.append(.upsert(.endpointSlice(value)))
        }
        // A slice somebody wrote under our name is theirs now.
        for slice in old.keys.sorted() where new[slice] == nil && slices[slice] == nil {
            changes.append(.delete(ObjectID(.endpointSlice, slice)))
        }
        return changes
    }

    /// One slice for each family and each set of port numbers: pods may give one port name different numbers.
    private func derive(_ service: ObjectName, _ selecting: Selecting) -> [EndpointSlice] {
        let pods = selected(by: selecting, in: service.namespace).filter { !$0.isFinished }
        let families = (selecting.hasIPv4 ? [AddressFamily.ipv4] : []) + (selecting.hasIPv6 ? [.ipv6] : [])
        return families.flatMap { family in
            var slices: [ObjectName: EndpointSlice] = [:]
            for pod in pods {
                guard let address = pod.addresses.first(where: { $0.family == family }) else { continue }
                let ports = selecting.ports.compactMap { port in
                    pod.number(of: port).map {
                        EndpointSlice.Port(name: port.name, transport: port.transport, port: $0)
                    }
                }
                guard !ports.isEmpty else { continue }
                let name = sliceName(service, selecting, family, ports)
                var slice =
                    slices[name]
                    ?? EndpointSlice(
                        name: name, serviceName: service.name, addressType: family == .ipv4 ? .ipv4 : .ipv6)
                slice.ports = ports
                slice.proxyName = selecting.proxyName
                slice.hasHeadlessLabel = selecting.hasHeadlessLabel
                slice.endpoints.append(endpoint(pod, address, selecting))
                slices[name] = slice
            }
            return Array(slices.values)
        }
    }

    private func endpoint(_ pod: Pod, _ address: IPAddress, _ service: Selecting) -> EndpointSlice.Endpoint {
        let isReady = service.publishesNotReady || pod.isReady && !pod.isTerminating
        let conditions = EndpointSlice.Conditions(
            ready: isReady, serving: pod.isReady, terminating: pod.isTerminating)
        return EndpointSlice.Endpoint(address, conditions: conditions.union(.ofPod), nodeName: pod.nodeName)
    }

    /// `web-heddle-ipv4`, and with the numbers behind it where pods decide them, so that a pod with other numbers never
    /// renames the slice of the rest.
    private func sliceName(
        _ service: ObjectName, _ selecting: Selecting, _ family: AddressFamily, _ ports: [EndpointSlice.Port]
    ) -> ObjectName {
        var name = "\(service.name)-heddle-\(family == .ipv4 ? "ipv4" : "ipv6")"
        for port in selecting.ports {
            guard case .name = port.targetPort else { continue }
            name += "-" + (ports.first { $0.name == port.name }.map { "\($0.port)" } ?? "none")
        }
        return ObjectName(service.namespace, name)
    }
}

extension Pod {
    /// The number a service port means on this pod (spec row 19); nil if the pod has no port of that name.
    fileprivate func number(of port: Service.Port) -> UInt16? {
        switch port.targetPort {
        case .number(let number): number
        case .name(let name): namedPorts.first { $0.name == name && $0.transport == port.transport }?.port
        }
    }
}

extension Dictionary {
    mutating func remove<Element>(_ element: Element, under key: Key) where Value == Set<Element> {
        self[key]?.remove(element)
        if self[key]?.isEmpty == true { self[key] = nil }
    }
}
