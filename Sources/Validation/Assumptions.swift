/// What is not known is taken to be as whoever names it wants it, so that only faults that are there are found:
/// Services that were not given exist and have the ports that routes name, and those without an address will get one.
import Addressing
import Cluster

struct Assumptions {
    private(set) var state: ClusterState
    private(set) var unknownServices: Set<ObjectName> = []

    init(_ set: ObjectSet) {
        state = set.state
        var number: UInt64 = 0
        let isWhole = set.complete.contains(.service)
        for name in set.state.services.keys.sorted() {
            guard var service = set.state.services[name] else { continue }
            number += 1
            // Which name the agents answer to is a matter of their options.
            service.proxyName = nil
            if service.clusterIPs == ObjectSet.unallocated { service.clusterIPs = Self.addresses(number) }
            // The API server gives it, too.
            if !isWhole, service.healthCheckNodePort == nil { service.healthCheckNodePort = 1 }
            if service != set.state.services[name] { put(.service(service)) }
        }
        for slice in set.state.slices.values where slice.proxyName != nil {
            var slice = slice
            slice.proxyName = nil
            put(.endpointSlice(slice))
        }
        guard !isWhole else { return }
        for (name, ports) in Self.namedPorts(set.state).sorted(by: { $0.key < $1.key }) {
            number += 1
            var service = Service(name: name)
            service.clusterIPs = Self.addresses(number)
            service.ports = ports
            unknownServices.insert(name)
            put(.service(service))
        }
    }

    private mutating func put(_ object: ClusterObject) { _ = state.apply(.upsert(object)) }

    /// Of 0.0.0.0/8 and of 100::/64: no Service has such an address.
    private static func addresses(_ number: UInt64) -> [IPAddress] {
        [IPAddress(v4: UInt32(truncatingIfNeeded: number) & 0xff_ffff), IPAddress(high: 0x100 << 48, low: number)]
    }

    /// The ports by which routes name Services that are not there.
    private static func namedPorts(_ state: borrowing ClusterState) -> [ObjectName: [Service.Port]] {
        var drafts: [ObjectName: PortDraft] = [:]
        for route in state.routes.values where !route.parents.isEmpty {
            for parent in route.parents where state.services[parent.service] == nil {
                drafts[parent.service, default: PortDraft()].add(parent.port, parent.sectionName, route.kind)
            }
            for reference in route.backendReferences
            where reference.isService && state.services[reference.name] == nil {
                drafts[reference.name, default: PortDraft()].add(reference.port, nil, route.kind)
            }
        }
        return drafts.mapValues(\.ports)
    }

    private struct PortDraft {
        private var names: [UInt16: String] = [:]
        private var numbers: Set<UInt16> = []
        private var sections: Set<String> = []
        /// What speaks gRPC takes other requests, too.
        private var appProtocol = "http"

        mutating func add(_ port: UInt16?, _ section: String?, _ kind: Route.Kind) {
            if kind == .grpc { appProtocol = "grpc" }
            switch (port, section) {
            case (let port?, let section?): names[port] = names[port].map { min($0, section) } ?? section
            case (let port?, nil): numbers.insert(port)
            case (nil, let section?): sections.insert(section)
            case (nil, nil): break
            }
        }

        var ports: [Service.Port] {
            var result: [UInt16: Service.Port] = [:]
            for (port, name) in names { result[port] = Service.Port(name: name, port: port, appProtocol: appProtocol) }
            for port in numbers where result[port] == nil {
                result[port] = Service.Port(name: "port-\(port)", port: port, appProtocol: appProtocol)
            }
            // A name without a number has some number.
            var free: UInt16 = .max
            for section in sections.sorted() where !names.values.contains(section) {
                while result[free] != nil { free -= 1 }
                result[free] = Service.Port(name: section, port: free, appProtocol: appProtocol)
            }
            if result.isEmpty { result[80] = Service.Port(name: "http", port: 80, appProtocol: appProtocol) }
            return result.values.sorted { $0.port < $1.port }
        }
    }
}

extension Route {
    /// Of rules and of what they mirror to.
    var backendReferences: [BackendReference] {
        rules.flatMap { rule in
            rule.backends.map(\.reference)
                + (rule.filters + rule.backends.flatMap(\.filters)).compactMap {
                    if case .mirror(let reference, _, _) = $0 { reference } else { nil }
                }
        }
    }
}
extension Route.BackendReference {
    var isService: Bool { (group.isEmpty || group == "core") && kind == "Service" }
}
