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
            read(list.valueText(field))
            break
        }
    }

    /// RFC 7239: the first element's `for` and `host`.
    private mutating func read(_ forwarded: String) {
        let element = forwarded.split(separator: ",", maxSplits: 1).first ?? ""
        for pair in element.split(separator: ";") {
            let parts = pair.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = parts[1].trimmed.drop { $0 == "\"" }.prefix { $0 != "\"" }
            switch parts[0].trimmed.lowercased() {
            case "for": client = client ?? SocketAddress(value)
            case "host" where value.utf8.count <= Self.longestService && service == nil: service = String(value)
            default: break
            }
        }
    }

    static func fields(
        to target: SocketAddress, client: SocketAddress, service: String?, baggage: String, trace: TraceContext
    ) -> FieldList {
        var list = FieldList()
        list.append(.method, "CONNECT")
        list.append(.authority, target.description)
        list.append("forwarded", "for=\"\(client)\"" + (service.map { ";host=\($0)" } ?? ""))
        if !baggage.isEmpty { list.append("baggage", baggage) }
        for (name, value) in trace.headers { list.append(name, value) }
        return list
    }
}
