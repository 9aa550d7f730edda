/// The binary form of snapshots: services, clusters, workloads, in the order of their fields.
package import Addressing

extension IPAddress: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.tag(isIPv4 ? 4 : 16)
        writer.raw(networkBytes)
    }
    init(from reader: inout WireReader) throws(WireError) {
        let length = try reader.byte()
        guard length == 4 || length == 16 else { throw reader.unknownTag(length, "length of an address") }
        let bytes = try reader.raw(Int(length))
        guard let address = bytes.withUnsafeBytes({ IPAddress(networkBytes: $0) }) else {
            throw reader.unknownTag(length, "length of an address")
        }
        self = address
    }
}
extension SocketAddress: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(address)
        writer.put(port)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(try reader.take(), try reader.take())
    }
}

extension ProxyNode: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(name)
        writer.put(zone)
        writer.put(clusterName)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(name: try reader.take(), zone: try reader.take(), clusterName: try reader.take())
    }
}

extension Workload: WireCoded {
    func write(to writer: inout WireWriter) {
        for text in [
            namespace, pod, name, app, version, canonicalService, canonicalRevision, serviceAccount, node,
        ] { writer.put(text) }
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(
            namespace: try reader.take(), pod: try reader.take(), name: try reader.take(), app: try reader.take(),
            version: try reader.take(), canonicalService: try reader.take(), canonicalRevision: try reader.take(),
            serviceAccount: try reader.take(), node: try reader.take())
    }
}
extension AddressedWorkload: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(address)
        writer.put(workload)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(try reader.take(), try reader.take())
    }
}

extension ProxyUpdate: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(base)
        writer.put(generation)
        writer.put(node)
        writer.put(services)
        writer.put(removedServices)
        writer.put(clusters)
        writer.put(removedClusters)
        writer.put(workloads)
        writer.put(removedWorkloads)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(base: try reader.take(), generation: try reader.take(), node: try reader.take())
        services = try reader.take()
        removedServices = try reader.take()
        clusters = try reader.take()
        removedClusters = try reader.take()
        workloads = try reader.take()
        removedWorkloads = try reader.take()
    }
}

extension RoutedServiceID: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(namespace)
        writer.put(name)
        writer.put(port)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(namespace: try reader.take(), name: try reader.take(), port: try reader.take())
    }
}

/// The routes of one namespace's clients.
private struct ConsumerRoutes: WireCoded {
    let namespace: String
    let rules: [RouteRule]

    init(_ namespace: String, _ rules: [RouteRule]) {
        self.namespace = namespace
        self.rules = rules
    }
    func write(to writer: inout WireWriter) {
        writer.put(namespace)
        writer.put(rules)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(try reader.take(), try reader.take())
    }
}

extension RoutedService: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(id)
        writer.put(portName)
        writer.tag(clientProtocol.rawValue)
        writer.put(frontends)
        writer.put(ownCluster)
        writer.put(producerRoutes)
        writer.put(consumerRoutes.sorted { $0.key < $1.key }.map { ConsumerRoutes($0.key, $0.value) })
    }
    init(from reader: inout WireReader) throws(WireError) {
        let (id, portName): (RoutedServiceID, String) = (try reader.take(), try reader.take())
        let tag = try reader.byte()
        guard let spoken = RoutedProtocol(rawValue: tag) else { throw reader.unknownTag(tag, "protocol") }
        self.init(id: id, portName: portName, clientSpeaks: spoken)
        frontends = try reader.take()
        ownCluster = try reader.take()
        producerRoutes = try reader.take()
        for routes in try reader.take([ConsumerRoutes].self) { consumerRoutes[routes.namespace] = routes.rules }
    }
}
