/// The binary form of access policies. What a newer release may say that this one does not know is a case and no field,
/// so that it is an error: a rule without one of its conditions would let in too many.
import Addressing
import RouteIR

extension IPPrefix: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.tag(UInt8(length))
        writer.put(address)
    }
    init(from reader: inout WireReader) throws(WireError) {
        let length = Int(try reader.byte())
        guard let prefix = IPPrefix(try reader.take(), length: length) else {
            throw WireError("a prefix of \(length) bits is longer than its address")
        }
        self = prefix
    }
}

extension PolicyAction: WireTag { static var wireName: String { "action of a policy" } }
extension PolicyAddress: WireTag { static var wireName: String { "address of a policy" } }

extension AccessPolicy: WireRecord {
    init(blank: ()) { self.init(name: "", action: .deny, isUnreadable: true) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &name)
        try coder.field(2, &action)
        try coder.field(3, &isDryRun)
        try coder.field(4, &isUnreadable)
        try coder.field(5, &rules)
    }
}

extension PolicyRule: WireRecord {
    init(blank: ()) { self.init() }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        var (sources, operations, conditions) = (self.sources, self.operations, self.conditions)
        try coder.field(1, &sources)
        try coder.field(2, &operations)
        try coder.field(3, &conditions)
        self = PolicyRule(sources: sources, operations: operations, conditions: conditions)
    }
}

extension PolicyTest: WireRecord {
    init(blank: ()) { self.init(.nothing) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &operand)
        try coder.field(2, &isNegated)
        try coder.field(3, &hasUnreadable)
    }
}

extension PolicyTest.Operand: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .text(let text, let matches):
            writer.tag(0)
            writer.delimited(text)
            writer.put(matches)
        case .address(let address, let prefixes):
            writer.tag(1)
            writer.put(address)
            writer.put(prefixes)
        case .port(let ports):
            writer.tag(2)
            writer.put(ports)
        case .nothing: writer.tag(3)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .text(try reader.delimited(), try reader.take())
        case 1: self = .address(try PolicyAddress(from: &reader), try reader.take())
        case 2: self = .port(try reader.take())
        case 3: self = .nothing
        case let tag: throw reader.unknownTag(tag, "operand of a policy")
        }
    }
}

extension PolicyText: WireCoded {
    /// Those without more to say, by their tags.
    private static let plain: [PolicyText] = [
        .principal, .namespace, .serviceAccount, .trustDomain, .serverName, .host, .method, .path, .requestPrincipal,
        .audience, .presenter,
    ]
    private static let headerTag: UInt8 = 32
    private static let claimTag: UInt8 = 33

    func write(to writer: inout WireWriter) {
        switch self {
        case .header(let name):
            writer.tag(Self.headerTag)
            writer.put(name)
        case .claim(let path):
            writer.tag(Self.claimTag)
            writer.put(path)
        default: writer.tag(UInt8(Self.plain.firstIndex(of: self) ?? Self.plain.count))
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case Self.headerTag: self = .header(try reader.take())
        case Self.claimTag: self = .claim(try reader.take())
        case let tag:
            guard tag < Self.plain.count else { throw reader.unknownTag(tag, "attribute of a policy") }
            self = Self.plain[Int(tag)]
        }
    }
}

extension TextMatch: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .exact(let text):
            writer.tag(0)
            writer.put(text)
        case .prefix(let text):
            writer.tag(1)
            writer.put(text)
        case .suffix(let text):
            writer.tag(2)
            writer.put(text)
        case .present: writer.tag(3)
        case .template(let template):
            writer.tag(4)
            writer.put(template.text)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .exact(try reader.take())
        case 1: self = .prefix(try reader.take())
        case 2: self = .suffix(try reader.take())
        case 3: self = .present
        case 4:
            let text: String = try reader.take()
            guard let template = PathTemplate(text) else { throw WireError("`\(text)` is no template of a path") }
            self = .template(template)
        case let tag: throw reader.unknownTag(tag, "text match")
        }
    }
}
