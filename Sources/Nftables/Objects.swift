/// Tables, chains, sets and rules as plain values.
package import Addressing

package struct Table: Sendable, Hashable {
    package let family: AddressFamily
    package let name: String

    package init(_ family: AddressFamily, _ name: String) {
        self.family = family
        self.name = name
    }
    package var natFamily: NATFamily { family == .ipv4 ? .ipv4 : .ipv6 }
}

package struct BaseChain: Sendable, Hashable {
    package enum Kind: String, Sendable { case filter, nat }
    package enum Hook: UInt32, Sendable { case prerouting, input, forward, output, postrouting }
    package let kind: Kind
    package let hook: Hook
    package let priority: Int32

    package init(_ kind: Kind, _ hook: Hook, priority: Int32) {
        self.kind = kind
        self.hook = hook
        self.priority = priority
    }
}

package struct Rule: Sendable, Hashable {
    package let expressions: [Expression]
    package let comment: String?

    package init(_ expressions: [Expression], comment: String? = nil) {
        self.expressions = expressions
        self.comment = comment
    }
}

/// `nft`'s numbers for the types of keys and values; it prints by them. The kernel ignores them.
package enum ElementType: UInt32, Sendable {
    case integer = 4
    case ipv4Address = 7
    case ipv6Address = 8
    case transport = 12
    case port = 13
    case mark = 19

    package var size: Int {
        switch self {
        case .integer, .mark, .ipv4Address: 4
        case .ipv6Address: 16
        case .transport: 1
        case .port: 2
        }
    }
    /// In a concatenation each field takes whole registers.
    package var paddedSize: Int { (size + 3) & ~3 }

    package static func address(_ family: AddressFamily) -> ElementType {
        family == .ipv4 ? .ipv4Address : .ipv6Address
    }
}

/// A set or, with a value type, a map.
package struct SetDefinition: Sendable, Hashable {
    package enum Value: Sendable, Hashable {
        case none
        case verdict
        case data([ElementType])
    }
    package let name: String
    package let key: [ElementType]
    package let value: Value
    package let isInterval: Bool
    /// Elements come and go by `update` expressions in rules, each with its own timeout; at most so many.
    package let dynamicSize: UInt32?
    /// How `nft` shall print keys it has no type for.
    package let userdata: Userdata

    package init(
        _ name: String, key: [ElementType], value: Value = .none, isInterval: Bool = false, dynamicSize: UInt32? = nil,
        userdata: Userdata = Userdata()
    ) {
        self.name = name
        self.key = key
        self.value = value
        self.isInterval = isInterval
        self.dynamicSize = dynamicSize
        self.userdata = userdata
    }

    package var keySize: Int { size(of: key) }
    package var valueSize: Int { if case .data(let types) = value { size(of: types) } else { 0 } }
    package var keyType: UInt32 { code(of: key) }
    package var valueType: UInt32 { if case .data(let types) = value { code(of: types) } else { 0 } }

    private func size(of types: [ElementType]) -> Int {
        types.count == 1 ? types[0].size : types.reduce(0) { $0 + $1.paddedSize }
    }
    /// Six bits a field.
    private func code(of types: [ElementType]) -> UInt32 { types.reduce(0) { $0 << 6 | $1.rawValue } }
}
