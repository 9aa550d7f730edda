/// The binary form of upstream clusters and their policies.

extension UpstreamCluster: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(id)
        writer.tag(wire.rawValue)
        writer.put(endpoints)
        writer.put(policy)
    }
    init(from reader: inout WireReader) throws(WireError) {
        let id: ClusterID = try reader.take()
        let tag = try reader.byte()
        guard let wire = Wire(rawValue: tag) else { throw reader.unknownTag(tag, "protocol of a cluster") }
        self.init(id: id, wire: wire, endpoints: try reader.take())
        policy = try reader.take()
    }
}

extension Endpoint: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(address)
        writer.put(weight)
        writer.put(zone)
        writer.put(node)
        writer.put(isDraining)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(
            try reader.take(), weight: try reader.take(), zone: try reader.take(), node: try reader.take(),
            isDraining: try reader.take())
    }
}

extension UpstreamPolicy: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(loadBalancing)
        writer.put(prefersOwnZone)
        writer.put(outlierDetection)
        writer.put(maxConnections)
        writer.put(maxPendingRequests)
        writer.put(maxRequests)
        writer.put(maxRequestsPerConnection)
        writer.put(retryBudget.percent)
        writer.put(retryBudget.minConcurrency)
        writer.put(warmup)
        writer.put(connectTimeout)
        writer.put(idleTimeout)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init()
        loadBalancing = try reader.take()
        prefersOwnZone = try reader.take()
        outlierDetection = try reader.take()
        maxConnections = try reader.take()
        maxPendingRequests = try reader.take()
        maxRequests = try reader.take()
        maxRequestsPerConnection = try reader.take()
        retryBudget.percent = try reader.take()
        retryBudget.minConcurrency = try reader.take()
        warmup = try reader.take()
        connectTimeout = try reader.take()
        idleTimeout = try reader.take()
    }
}

extension UpstreamPolicy.LoadBalancing: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .leastRequest: writer.tag(0)
        case .roundRobin: writer.tag(1)
        case .random: writer.tag(2)
        case .consistentHash(let inputs):
            writer.tag(3)
            writer.put(inputs)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .leastRequest
        case 1: self = .roundRobin
        case 2: self = .random
        case 3: self = .consistentHash(try reader.take())
        case let tag: throw reader.unknownTag(tag, "load balancing")
        }
    }
}

extension UpstreamPolicy.HashInput: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .header(let name):
            writer.tag(0)
            writer.put(name)
        case .cookie(let name, let path, let ttl):
            writer.tag(1)
            writer.put(name)
            writer.put(path)
            writer.put(ttl)
        case .sourceIP: writer.tag(2)
        case .query(let name):
            writer.tag(3)
            writer.put(name)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .header(try reader.take())
        case 1: self = .cookie(name: try reader.take(), path: try reader.take(), ttl: try reader.take())
        case 2: self = .sourceIP
        case 3: self = .query(try reader.take())
        case let tag: throw reader.unknownTag(tag, "hash input")
        }
    }
}

extension UpstreamPolicy.OutlierDetection: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(consecutive5xx)
        writer.put(consecutiveGatewayErrors)
        writer.put(interval)
        writer.put(baseEjection)
        writer.put(maxEjection)
        writer.put(maxEjectionPercent)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init()
        consecutive5xx = try reader.take()
        consecutiveGatewayErrors = try reader.take()
        interval = try reader.take()
        baseEjection = try reader.take()
        maxEjection = try reader.take()
        maxEjectionPercent = try reader.take()
    }
}

extension UpstreamPolicy.Warmup: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(duration)
        writer.put(minimumPercent)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(duration: try reader.take())
        minimumPercent = try reader.take()
    }
}
