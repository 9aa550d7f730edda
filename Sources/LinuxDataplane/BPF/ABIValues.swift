/// Between the values of the core and the structs of abi.h. Nothing here knows about maps or descriptors.
import Addressing
import CDataplaneABI
import DataplaneIR

extension heddle_address {
    init(_ address: IPAddress) { self.init(high: address.high.bigEndian, low: address.low.bigEndian) }
    var value: IPAddress { IPAddress(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low)) }
}

/// A key of the `frontends` map.
struct FrontendKey: Hashable {
    enum Scope: UInt8 {
        case address = 0  // the numbers of enum heddle_scope
        case node = 1
        case live = 2
    }
    let address: IPAddress
    let port: UInt16
    let transport: UInt8
    let scope: Scope

    init(address: IPAddress, port: UInt16, transport: UInt8, scope: Scope) {
        self.address = address
        self.port = port
        self.transport = transport
        self.scope = scope
    }
    init(_ frontend: Frontend, of id: ServicePortID) {
        self.init(
            address: frontend.address ?? Self.anyAddress(id.family), port: frontend.port,
            transport: id.transport.rawValue, scope: frontend.address == nil ? .node : .address)
    }
    /// Marks a cluster IP as being in use.
    init(live address: IPAddress) { self.init(address: address, port: 0, transport: 0, scope: .live) }

    static func anyAddress(_ family: AddressFamily) -> IPAddress {
        family == .ipv4 ? IPAddress(v4: 0) : IPAddress(high: 0, low: 0)
    }

    init?(_ raw: heddle_frontend_key) {
        guard let scope = Scope(rawValue: raw.scope) else { return nil }
        self.init(
            address: raw.address.value, port: UInt16(bigEndian: raw.port), transport: raw.protocol, scope: scope)
    }
    var raw: heddle_frontend_key {
        heddle_frontend_key(
            address: heddle_address(address), port: port.bigEndian, protocol: transport, scope: scope.rawValue,
            unused: 0)
    }
    /// As it appears in messages.
    var text: String {
        switch scope {
        case .live: "cluster IP \(address)"
        case .node: "node port \(port)/\(transportName) (\(address.family))"
        case .address: "\(SocketAddress(address, port))/\(transportName)"
        }
    }
    private var transportName: String { TransportProtocol(rawValue: transport)?.description ?? "protocol \(transport)" }
}

extension heddle_frontend {
    init(_ key: FrontendKey, serviceID: UInt32, slot: UInt32, kind: UInt8) {
        self.init()
        self.key = key.raw
        svc_id = serviceID
        self.slot = slot
        self.kind = kind
    }
}

extension Frontend {
    /// enum heddle_kind.
    var abiKind: UInt8 {
        let balanced = sourceRanges.isEmpty ? kind.abiNumber : Self.filteredKind
        return switch action {
        case .proxy: Self.proxiedKind
        case .tunnel: balanced | UInt8(HEDDLE_KIND_TUNNEL)
        case .balance: balanced
        }
    }
    private static let filteredKind: UInt8 = 4
    private static let proxiedKind: UInt8 = 5
    /// The maps do not hold the ranges, only that there are some.
    var withoutRanges: Frontend {
        sourceRanges.isEmpty ? self : Frontend(kind, address, port, sourceRanges: [.some], action: action)
    }

    init?(abiKind: UInt8, _ address: IPAddress?, _ port: UInt16) {
        let tunnels = abiKind & UInt8(HEDDLE_KIND_TUNNEL) != 0
        let abiKind = abiKind & ~UInt8(HEDDLE_KIND_TUNNEL)
        let action = tunnels ? Action.tunnel : .balance
        if abiKind == Self.proxiedKind {
            self.init(.clusterIP, address, port, action: .proxy)
        } else if abiKind == Self.filteredKind {
            self.init(.loadBalancer, address, port, sourceRanges: [.some], action: action)
        } else {
            guard let kind = Kind(abiNumber: abiKind), !tunnels || kind != .nodePort else { return nil }
            self.init(kind, address, port, action: action)
        }
    }
}

extension IPPrefix {
    /// Stands for ranges that are known to exist.
    fileprivate static let some = IPPrefix(host: IPAddress(high: 0, low: 0))
}

extension Frontend.Kind {
    /// enum heddle_kind.
    var abiNumber: UInt8 {
        switch self {
        case .clusterIP: 0
        case .externalIP: 1
        case .loadBalancer: 2
        case .nodePort: 3
        }
    }
    init?(abiNumber: UInt8) {
        guard let kind = Self.allCases.first(where: { $0.abiNumber == abiNumber }) else { return nil }
        self = kind
    }
}

extension heddle_service_name {
    /// nil when a name does not fit; Kubernetes allows 63 characters.
    init?(_ id: ServicePortID, slot: UInt32) {
        self.init()
        self.slot = slot
        `protocol` = id.transport.rawValue
        family = id.family.rawValue
        guard copyText(id.namespace, to: &name_space), copyText(id.service, to: &service),
            copyText(id.portName, to: &port_name)
        else { return nil }
    }
    var id: ServicePortID? {
        guard let transport = TransportProtocol(rawValue: self.protocol), let family = AddressFamily(rawValue: family)
        else { return nil }
        return ServicePortID(
            namespace: text(name_space), service: text(service), portName: text(port_name), transport: transport,
            family: family)
    }
}

extension heddle_service_name {
    /// Of all bytes. The hash has a key that this process drew.
    var digest: UInt64 {
        var hasher = Hasher()
        withUnsafeBytes(of: self) { hasher.combine(bytes: $0) }
        return UInt64(bitPattern: Int64(hasher.finalize()))
    }
}

/// Copies with a zero at the end; false when it does not fit.
func copyText<Field>(_ text: String, to field: inout Field) -> Bool {
    var text = text
    return withUnsafeMutableBytes(of: &field) { field in
        text.withUTF8 { text in
            guard text.count < field.count else { return false }
            field.copyBytes(from: text)
            field[text.count] = 0
            return true
        }
    }
}

/// Up to the first zero.
func text<Field>(_ field: Field) -> String {
    withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

/// The word services[slot]: where the block is and which publication it belongs to. 0: nothing is published.
struct Published: Equatable {
    var base: UInt32
    var generation: UInt32

    init(base: UInt32, generation: UInt32) {
        self.base = base
        self.generation = generation
    }
    init(word: UInt64) {
        (base, generation) = withUnsafeBytes(of: word) {
            ($0.load(as: UInt32.self), $0.load(fromByteOffset: 4, as: UInt32.self))
        }
    }
    var word: UInt64 {
        withUnsafeBytes(of: (base, generation)) { $0.load(as: UInt64.self) }
    }
}
