/// The binary form of route rules. Regular expressions travel as text and are compiled by the reader.
import RouteIR

extension RouteRule.Kind: WireTag { static var wireName: String { "kind of route" } }

extension RouteRule: WireRecord {
    init(blank: ()) { self.init(name: "", matches: []) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &name)
        try coder.field(2, &kind)
        try coder.field(3, &matches)
        try coder.field(4, &filters)
        try coder.field(5, &backends)
        try coder.field(6, &timeouts.request)
        try coder.field(7, &timeouts.backendRequest)
        try coder.field(8, &retry)
        guard !matches.isEmpty else { throw WireError("rule \(name) has no match") }
    }
}

extension RouteMatch: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &path)
        try coder.field(2, &method)
        try coder.field(3, &headers)
        try coder.field(4, &query)
    }
}

extension Pattern: WireCoded {
    func write(to writer: inout WireWriter) { writer.put(source) }
    init(from reader: inout WireReader) throws(WireError) {
        let source: String = try reader.take()
        do throws(PatternError) {
            try self.init(source)
        } catch {
            throw WireError("the regular expression `\(source)` has \(error)")
        }
    }
}

extension PathMatch: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .exact(let path):
            writer.tag(0)
            writer.put(path)
        case .prefix(let path):
            writer.tag(1)
            writer.put(path)
        case .regex(let pattern):
            writer.tag(2)
            writer.put(pattern)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .exact(try reader.take())
        case 1: self = .prefix(try reader.take())
        case 2: self = .regex(try reader.take())
        case let tag: throw reader.unknownTag(tag, "path match")
        }
    }
}

extension FieldMatch: WireRecord {
    init(blank: ()) { self.init("", .exact("")) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &name)
        try coder.field(2, &value)
    }
}

extension FieldMatch.Value: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .exact(let text):
            writer.tag(0)
            writer.put(text)
        case .regex(let pattern):
            writer.tag(1)
            writer.put(pattern)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .exact(try reader.take())
        case 1: self = .regex(try reader.take())
        case let tag: throw reader.unknownTag(tag, "field match")
        }
    }
}

extension WeightedBackend.Target: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .upstream(let id):
            writer.tag(0)
            writer.put(id)
        case .invalid(let reason):
            writer.tag(1)
            writer.put(reason)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .upstream(try reader.take())
        case 1: self = .invalid(try reader.take())
        case let tag: throw reader.unknownTag(tag, "backend")
        }
    }
}

extension WeightedBackend: WireRecord {
    init(blank: ()) { self.init(.invalid("")) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &target)
        try coder.field(2, &weight)
        try coder.field(3, &filters)
    }
}

extension RetryPolicy.Classes: WireCoded {
    func write(to writer: inout WireWriter) { writer.tag(rawValue) }
    init(from reader: inout WireReader) throws(WireError) { self.init(rawValue: try reader.byte()) }
}
extension RetryPolicy: WireRecord {
    init(blank: ()) { self.init(attempts: 0) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &attempts)
        try coder.field(2, &codes)
        try coder.field(3, &backoff)
        try coder.field(4, &classes)
    }
}
