/// The expressions rules are made of, typed. Encoding goes through libnftnl. Registers are the kernel's 32-bit ones,
/// counted from 0; a value takes as many as it needs, and the fields of a concatenation follow one another.
import CLibnftnl

package enum Expression: Sendable, Hashable {
    /// Copies bytes of the network or transport header into a register.
    case payload(HeaderBase, offset: UInt32, length: UInt32, to: UInt32)
    case meta(MetaKey, to: UInt32)
    case setMeta(MetaKey, from: UInt32)
    case conntrack(ConntrackKey, to: UInt32)
    /// The type of the source address as the routing table knows it.
    case sourceAddressType(to: UInt32)
    case random(modulo: UInt32, offset: UInt32, to: UInt32)
    case compare(register: UInt32, isEqual: Bool, [UInt8])
    /// register = (register & mask) ^ xor
    case bitwise(register: UInt32, mask: [UInt8], xor: [UInt8])
    case load([UInt8], to: UInt32)
    /// Goes on only if the set has the key (or, inverted, has it not).
    case lookup(set: String, key: UInt32, inverted: Bool = false)
    /// Goes on only if the map has the key; puts the value into a register.
    case map(String, key: UInt32, to: UInt32)
    /// Takes the verdict the map has for the key, if any.
    case verdictMap(String, key: UInt32)
    /// Adds the key to the set or starts its timeout again.
    case update(set: String, key: UInt32, timeoutMilliseconds: UInt64)
    case destinationNAT(NATFamily, address: UInt32, port: UInt32)
    case masqueradeFullyRandom
    case rejectPortUnreachable(NATFamily)
    case rejectWithReset
    case verdict(RuleVerdict)
}

package enum HeaderBase: Sendable { case network, transport }
package enum MetaKey: Sendable { case mark, inputInterfaceName, transportProtocol }
package enum ConntrackKey: Sendable { case state, status }
package enum NATFamily: Sendable { case ipv4, ipv6 }

package enum RuleVerdict: Sendable, Hashable {
    case drop, accept
    case jump(String)
    case goto(String)

    /// The kernel's number for it.
    package var code: Int32 {
        switch self {
        case .drop: 0
        case .accept: 1
        case .jump: -3
        case .goto: -4
        }
    }
    package var chain: String? {
        switch self {
        case .jump(let chain), .goto(let chain): chain
        case .drop, .accept: nil
        }
    }
}

extension Expression {
    /// An expression object that belongs to the caller, in practice to the rule it is added to.
    func make() -> OpaquePointer {
        switch self {
        case .payload, .meta, .setMeta, .conntrack, .sourceAddressType, .random: makeLoad()
        case .compare, .bitwise, .load, .lookup, .map, .verdictMap, .update: makeMatch()
        case .destinationNAT, .masqueradeFullyRandom, .rejectPortUnreachable, .rejectWithReset, .verdict:
            makeStatement()
        }
    }

    private func makeLoad() -> OpaquePointer {
        switch self {
        case .payload(let base, let offset, let length, let register):
            let number = base == .network ? NFT_PAYLOAD_NETWORK_HEADER : NFT_PAYLOAD_TRANSPORT_HEADER
            return object("payload")
                .with(NFTNL_EXPR_PAYLOAD_DREG, kernel(register)).with(NFTNL_EXPR_PAYLOAD_BASE, number.rawValue)
                .with(NFTNL_EXPR_PAYLOAD_OFFSET, offset).with(NFTNL_EXPR_PAYLOAD_LEN, length)
        case .meta(let key, let register):
            return object("meta").with(NFTNL_EXPR_META_KEY, key.number).with(NFTNL_EXPR_META_DREG, kernel(register))
        case .setMeta(let key, let register):
            return object("meta").with(NFTNL_EXPR_META_KEY, key.number).with(NFTNL_EXPR_META_SREG, kernel(register))
        case .conntrack(let key, let register):
            let number = key == .state ? NFT_CT_STATE : NFT_CT_STATUS
            return object("ct").with(NFTNL_EXPR_CT_KEY, number.rawValue).with(NFTNL_EXPR_CT_DREG, kernel(register))
        case .sourceAddressType(let register):
            return object("fib")
                .with(NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_SADDR.rawValue)
                .with(NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE.rawValue)
                .with(NFTNL_EXPR_FIB_DREG, kernel(register))
        case .random(let modulo, let offset, let register):
            return object("numgen")
                .with(NFTNL_EXPR_NG_DREG, kernel(register)).with(NFTNL_EXPR_NG_MODULUS, modulo)
                .with(NFTNL_EXPR_NG_TYPE, NFT_NG_RANDOM.rawValue).with(NFTNL_EXPR_NG_OFFSET, offset)
        default: preconditionFailure("not an expression that loads")
        }
    }

    private func makeMatch() -> OpaquePointer {
        switch self {
        case .compare(let register, let isEqual, let value):
            return object("cmp")
                .with(NFTNL_EXPR_CMP_SREG, kernel(register))
                .with(NFTNL_EXPR_CMP_OP, (isEqual ? NFT_CMP_EQ : NFT_CMP_NEQ).rawValue)
                .with(NFTNL_EXPR_CMP_DATA, value)
        case .bitwise(let register, let mask, let xor):
            return object("bitwise")
                .with(NFTNL_EXPR_BITWISE_SREG, kernel(register)).with(NFTNL_EXPR_BITWISE_DREG, kernel(register))
                .with(NFTNL_EXPR_BITWISE_LEN, UInt32(mask.count))
                .with(NFTNL_EXPR_BITWISE_MASK, mask).with(NFTNL_EXPR_BITWISE_XOR, xor)
        case .load(let value, let register):
            return object("immediate").with(NFTNL_EXPR_IMM_DREG, kernel(register)).with(NFTNL_EXPR_IMM_DATA, value)
        case .lookup(let set, let key, let inverted):
            let lookup = object("lookup").with(NFTNL_EXPR_LOOKUP_SREG, kernel(key)).with(NFTNL_EXPR_LOOKUP_SET, set)
            return inverted ? lookup.with(NFTNL_EXPR_LOOKUP_FLAGS, UInt32(NFT_LOOKUP_F_INV.rawValue)) : lookup
        case .map(let name, let key, let register):
            return object("lookup")
                .with(NFTNL_EXPR_LOOKUP_SREG, kernel(key)).with(NFTNL_EXPR_LOOKUP_DREG, kernel(register))
                .with(NFTNL_EXPR_LOOKUP_SET, name)
        case .verdictMap(let name, let key):
            return object("lookup")
                .with(NFTNL_EXPR_LOOKUP_SREG, kernel(key)).with(NFTNL_EXPR_LOOKUP_DREG, NFT_REG_VERDICT.rawValue)
                .with(NFTNL_EXPR_LOOKUP_SET, name)
        case .update(let set, let key, let timeout):
            let update = object("dynset")
                .with(NFTNL_EXPR_DYNSET_SREG_KEY, kernel(key)).with(NFTNL_EXPR_DYNSET_SET_NAME, set)
                .with(NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_UPDATE.rawValue)
            nftnl_expr_set_u64(update, UInt16(NFTNL_EXPR_DYNSET_TIMEOUT), timeout)
            return update
        default: preconditionFailure("not an expression that matches")
        }
    }

    private func makeStatement() -> OpaquePointer {
        switch self {
        case .destinationNAT(let family, let address, let port):
            return object("nat")
                .with(NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT.rawValue).with(NFTNL_EXPR_NAT_FAMILY, family.number)
                .with(NFTNL_EXPR_NAT_REG_ADDR_MIN, kernel(address)).with(NFTNL_EXPR_NAT_REG_PROTO_MIN, kernel(port))
        case .masqueradeFullyRandom:
            return object("masq").with(NFTNL_EXPR_MASQ_FLAGS, natRangeFullyRandom)
        case .rejectPortUnreachable(let family):
            let reject = object("reject").with(NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_ICMP_UNREACH.rawValue)
            // ICMP code 3 and ICMPv6 code 4 are "port unreachable".
            nftnl_expr_set_u8(reject, UInt16(NFTNL_EXPR_REJECT_CODE), family == .ipv4 ? 3 : 4)
            return reject
        case .rejectWithReset:
            return object("reject").with(NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST.rawValue)
        case .verdict(let verdict):
            let immediate = object("immediate")
                .with(NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT.rawValue)
                .with(NFTNL_EXPR_IMM_VERDICT, UInt32(bitPattern: verdict.code))
            return verdict.chain.map { immediate.with(NFTNL_EXPR_IMM_CHAIN, $0) } ?? immediate
        default: preconditionFailure("not a statement")
        }
    }
}

/// NF_NAT_RANGE_PROTO_RANDOM_FULLY: random source ports.
private let natRangeFullyRandom: UInt32 = 0x10

/// Registers of 16 bytes have the old numbers 1 to 4; `nft` prints them alike.
private func kernel(_ register: UInt32) -> UInt32 {
    register % 4 == 0 ? NFT_REG_1.rawValue + register / 4 : NFT_REG32_00.rawValue + register
}

extension MetaKey {
    fileprivate var number: UInt32 {
        switch self {
        case .mark: NFT_META_MARK.rawValue
        case .inputInterfaceName: NFT_META_IIFNAME.rawValue
        case .transportProtocol: NFT_META_L4PROTO.rawValue
        }
    }
}
extension NATFamily {
    fileprivate var number: UInt32 { self == .ipv4 ? UInt32(NFPROTO_IPV4) : UInt32(NFPROTO_IPV6) }
}

private func object(_ name: String) -> OpaquePointer {
    guard let object = nftnl_expr_alloc(name) else {
        preconditionFailure("libnftnl has no expression \(name), or memory is exhausted")
    }
    return object
}

extension OpaquePointer {
    fileprivate func with(_ attribute: Int, _ value: UInt32) -> OpaquePointer {
        nftnl_expr_set_u32(self, UInt16(attribute), value)
        return self
    }
    fileprivate func with(_ attribute: Int, _ value: String) -> OpaquePointer {
        nftnl_expr_set_str(self, UInt16(attribute), value)
        return self
    }
    fileprivate func with(_ attribute: Int, _ value: [UInt8]) -> OpaquePointer {
        value.withUnsafeBytes { _ = nftnl_expr_set(self, UInt16(attribute), $0.baseAddress, UInt32($0.count)) }
        return self
    }
}
