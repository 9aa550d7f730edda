/// Pieces that our rules are put together from, for one family.
import Addressing
import DataplaneIR
import Nftables

struct RuleParts {
    let family: AddressFamily
    private let node: NodeProgram
    /// Set before routing on what postrouting shall masquerade, cleared there; other bits stay (spec row 83).
    private let masqueradeMark: UInt32

    init(family: AddressFamily, node: NodeProgram) {
        self.family = family
        self.node = node
        masqueradeMark = 1 << UInt32(node.masqueradeBit)
    }

    /// Registers an address takes.
    var addressRegisters: UInt32 { family == .ipv4 ? 1 : 4 }
    private var addressLength: UInt32 { UInt32(family.byteCount) }

    func source(to register: UInt32 = 0, bytes: UInt32? = nil) -> Expression {
        .payload(.network, offset: family == .ipv4 ? 12 : 8, length: bytes ?? addressLength, to: register)
    }
    func destination(to register: UInt32 = 0) -> Expression {
        .payload(.network, offset: family == .ipv4 ? 16 : 24, length: addressLength, to: register)
    }
    func destinationPort(to register: UInt32) -> Expression {
        .payload(.transport, offset: 2, length: 2, to: register)
    }
    /// `ip daddr . meta l4proto . th dport`
    var service: [Expression] { [destination()] + nodePortService(from: addressRegisters) }
    /// `meta l4proto . th dport`
    func nodePortService(from register: UInt32 = 0) -> [Expression] {
        [.meta(.transportProtocol, to: register), destinationPort(to: register + 1)]
    }

    var isNewConnection: [Expression] { isSet(.state, bit: 1 << 3) }
    var isDestinationNATed: [Expression] { isSet(.status, bit: 1 << 5) }
    private func isSet(_ key: ConntrackKey, bit: UInt32) -> [Expression] {
        [
            .conntrack(key, to: 0), .bitwise(register: 0, mask: bytes(bit), xor: bytes(0)),
            .compare(register: 0, isEqual: false, bytes(0)),
        ]
    }
    var hasMark: [Expression] {
        [
            .meta(.mark, to: 0), .bitwise(register: 0, mask: bytes(masqueradeMark), xor: bytes(0)),
            .compare(register: 0, isEqual: false, bytes(0)),
        ]
    }
    var setMark: [Expression] {
        [
            .meta(.mark, to: 0), .bitwise(register: 0, mask: bytes(~masqueradeMark), xor: bytes(masqueradeMark)),
            .setMeta(.mark, from: 0),
        ]
    }
    var clearMark: [Expression] {
        [
            .meta(.mark, to: 0), .bitwise(register: 0, mask: bytes(~0), xor: bytes(masqueradeMark)),
            .setMeta(.mark, from: 0),
        ]
    }
    /// `ip saddr @mesh-clients`
    var isFromMesh: [Expression] { [source(), .lookup(set: TableSet.meshClients.name, key: 0)] }
    /// `ip daddr @mesh-addresses`
    var meshAddress: [Expression] { [destination(), .lookup(set: TableSet.meshAddresses.name, key: 0)] }
    /// `ip daddr 10.244.0.0/16 ip daddr != @service-cidrs`
    func unlisted(_ range: IPPrefix) -> [Expression] {
        [destination()] + mask(range) + [.compare(register: 0, isEqual: true, range.address.networkBytes)]
            + [destination(), .lookup(set: TableSet.serviceCIDRs.name, key: 0, inverted: true)]
    }
    /// A connection that a pod of the mesh opens, but not a tunnel. A later packet of a connection older than the rules
    /// is none that opens one, whatever connection tracking takes it for.
    func opensMeshConnection(to destination: [Expression]) -> [Expression] {
        isFromMesh + destination
            + [
                .meta(.transportProtocol, to: 0),
                .compare(register: 0, isEqual: true, [TransportProtocol.tcp.rawValue]),
                destinationPort(to: 0),
                .compare(
                    register: 0, isEqual: false,
                    [UInt8(MeshProgram.tunnelPort >> 8), UInt8(MeshProgram.tunnelPort & 255)]),
            ] + isFirstPacket
    }
    /// Of TCP: SYN without ACK, FIN and RST.
    var isFirstPacket: [Expression] {
        [
            .payload(.transport, offset: 13, length: 1, to: 0), .bitwise(register: 0, mask: [0x17], xor: [0]),
            .compare(register: 0, isEqual: true, [0x02]),
        ]
    }

    /// RTN_LOCAL: an address of this node.
    var isSourceLocal: [Expression] { [.sourceAddressType(to: 0), .compare(register: 0, isEqual: true, bytes(2))] }

    /// Matches (or, with `isFromPod: false`, excludes) traffic of pods, as far as the detector knows them. nil: there
    /// is no detector.
    func localPod(isFromPod: Bool) -> [Expression]? {
        switch node.detector {
        case .none: return nil
        case .cidrs:
            guard let range = node.detector.cidr(family) else { return nil }
            return [source()] + mask(range)
                + [.compare(register: 0, isEqual: isFromPod, range.address.networkBytes)]
        case .bridge(let name): return inputInterface(name, is: isFromPod)
        case .interfacePrefix(let prefix):
            // Compares only the bytes of the prefix; `nft` prints it as "prefix*" (spec row 87: by name, not index).
            return [
                .meta(.inputInterfaceName, to: 0),
                .compare(register: 0, isEqual: isFromPod, Array(prefix.utf8.prefix(15))),
            ]
        }
    }
    /// Matches traffic of pods of this node (spec row 85).
    var podHere: [Expression]? {
        localPod(isFromPod: true).map { node.uplinks.sorted().flatMap { inputInterface($0, is: false) } + $0 }
    }
    private func inputInterface(_ name: String, is expected: Bool) -> [Expression] {
        let padded = Array(name.utf8.prefix(15)) + Array(repeating: 0, count: 16 - min(name.utf8.count, 15))
        return [.meta(.inputInterfaceName, to: 0), .compare(register: 0, isEqual: expected, padded)]
    }
    private func mask(_ range: IPPrefix) -> [Expression] {
        guard range.length < family.bitWidth else { return [] }
        let mask = (0..<family.byteCount).map { index in
            let bits = min(max(range.length - index * 8, 0), 8)
            return UInt8(truncatingIfNeeded: 0xff00 >> bits)
        }
        return [.bitwise(register: 0, mask: mask, xor: Array(repeating: 0, count: mask.count))]
    }

    func bytes(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
}
