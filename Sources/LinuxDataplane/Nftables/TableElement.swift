/// One element of one of our sets, and its form in the kernel.
import Addressing
import Netlink
import Nftables

/// Which element: the set and the fields of the key that this set has; the others stay zero.
struct ElementKey: Hashable, Sendable {
    let set: TableSet
    var transport: UInt8 = 0
    var port: UInt16 = 0
    /// Slot of an endpoint; in `serviceCIDRs` 1 for the first address behind a range; the generation's number.
    var slot: UInt32 = 0
    var address = IPAddress(high: 0, low: 0)
    /// `sourceRanges` only: the clients, from this address ...
    var rangeStart = IPAddress(high: 0, low: 0)
    /// ... to this one.
    var rangeEnd = IPAddress(high: 0, low: 0)

    init(_ set: TableSet) { self.set = set }

    init(_ set: TableSet, _ address: IPAddress) {
        self.set = set
        self.address = address
    }
    init(_ set: TableSet, _ address: IPAddress?, _ transport: TransportProtocol, _ port: UInt16, slot: Int = 0) {
        self.set = set
        self.address = address ?? self.address
        self.transport = transport.rawValue
        self.port = port
        self.slot = UInt32(slot)
    }
}

extension ElementKey {
    /// By hand, because a full comparison hashes hundreds of thousands: few words, and only those that tell apart.
    func hash(into hasher: inout Hasher) {
        hasher.combine(UInt64(set.rawValue) << 56 | UInt64(transport) << 48 | UInt64(port) << 32 | UInt64(slot))
        hasher.combine(address.low ^ address.high)
        if set == .sourceRanges { hasher.combine(rangeStart.low ^ rangeStart.high) }
    }
}

enum ElementValue: Hashable, Sendable {
    case none
    case verdict(RuleVerdict)
    case endpoint(SocketAddress)
}

struct TableElement: Hashable, Sendable {
    let key: ElementKey
    var value = ElementValue.none
    /// For people, and for `dump-maps`: the name of the service, what is special about an endpoint.
    var comment = ""
}

// MARK: Text

extension ElementKey: CustomStringConvertible {
    private var service: String { "\(protocolName) . \(port)" }
    private var protocolName: String {
        TransportProtocol(rawValue: transport)?.description.lowercased() ?? "\(transport)"
    }
    var description: String {
        switch set {
        case .clusterIPs, .nodePortIPs, .meshClients, .meshAddresses: "\(address)"
        case .serviceIPs, .noEndpointServices, .firewallIPs: "\(address) . \(service)"
        case .serviceNodePorts, .noEndpointNodePorts: service
        case .endpoints: "\(address) . \(service) . \(slot)"
        case .nodePortEndpoints: "\(service) . \(slot)"
        case .sourceRanges: "\(address) . \(service) . \(rangeStart)-\(rangeEnd)"
        case .hairpin: "\(address) . \(address)"
        case .serviceCIDRs: slot == 0 ? "from \(address)" : "below \(address)"
        case .generation: "\(slot)"
        }
    }
}

extension TableElement: CustomStringConvertible {
    var description: String {
        let text =
            switch value {
            case .none: "\(key)"
            case .verdict(let verdict): "\(key) : \(verdict.text)"
            case .endpoint(let endpoint): "\(key) : \(endpoint.address) . \(endpoint.port)"
            }
        return comment.isEmpty ? text : text + " \"\(comment)\""
    }
}

extension RuleVerdict {
    fileprivate var text: String {
        switch self {
        case .drop: "drop"
        case .accept: "accept"
        case .jump(let chain): "jump \(chain)"
        case .goto(let chain): "goto \(chain)"
        }
    }
}

// MARK: Encoding

extension MessageWriter {
    mutating func put(_ element: TableElement) {
        let key = element.key
        putElementKey { $0.append(key, rangeBound: key.rangeStart) }
        if key.set == .sourceRanges { putElementKeyEnd { $0.append(key, rangeBound: key.rangeEnd) } }
        if key.set == .serviceCIDRs, key.slot == 1 { putElementIntervalEnd() }
    }
    /// With what a deletion need not say.
    mutating func putWhole(_ element: TableElement) {
        put(element)
        switch element.value {
        case .none: break
        case .verdict(let verdict): putElementVerdict(verdict)
        case .endpoint(let endpoint):
            putElementValue { value in
                value.append(endpoint.address)
                value.append(endpoint.port.bigEndian)
                value.append(UInt16(0))
            }
        }
        if !element.comment.isEmpty { putElementComment(element.comment) }
    }

    /// Each field of a concatenation is padded to four bytes.
    private mutating func append(_ key: ElementKey, rangeBound: IPAddress) {
        switch key.set {
        case .clusterIPs, .nodePortIPs, .serviceCIDRs, .meshClients, .meshAddresses: append(key.address)
        case .hairpin:
            append(key.address)
            append(key.address)
        case .serviceIPs, .noEndpointServices, .firewallIPs:
            append(key.address)
            appendService(key)
        case .serviceNodePorts, .noEndpointNodePorts: appendService(key)
        case .endpoints:
            append(key.address)
            appendService(key)
            append(key.slot)
        case .nodePortEndpoints:
            appendService(key)
            append(key.slot)
        case .sourceRanges:
            append(key.address)
            appendService(key)
            append(rangeBound)
        case .generation: append(key.slot)
        }
    }
    private mutating func appendService(_ key: ElementKey) {
        append(UInt32(key.transport).littleEndian)
        append(key.port.bigEndian)
        append(UInt16(0))
    }
}

// MARK: Decoding

extension TableElement {
    /// nil when the bytes are not of the set's shape.
    init?(_ set: TableSet, _ family: AddressFamily, _ element: borrowing ObservedElement) {
        guard var key = ElementKey(set, family, element.key) else { return nil }
        if set == .sourceRanges {
            guard let end = ElementKey(set, family, element.keyEnd) else { return nil }
            key.rangeEnd = end.rangeStart
        }
        if set == .serviceCIDRs {
            key.slot = element.isIntervalEnd ? 1 : 0
            // nft and older kernels show the space before the first range as an end at zero.
            if key.slot == 1, key.address.isUnspecified { return nil }
        }
        var value = ElementValue.none
        if let verdict = element.verdict {
            value = .verdict(verdict)
        } else if set == .endpoints || set == .nodePortEndpoints {
            var fields = Fields(element.value)
            guard let address = fields.address(family), let port = fields.port() else { return nil }
            value = .endpoint(SocketAddress(address, port))
        }
        self.init(key: key, value: value, comment: element.comment)
    }
}

extension ElementKey {
    fileprivate init?(_ set: TableSet, _ family: AddressFamily, _ bytes: RawSpan) {
        self.init(set)
        var fields = Fields(bytes)
        switch set {
        case .clusterIPs, .nodePortIPs, .serviceCIDRs, .hairpin, .serviceIPs, .noEndpointServices, .firewallIPs,
            .endpoints, .sourceRanges, .meshClients, .meshAddresses:
            guard let address = fields.address(family) else { return nil }
            self.address = address
        case .serviceNodePorts, .noEndpointNodePorts, .nodePortEndpoints, .generation: break
        }
        switch set {
        case .serviceIPs, .noEndpointServices, .firewallIPs, .endpoints, .sourceRanges, .serviceNodePorts,
            .noEndpointNodePorts, .nodePortEndpoints:
            guard let transport = fields.word(), let port = fields.port() else { return nil }
            self.transport = UInt8(truncatingIfNeeded: UInt32(littleEndian: transport))
            self.port = port
        case .clusterIPs, .nodePortIPs, .serviceCIDRs, .hairpin, .meshClients, .meshAddresses, .generation: break
        }
        switch set {
        case .endpoints, .nodePortEndpoints, .generation:
            guard let slot = fields.word() else { return nil }
            self.slot = slot
        case .sourceRanges:
            guard let bound = fields.address(family) else { return nil }
            rangeStart = bound
        default: break
        }
    }
}

/// Reads the fields of a concatenation one after the other.
private struct Fields: ~Escapable {
    private let bytes: RawSpan
    private var at = 0

    @_lifetime(copy bytes)
    init(_ bytes: RawSpan) { self.bytes = bytes }

    mutating func word() -> UInt32? {
        guard at + 4 <= bytes.byteCount else { return nil }
        defer { at += 4 }
        return bytes.unsafeLoadUnaligned(fromByteOffset: at, as: UInt32.self)
    }
    mutating func port() -> UInt16? { word().map { UInt16(bigEndian: UInt16(truncatingIfNeeded: $0)) } }
    mutating func address(_ family: AddressFamily) -> IPAddress? {
        let end = at + family.byteCount
        guard end <= bytes.byteCount else { return nil }
        defer { at = end }
        return bytes.extracting(at..<end).withUnsafeBytes { IPAddress(networkBytes: $0) }
    }
}
