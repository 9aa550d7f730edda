/// The head of CONNECT: what a client's node writes and a server's node reads (spec 3.2).
import Addressing
import HTTP2Wire

struct ConnectHead {
    let target: SocketAddress
    /// What the client's node says of it: who began the connection, and to which service.
    private(set) var client: SocketAddress?
    private(set) var service: String?

    private static let longestService = 300

    init(_ list: FieldList, _ facts: HeadFacts) throws(TunnelRefusal) {
        guard facts.isCONNECT, facts.protocol == nil, let authority = facts.authority else {
            throw TunnelRefusal(.badRequest, "a tunnel takes CONNECT and nothing else")
        }
        let text = list.valueText(list.fields[authority])
        guard let target = SocketAddress(text), target.port > 0 else {
            throw TunnelRefusal(.badRequest, "CONNECT wants an address and a port like 10.0.0.1:8080")
        }
        self.target = target
        for field in list.fields[facts.fieldsStart...] where field.name == .other {
            guard list.nameText(field) == "forwarded" else { continue }
            list.withValue(field) { read($0) }
            break
        }
    }

    /// RFC 7239: the first element's `for` and `host`.
    private mutating func read(_ forwarded: UnsafeRawBufferPointer) {
        let element = forwarded.prefix { $0 != UInt8(ascii: ",") }
        for pair in element.split(separator: UInt8(ascii: ";")) {
            guard let equals = pair.firstIndex(of: UInt8(ascii: "=")) else { continue }
            let name = Self.trimmed(pair[..<equals])
            let quoted = Self.trimmed(pair[(equals + 1)...])
            let value = quoted.drop { $0 == quote }.prefix { $0 != quote }
            if client == nil, Self.isName(name, "for") {
                client = SocketAddress(String(decoding: value, as: UTF8.self))
            } else if service == nil, Self.isName(name, "host"), Self.isHost(value) {
                service = String(decoding: value, as: UTF8.self)
            }
        }
    }
    private typealias Bytes = Slice<UnsafeRawBufferPointer>
    private static func trimmed(_ bytes: Bytes) -> Bytes {
        let bytes = bytes.drop { $0 == 0x20 || $0 == 0x09 }
        guard let last = bytes.lastIndex(where: { $0 != 0x20 && $0 != 0x09 }) else { return bytes.prefix(0) }
        return bytes[...last]
    }
    /// Whatever a peer writes ends in logs and series: a name of DNS, with or without a port, and nothing else.
    private static func isHost(_ bytes: Bytes) -> Bool {
        1...longestService ~= bytes.count
            && bytes.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "-._:".utf8.contains(byte)
            }
    }
    /// `name` in small letters.
    private static func isName(_ bytes: Bytes, _ name: StaticString) -> Bool {
        bytes.count == name.utf8CodeUnitCount
            && zip(bytes, UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)).allSatisfy {
                ($0 | 0x20) == $1
            }
    }

    static func fields(
        to target: SocketAddress, client: SocketAddress, service: String?, baggage: String, trace: TraceContext
    ) -> FieldList {
        var list = FieldList()
        list.append(.method, "CONNECT")
        list.append(.authority, target.description)
        var forwarded = LineWriter()
        forwarded.plain("for=\"")
        forwarded.address(client)
        forwarded.plain("\"")
        if let service {
            forwarded.plain(";host=")
            forwarded.string(service)
        }
        list.append("forwarded", String(decoding: forwarded.bytes, as: UTF8.self))
        if !baggage.isEmpty { list.append("baggage", baggage) }
        for (name, value) in trace.headers { list.append(name, value) }
        return list
    }
}

private let quote = UInt8(ascii: "\"")
