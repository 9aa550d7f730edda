/// The binary form of snapshots: services, upstreams, workloads, in the order of their fields.
package import Addressing
import RouteIR

extension IPAddress: WireCoded {
    func write(to writer: inout WireWriter) { writer.raw(networkBytes) }
    init(from reader: inout WireReader) throws(WireError) {
        guard let address = reader.rest().withUnsafeBytes({ IPAddress(networkBytes: $0) }) else {
            throw WireError("an address is neither 4 nor 16 bytes long")
        }
        self = address
    }
}
extension SocketAddress: WireRecord {
    init(blank: ()) { self.init(IPAddress(v4: 0), 0) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        var (address, port) = (self.address, self.port)
        try coder.field(1, &address)
        try coder.field(2, &port)
        self = SocketAddress(address, port)
    }
}

extension ProxyNode: WireRecord {
    init(blank: ()) { self.init(name: "") }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &name)
        try coder.field(2, &zone)
        try coder.field(3, &clusterName)
    }
}

extension Workload: WireRecord {
    init(blank: ()) { self.init(namespace: "", pod: "", name: "", canonicalService: "") }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &namespace)
        try coder.field(2, &pod)
        try coder.field(3, &name)
        try coder.field(4, &app)
        try coder.field(5, &version)
        try coder.field(6, &canonicalService)
        try coder.field(7, &canonicalRevision)
        try coder.field(8, &serviceAccount)
        try coder.field(9, &node)
        try coder.field(10, &isEnrolled)
    }
}
extension AddressedWorkload: WireRecord {
    init(blank: ()) { self.init(IPAddress(v4: 0), Workload(blank: ())) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &address)
        try coder.field(2, &workload)
    }
}

extension ProxyUpdate: WireRecord {
    init(blank: ()) { self.init(base: nil, generation: 0, node: ProxyNode(blank: ())) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &base)
        try coder.field(2, &generation)
        try coder.field(3, &node)
        try coder.field(4, &services)
        try coder.field(5, &removedServices)
        try coder.field(6, &upstreams)
        try coder.field(7, &removedUpstreams)
        try coder.field(8, &workloads)
        try coder.field(9, &removedWorkloads)
        try coder.field(10, &mesh)
        try coder.field(11, &meshPods)
        try coder.field(12, &removedMeshPods)
        try coder.field(13, &unknownPods)
        try coder.field(14, &removedUnknownPods)
        try coder.field(15, &policies)
        try coder.field(16, &removedPolicies)
    }
}

extension ProxyMesh: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &trustDomain)
        try coder.field(2, &aliases)
    }
}
extension MeshPod: WireRecord {
    init(blank: ()) { self.init(namespace: "", name: "", uid: "", serviceAccount: "") }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &namespace)
        try coder.field(2, &name)
        try coder.field(3, &uid)
        try coder.field(4, &serviceAccount)
        var ports = headerPorts.isEmpty ? nil : headerPorts.sorted()
        try coder.field(5, &ports)
        headerPorts = Set(ports ?? [])
        try coder.field(6, &policies)
    }
}
extension AddressedPod: WireRecord {
    init(blank: ()) { self.init(IPAddress(v4: 0), MeshPod(blank: ())) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &address)
        try coder.field(2, &pod)
    }
}

extension RoutedServiceID: WireRecord {
    init(blank: ()) { self.init(namespace: "", name: "", port: 0) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        var (namespace, name, port) = (self.namespace, self.name, self.port)
        try coder.field(1, &namespace)
        try coder.field(2, &name)
        try coder.field(3, &port)
        self = RoutedServiceID(namespace: namespace, name: name, port: port)
    }
}

/// Of a port of a Service it is the same as that port's name.
extension UpstreamID: WireRecord {
    init(blank: ()) { self.init(RoutedServiceID(blank: ())) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        var service = service
        var (subset, host, cluster) = (subset, host, cluster)
        try service.code(&coder)
        try coder.field(4, &subset)
        try coder.field(5, &host)
        try coder.field(6, &cluster)
        self = UpstreamID(service, subset: subset, host: host, cluster: cluster)
    }
}

/// The routes of one namespace's clients.
private struct ConsumerRoutes: WireRecord {
    var namespace = ""
    var rules: [RouteRule] = []

    init(_ namespace: String, _ rules: [RouteRule]) {
        self.namespace = namespace
        self.rules = rules
    }
    init(blank: ()) {}
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &namespace)
        try coder.field(2, &rules)
    }
}

extension RoutedProtocol: WireTag { static var wireName: String { "protocol" } }

extension RoutedService: WireRecord {
    init(blank: ()) { self.init(id: RoutedServiceID(blank: ()), portName: "", clientSpeaks: .http1) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        var upstream: UpstreamID? = ownUpstream == UpstreamID(id) ? nil : ownUpstream
        var consumers = consumerRoutes.sorted { $0.key < $1.key }.map { ConsumerRoutes($0.key, $0.value) }
        try coder.field(1, &id)
        try coder.field(2, &portName)
        try coder.field(3, &clientProtocol)
        try coder.field(4, &frontends)
        try coder.field(5, &upstream)
        try coder.field(6, &producerRoutes)
        try coder.field(7, &consumers)
        ownUpstream = upstream ?? UpstreamID(id)
        for routes in consumers { consumerRoutes[routes.namespace] = routes.rules }
    }
}
