/// Reading tables, chains, sets, rules and elements back from the kernel.
package import Addressing
import CLibnftnl
import Glibc
package import Netlink

package struct ObservedTable: Sendable, Equatable {
    package let name: String
    package let userdata: [UInt8]
}

package struct ObservedChain: Sendable, Equatable {
    package let name: String
    package let base: BaseChain?
}

package struct ObservedSet: Sendable, Equatable {
    package let name: String
    package let flags: UInt32
    package let keySize: UInt32
    package let valueSize: UInt32
    package let isVerdictMap: Bool
}

package struct ObservedRule: Sendable, Equatable {
    package let chain: String
    package let handle: UInt64
    package let userdata: [UInt8]

    /// The fingerprint we gave it; nil: not a rule of ours.
    package var fingerprint: UInt64? {
        guard let bytes = Userdata.field(UserdataType.fingerprint, in: userdata), bytes.count == 8 else { return nil }
        return bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    }
}

package struct ObservedJump: Sendable, Equatable {
    /// Where the rule stands.
    package let chain: String
    package let handle: UInt64
    package let target: String
}

extension NftablesConnection {
    package func tables(_ family: AddressFamily) throws(NetlinkError) -> [ObservedTable] {
        try list(NFT_MSG_GETTABLE, family: family, "list tables (\(family))") { _ in
        } read: { message, result in
            let attributes = message.attributes(after: 4)
            guard let name = attributes.first(UInt16(NFTA_TABLE_NAME.rawValue))?.string else { return }
            let userdata = attributes.first(UInt16(NFTA_TABLE_USERDATA.rawValue))?.bytes
            result.append(ObservedTable(name: name, userdata: userdata ?? []))
        }
    }

    package func chains(_ table: Table) throws(NetlinkError) -> [ObservedChain] {
        // The kernel does not filter chains by table.
        try list(NFT_MSG_GETCHAIN, family: table.family, "list chains of table \(table.label)") { _ in
        } read: { message, result in
            let attributes = message.attributes(after: 4)
            guard attributes.first(UInt16(NFTA_CHAIN_TABLE.rawValue))?.string == table.name,
                let name = attributes.first(UInt16(NFTA_CHAIN_NAME.rawValue))?.string
            else { return }
            var base: BaseChain?
            if let hook = attributes.first(UInt16(NFTA_CHAIN_HOOK.rawValue))?.nested {
                let number = hook.first(UInt16(NFTA_HOOK_HOOKNUM.rawValue))?.bigEndian(UInt32.self)
                let priority = hook.first(UInt16(NFTA_HOOK_PRIORITY.rawValue))?.bigEndian(Int32.self)
                let type = attributes.first(UInt16(NFTA_CHAIN_TYPE.rawValue))?.string
                if let number, let priority, let hook = BaseChain.Hook(rawValue: number),
                    let kind = BaseChain.Kind(rawValue: type ?? "")
                {
                    base = BaseChain(kind, hook, priority: priority)
                }
            }
            result.append(ObservedChain(name: name, base: base))
        }
    }

    package func sets(_ table: Table) throws(NetlinkError) -> [ObservedSet] {
        try list(NFT_MSG_GETSET, family: table.family, "list sets of table \(table.label)") { request in
            request.put(UInt16(NFTA_SET_TABLE.rawValue), string: table.name)
        } read: { message, result in
            let attributes = message.attributes(after: 4)
            guard let name = attributes.first(UInt16(NFTA_SET_NAME.rawValue))?.string else { return }
            let number = { (attribute: borrowing Attribute?) in attribute?.bigEndian(UInt32.self) ?? 0 }
            result.append(
                ObservedSet(
                    name: name, flags: number(attributes.first(UInt16(NFTA_SET_FLAGS.rawValue))),
                    keySize: number(attributes.first(UInt16(NFTA_SET_KEY_LEN.rawValue))),
                    valueSize: number(attributes.first(UInt16(NFTA_SET_DATA_LEN.rawValue))),
                    isVerdictMap: number(attributes.first(UInt16(NFTA_SET_DATA_TYPE.rawValue)))
                        == NFT_DATA_VERDICT.rawValue))
        }
    }

    /// The rules of the table, of each chain in their order.
    package func rules(_ table: Table, chain: String? = nil) throws(NetlinkError) -> [ObservedRule] {
        try list(NFT_MSG_GETRULE, family: table.family, "list rules of table \(table.label)") { request in
            request.put(UInt16(NFTA_RULE_TABLE.rawValue), string: table.name)
            if let chain { request.put(UInt16(NFTA_RULE_CHAIN.rawValue), string: chain) }
        } read: { message, result in
            let attributes = message.attributes(after: 4)
            guard let chain = attributes.first(UInt16(NFTA_RULE_CHAIN.rawValue))?.string else { return }
            result.append(
                ObservedRule(
                    chain: chain, handle: attributes.first(UInt16(NFTA_RULE_HANDLE.rawValue))?.bigEndian() ?? 0,
                    userdata: attributes.first(UInt16(NFTA_RULE_USERDATA.rawValue))?.bytes ?? []))
        }
    }

    /// The rules that jump or go to another chain.
    package func jumps(_ table: Table) throws(NetlinkError) -> [ObservedJump] {
        try list(NFT_MSG_GETRULE, family: table.family, "list rules of table \(table.label)") { request in
            request.put(UInt16(NFTA_RULE_TABLE.rawValue), string: table.name)
        } read: { message, result in
            let attributes = message.attributes(after: 4)
            guard let chain = attributes.first(UInt16(NFTA_RULE_CHAIN.rawValue))?.string,
                let handle = attributes.first(UInt16(NFTA_RULE_HANDLE.rawValue))?.bigEndian(UInt64.self),
                let expressions = attributes.first(UInt16(NFTA_RULE_EXPRESSIONS.rawValue))
            else { return }
            var list = expressions.nested
            while let expression = list.next() {
                guard let target = jumpTarget(expression.nested) else { continue }
                result.append(ObservedJump(chain: chain, handle: handle, target: target))
            }
        }
    }

    /// What `read` makes of each element of a set.
    package func elements<Item>(
        of set: String, in table: Table, read: (borrowing ObservedElement) -> Item?
    ) throws(NetlinkError) -> [Item] {
        try list(NFT_MSG_GETSETELEM, family: table.family, "list elements of set \(table.label) \(set)") { request in
            request.putSet(set, in: table)
        } read: { message, result in
            message.forEachElement { if let item = read($0) { result.append(item) } }
        }
    }
}

/// The elements of a set, read part by part while other connections change it: then the list is not consistent, and
/// worth nothing.
package final class ElementListing {
    private let socket: NetlinkSocket
    private var progress: ListProgress

    package init(of set: String, in table: Table) throws(NetlinkError) {
        socket = try NetlinkSocket(.netfilter)
        progress = try socket.beginList(
            type: UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(NFT_MSG_GETSETELEM.rawValue),
            operation: "list elements of set \(table.label) \(set)"
        ) { request in
            request.appendNetfilterHeader(table.family)
            request.putSet(set, in: table)
        }
    }

    package var isFinished: Bool { progress.isFinished }
    package var isConsistent: Bool { progress.isConsistent }

    /// Some hundred elements, as many as the kernel puts into a datagram.
    package func readPart(_ body: (borrowing ObservedElement) -> Void) throws(NetlinkError) {
        try socket.readPart(of: &progress) { $0.forEachElement(body) }
    }
}

extension MessageWriter {
    fileprivate mutating func putSet(_ set: String, in table: Table) {
        put(UInt16(NFTA_SET_ELEM_LIST_TABLE.rawValue), string: table.name)
        put(UInt16(NFTA_SET_ELEM_LIST_SET.rawValue), string: set)
    }
}

extension NetlinkMessage {
    fileprivate borrowing func forEachElement(_ body: (borrowing ObservedElement) -> Void) {
        let reader = attributes(after: 4)
        guard let list = reader.first(UInt16(NFTA_SET_ELEM_LIST_ELEMENTS.rawValue)) else { return }
        var elements = list.nested
        while let element = elements.next() { body(ObservedElement(element.nested)) }
    }
}

/// The chain that an expression leads to; nil for all but jump and goto.
private func jumpTarget(_ expression: borrowing AttributeReader) -> String? {
    guard let data = expression.first(UInt16(NFTA_EXPR_DATA.rawValue)),
        expression.first(UInt16(NFTA_EXPR_NAME.rawValue))?.string == "immediate",
        let immediate = data.nested.first(UInt16(NFTA_IMMEDIATE_DATA.rawValue)),
        let verdict = immediate.nested.first(UInt16(NFTA_DATA_VERDICT.rawValue))
    else { return nil }
    return verdict.nested.first(UInt16(NFTA_VERDICT_CHAIN.rawValue))?.string
}

/// One element of a set, read in place.
package struct ObservedElement: ~Escapable {
    private let attributes: AttributeReader

    @_lifetime(copy attributes)
    init(_ attributes: AttributeReader) { self.attributes = attributes }

    /// Empty when there is none; so are the others.
    package var key: RawSpan { @_lifetime(copy self) get { data(NFTA_SET_ELEM_KEY) } }
    package var keyEnd: RawSpan { @_lifetime(copy self) get { data(NFTA_SET_ELEM_KEY_END) } }
    package var value: RawSpan { @_lifetime(copy self) get { data(NFTA_SET_ELEM_DATA) } }
    package var isIntervalEnd: Bool {
        let flags: UInt32? = attributes.first(UInt16(NFTA_SET_ELEM_FLAGS.rawValue))?.bigEndian()
        return (flags ?? 0) & UInt32(NFT_SET_ELEM_INTERVAL_END.rawValue) != 0
    }
    package var comment: String {
        guard let userdata = attributes.first(UInt16(NFTA_SET_ELEM_USERDATA.rawValue)) else { return "" }
        return Userdata.comment(in: userdata.bytes) ?? ""
    }
    package var verdict: RuleVerdict? {
        guard let data = attributes.first(UInt16(NFTA_SET_ELEM_DATA.rawValue)),
            let verdict = data.nested.first(UInt16(NFTA_DATA_VERDICT.rawValue))?.nested,
            let code = verdict.first(UInt16(NFTA_VERDICT_CODE.rawValue))?.bigEndian(Int32.self)
        else { return nil }
        let chain = verdict.first(UInt16(NFTA_VERDICT_CHAIN.rawValue))?.string ?? ""
        return [.drop, .accept, .jump(chain), .goto(chain)].first { $0.code == code }
    }

    @_lifetime(copy self)
    private func data(_ type: nft_set_elem_attributes) -> RawSpan {
        guard let data = attributes.first(UInt16(type.rawValue)),
            let value = data.nested.first(UInt16(NFTA_DATA_VALUE.rawValue))
        else { return RawSpan() }
        return value.payload
    }
}
