/// The binary form of upstreams and their policies.
import Addressing
import RouteIR

extension Upstream.Wire: WireTag { static var wireName: String { "protocol of an upstream" } }

extension Upstream: WireRecord {
    init(blank: ()) { self.init(id: UpstreamID(blank: ())) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &id)
        try coder.field(2, &wire)
        try coder.field(3, &endpoints)
        try coder.field(4, &policy)
    }
}

extension Endpoint: WireRecord {
    init(blank: ()) { self.init(SocketAddress(IPAddress(v4: 0), 0)) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &address)
        try coder.field(2, &weight)
        try coder.field(3, &zone)
        try coder.field(4, &node)
        try coder.field(5, &isDraining)
        // Of a hundred thousand endpoints hardly one is.
        var unknown: Bool? = isUnknown ? true : nil
        try coder.field(6, &unknown)
        isUnknown = unknown ?? false
    }
}

extension UpstreamPolicy: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &loadBalancing)
        try coder.field(2, &prefersOwnZone)
        try coder.field(3, &outlierDetection)
        try coder.field(4, &maxConnections)
        try coder.field(5, &maxPendingRequests)
        try coder.field(6, &maxRequests)
        try coder.field(7, &maxRequestsPerConnection)
        try coder.field(8, &retryBudget.percent)
        try coder.field(9, &retryBudget.minConcurrency)
        try coder.field(10, &warmup)
        try coder.field(11, &connectTimeout)
        try coder.field(12, &idleTimeout)
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
    private struct Cookie: WireRecord {
        var name = ""
        var path: String?
        var ttl: Duration?

        init(name: String, path: String?, ttl: Duration?) { (self.name, self.path, self.ttl) = (name, path, ttl) }
        init(blank: ()) {}
        mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
            try coder.field(1, &name)
            try coder.field(2, &path)
            try coder.field(3, &ttl)
        }
    }
    func write(to writer: inout WireWriter) {
        switch self {
        case .header(let name):
            writer.tag(0)
            writer.put(name)
        case .cookie(let name, let path, let ttl):
            writer.tag(1)
            writer.put(Cookie(name: name, path: path, ttl: ttl))
        case .sourceIP: writer.tag(2)
        case .query(let name):
            writer.tag(3)
            writer.put(name)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .header(try reader.take())
        case 1:
            let cookie: Cookie = try reader.take()
            self = .cookie(name: cookie.name, path: cookie.path, ttl: cookie.ttl)
        case 2: self = .sourceIP
        case 3: self = .query(try reader.take())
        case let tag: throw reader.unknownTag(tag, "hash input")
        }
    }
}

extension UpstreamPolicy.OutlierDetection: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &consecutive5xx)
        try coder.field(2, &consecutiveGatewayErrors)
        try coder.field(3, &interval)
        try coder.field(4, &baseEjection)
        try coder.field(5, &maxEjection)
        try coder.field(6, &maxEjectionPercent)
    }
}

extension UpstreamPolicy.Warmup: WireRecord {
    init(blank: ()) { self.init(duration: .zero) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &duration)
        try coder.field(2, &minimumPercent)
    }
}
