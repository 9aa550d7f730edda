/// The binary form of filters.
import RouteIR

extension RouteFilter: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .requestHeaders(let edit):
            writer.tag(0)
            writer.put(edit)
        case .responseHeaders(let edit):
            writer.tag(1)
            writer.put(edit)
        case .redirect(let redirect):
            writer.tag(2)
            writer.put(redirect)
        case .rewrite(let rewrite):
            writer.tag(3)
            writer.put(rewrite)
        case .mirror(let mirror):
            writer.tag(4)
            writer.put(mirror)
        case .cors(let policy):
            writer.tag(5)
            writer.put(policy)
        case .unresolved(let reason):
            writer.tag(6)
            writer.put(reason)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .requestHeaders(try reader.take())
        case 1: self = .responseHeaders(try reader.take())
        case 2: self = .redirect(try reader.take())
        case 3: self = .rewrite(try reader.take())
        case 4: self = .mirror(try reader.take())
        case 5: self = .cors(try reader.take())
        case 6: self = .unresolved(try reader.take())
        case let tag:
            // A request that should meet it is answered with 500: what it would have kept out stays out.
            _ = reader.rest()
            self = .unresolved("filter \(tag), which this version does not know")
        }
    }
}

extension HeaderField: WireRecord {
    init(blank: ()) { self.init("", "") }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &name)
        try coder.field(2, &value)
    }
}

extension HeaderEdit: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &self.set)
        try coder.field(2, &add)
        try coder.field(3, &remove)
    }
}

extension PathEdit: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .full(let path):
            writer.tag(0)
            writer.put(path)
        case .replacePrefix(let matched, let replacement):
            writer.tag(1)
            writer.put([matched, replacement])
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .full(try reader.take())
        case 1:
            let parts: [String] = try reader.take()
            guard parts.count == 2 else { throw WireError("a change of a prefix has \(parts.count) parts") }
            self = .replacePrefix(parts[0], with: parts[1])
        case let tag: throw reader.unknownTag(tag, "change of a path")
        }
    }
}

extension Rewrite: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &hostname)
        try coder.field(2, &path)
    }
}

extension Redirect: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &scheme)
        try coder.field(2, &hostname)
        try coder.field(3, &path)
        try coder.field(4, &port)
        try coder.field(5, &status)
    }
}

extension Mirror: WireRecord {
    init(blank: ()) { self.init(.invalid("")) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &target)
        try coder.field(2, &numerator)
        try coder.field(3, &denominator)
    }
}

extension CORSPolicy: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &allowOrigins)
        try coder.field(2, &allowMethods)
        try coder.field(3, &allowHeaders)
        try coder.field(4, &exposeHeaders)
        try coder.field(5, &allowCredentials)
        try coder.field(6, &maxAgeSeconds)
    }
}
