/// One nftables transaction, encoded as it is built. Pure: only `NftablesConnection.commit` talks to the kernel. Each
/// message has a number and a label, so that an error names the operation that failed.
import Addressing
import CLibmnl
import CLibnftnl
package import Netlink

package struct Batch: ~Copyable {
    /// The kernel refuses attributes over 64 KB; the elements of a message are one attribute.
    private static let elementsPerMessage = 400
    private static let elementBytesPerMessage = 48_000
    /// Tables, chains, sets and rules are far smaller; libnftnl does not check bounds.
    private static let objectBytes = 1 << 16

    private var writer = MessageWriter(capacity: 1 << 14)
    private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: Batch.objectBytes, alignment: 8)
    private let firstSequence: UInt32
    private var lastMessage = 0
    private var openElements: OpenElements?
    /// What each message does; the first one opens the batch.
    package private(set) var labels = ["commit"]
    /// Objects and elements written or removed.
    package private(set) var operations = 0

    private struct OpenElements {
        let isAddition: Bool
        let table: Table
        let set: String
        let message: Int
        let list: Int
        var count = 0
    }

    package init(firstSequence: UInt32 = 1) {
        self.firstSequence = firstSequence
        scratch.initializeMemory(as: UInt8.self, repeating: 0)
        appendBoundary(NFNL_MSG_BATCH_BEGIN, sequence: firstSequence)
    }
    deinit { scratch.deallocate() }

    package var isEmpty: Bool { labels.count == 1 }
    package var lastSequence: UInt32 { firstSequence &+ UInt32(labels.count - 1) }

    /// Closes the batch, and asks for an acknowledgement of its last message only.
    package mutating func finish() {
        closeElements()
        writer.addFlags(MessageFlag.ack, toMessageAt: lastMessage)
        appendBoundary(NFNL_MSG_BATCH_END, sequence: lastSequence &+ 1)
    }
    package func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        try writer.withUnsafeBytes(body)
    }
    /// nil: not a message of this batch.
    package func label(of sequence: UInt32) -> String? {
        let index = Int(sequence &- firstSequence)
        return index < labels.count ? labels[index] : nil
    }

    private mutating func appendBoundary(_ type: Int32, sequence: UInt32) {
        let start = writer.beginMessage(type: UInt16(type), flags: MessageFlag.request, sequence: sequence)
        writer.append(UInt16(0))
        // Resource id of the batch: the subsystem all its messages belong to.
        writer.append(UInt16(NFNL_SUBSYS_NFTABLES).bigEndian)
        writer.endMessage(start)
    }

    private mutating func message(_ label: String) -> UInt32 {
        closeElements()
        labels.append(label)
        lastMessage = writer.count
        return lastSequence
    }

    /// Lets libnftnl write one object.
    private mutating func object(
        _ type: nf_tables_msg_types, _ table: Table, flags: Int32, _ label: String,
        _ payload: (UnsafeMutablePointer<nlmsghdr>) -> Void
    ) {
        let sequence = message(label)
        operations += 1
        guard let base = scratch.baseAddress,
            let header = nftnl_nlmsg_build_hdr(
                base.assumingMemoryBound(to: CChar.self), UInt16(type.rawValue),
                UInt16(NetfilterFamily.number(table.family)), UInt16(flags), sequence)
        else { preconditionFailure("libnftnl builds a header wherever it is given memory") }
        payload(header)
        let message = UnsafeMutableRawBufferPointer(rebasing: scratch[..<Int(header.pointee.nlmsg_len)])
        writer.append(UnsafeRawBufferPointer(message))
        writer.pad()
        // libmnl leaves padding as it finds it: the next message must find zeros.
        message.initializeMemory(as: UInt8.self, repeating: 0)
    }
}

// MARK: Tables, chains, sets, rules

extension Batch {
    package mutating func add(_ table: Table, userdata: Userdata = Userdata()) {
        let object = allocated(nftnl_table_alloc())
        defer { nftnl_table_free(object) }
        nftnl_table_set_str(object, UInt16(NFTNL_TABLE_NAME.rawValue), table.name)
        nftnl_table_set_u32(object, UInt16(NFTNL_TABLE_FLAGS.rawValue), 0)
        userdata.bytes.withUnsafeBytes {
            guard !$0.isEmpty else { return }
            _ = nftnl_table_set_data(object, UInt16(NFTNL_TABLE_USERDATA.rawValue), $0.baseAddress, UInt32($0.count))
        }
        self.object(NFT_MSG_NEWTABLE, table, flags: NLM_F_CREATE, "add table \(table.label)") {
            nftnl_table_nlmsg_build_payload($0, object)
        }
    }
    package mutating func delete(_ table: Table) {
        let object = allocated(nftnl_table_alloc())
        defer { nftnl_table_free(object) }
        nftnl_table_set_str(object, UInt16(NFTNL_TABLE_NAME.rawValue), table.name)
        self.object(NFT_MSG_DELTABLE, table, flags: 0, "delete table \(table.label)") {
            nftnl_table_nlmsg_build_payload($0, object)
        }
    }

    package mutating func addChain(_ name: String, in table: Table, base: BaseChain? = nil) {
        chain(NFT_MSG_NEWCHAIN, name, table, flags: NLM_F_CREATE, "add chain \(table.label) \(name)") { object in
            guard let base else { return }
            nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TYPE.rawValue), base.kind.rawValue)
            nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue), base.hook.rawValue)
            nftnl_chain_set_s32(object, UInt16(NFTNL_CHAIN_PRIO.rawValue), base.priority)
            nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_POLICY.rawValue), UInt32(NF_ACCEPT))
        }
    }
    package mutating func deleteChain(_ name: String, in table: Table) {
        chain(NFT_MSG_DELCHAIN, name, table, flags: 0, "delete chain \(table.label) \(name)") { _ in }
    }
    private mutating func chain(
        _ type: nf_tables_msg_types, _ name: String, _ table: Table, flags: Int32, _ label: String,
        _ fill: (OpaquePointer) -> Void
    ) {
        let object = allocated(nftnl_chain_alloc())
        defer { nftnl_chain_free(object) }
        nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TABLE.rawValue), table.name)
        nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_NAME.rawValue), name)
        fill(object)
        self.object(type, table, flags: flags, label) { nftnl_chain_nlmsg_build_payload($0, object) }
    }

    package mutating func addSet(_ set: SetDefinition, in table: Table) {
        let object = setObject(set.name, table)
        defer { nftnl_set_free(object) }
        nftnl_set_set_u32(object, UInt16(NFTNL_SET_FLAGS.rawValue), set.flags)
        nftnl_set_set_u32(object, UInt16(NFTNL_SET_KEY_TYPE.rawValue), set.keyType)
        nftnl_set_set_u32(object, UInt16(NFTNL_SET_KEY_LEN.rawValue), UInt32(set.keySize))
        // The kernel wants a number that is unique within the batch, although we refer to sets by name.
        nftnl_set_set_u32(object, UInt16(NFTNL_SET_ID.rawValue), UInt32(labels.count))
        switch set.value {
        case .none: break
        case .verdict:
            nftnl_set_set_u32(object, UInt16(NFTNL_SET_DATA_TYPE.rawValue), NFT_DATA_VERDICT.rawValue)
            nftnl_set_set_u32(object, UInt16(NFTNL_SET_DATA_LEN.rawValue), 0)
        case .data:
            nftnl_set_set_u32(object, UInt16(NFTNL_SET_DATA_TYPE.rawValue), set.valueType)
            nftnl_set_set_u32(object, UInt16(NFTNL_SET_DATA_LEN.rawValue), UInt32(set.valueSize))
        }
        if let size = set.dynamicSize { nftnl_set_set_u32(object, UInt16(NFTNL_SET_DESC_SIZE.rawValue), size) }
        if set.isConcatenatedInterval {
            let sizes = set.key.map { UInt8($0.size) }
            _ = sizes.withUnsafeBytes {
                nftnl_set_set_data(
                    object, UInt16(NFTNL_SET_DESC_CONCAT.rawValue), $0.baseAddress, UInt32($0.count))
            }
        }
        set.userdata.bytes.withUnsafeBytes {
            guard !$0.isEmpty else { return }
            _ = nftnl_set_set_data(object, UInt16(NFTNL_SET_USERDATA.rawValue), $0.baseAddress, UInt32($0.count))
        }
        self.object(NFT_MSG_NEWSET, table, flags: NLM_F_CREATE, "add set \(table.label) \(set.name)") {
            nftnl_set_nlmsg_build_payload($0, object)
        }
    }
    package mutating func deleteSet(_ name: String, in table: Table) {
        let object = setObject(name, table)
        defer { nftnl_set_free(object) }
        self.object(NFT_MSG_DELSET, table, flags: 0, "delete set \(table.label) \(name)") {
            nftnl_set_nlmsg_build_payload($0, object)
        }
    }
    private func setObject(_ name: String, _ table: Table) -> OpaquePointer {
        let object = allocated(nftnl_set_alloc())
        nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table.name)
        nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), name)
        return object
    }

    /// Appends a rule. Its userdata gets the comment and the fingerprint by which it is known again.
    package mutating func addRule(_ rule: Rule, to chain: String, in table: Table) {
        let object = ruleObject(chain, table)
        defer { nftnl_rule_free(object) }
        for expression in rule.expressions { nftnl_rule_add_expr(object, expression.make()) }
        rule.userdata(in: table).bytes.withUnsafeBytes {
            _ = nftnl_rule_set_data(object, UInt16(NFTNL_RULE_USERDATA.rawValue), $0.baseAddress, UInt32($0.count))
        }
        let flags = NLM_F_CREATE | NLM_F_APPEND
        self.object(NFT_MSG_NEWRULE, table, flags: flags, "add rule to chain \(table.label) \(chain)") {
            nftnl_rule_nlmsg_build_payload($0, object)
        }
    }
    /// Deletes all rules of a chain.
    package mutating func flushChain(_ chain: String, in table: Table) {
        let object = ruleObject(chain, table)
        defer { nftnl_rule_free(object) }
        self.object(NFT_MSG_DELRULE, table, flags: 0, "flush chain \(table.label) \(chain)") {
            nftnl_rule_nlmsg_build_payload($0, object)
        }
    }
    package mutating func deleteRule(_ handle: UInt64, from chain: String, in table: Table) {
        let object = ruleObject(chain, table)
        defer { nftnl_rule_free(object) }
        nftnl_rule_set_u64(object, UInt16(NFTNL_RULE_HANDLE.rawValue), handle)
        self.object(NFT_MSG_DELRULE, table, flags: 0, "delete rule \(handle) from chain \(table.label) \(chain)") {
            nftnl_rule_nlmsg_build_payload($0, object)
        }
    }
    private func ruleObject(_ chain: String, _ table: Table) -> OpaquePointer {
        let object = allocated(nftnl_rule_alloc())
        nftnl_rule_set_str(object, UInt16(NFTNL_RULE_TABLE.rawValue), table.name)
        nftnl_rule_set_str(object, UInt16(NFTNL_RULE_CHAIN.rawValue), chain)
        return object
    }
}

// MARK: Elements

extension Batch {
    /// Adds an element; `fill` writes its key, value and comment. Elements of one set that follow one another share a
    /// message. They are written without libnftnl, which would take several allocations for each.
    package mutating func addElement(
        to set: String, in table: Table, label: @autoclosure () -> String, _ fill: (inout MessageWriter) -> Void
    ) {
        element(true, set, table, label: label, fill)
    }
    package mutating func deleteElement(
        from set: String, in table: Table, label: @autoclosure () -> String, _ fill: (inout MessageWriter) -> Void
    ) {
        element(false, set, table, label: label, fill)
    }

    /// Deletes all elements of a set.
    package mutating func flushSet(_ set: String, in table: Table) {
        openElements(false, set, table, label: "flush set \(table.label) \(set)", withList: false)
        operations += 1
    }

    private mutating func element(
        _ isAddition: Bool, _ set: String, _ table: Table, label: () -> String, _ fill: (inout MessageWriter) -> Void
    ) {
        let fits =
            openElements.map { open in
                open.isAddition == isAddition && open.set == set && open.table == table
                    && open.count < Batch.elementsPerMessage
                    && writer.count - open.list < Batch.elementBytesPerMessage
            } ?? false
        if !fits {
            let text = "\(isAddition ? "add to" : "delete from") \(table.label) \(set) \(label())"
            openElements(isAddition, set, table, label: text, withList: true)
        }
        let start = writer.beginNested(UInt16(NFTA_LIST_ELEM.rawValue))
        fill(&writer)
        writer.endNested(start)
        openElements?.count += 1
        operations += 1
    }

    private mutating func openElements(
        _ isAddition: Bool, _ set: String, _ table: Table, label: String, withList: Bool
    ) {
        let sequence = message(label)
        let type = isAddition ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM
        let start = writer.beginMessage(
            type: UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(type.rawValue),
            flags: MessageFlag.request | (isAddition ? MessageFlag.create : 0), sequence: sequence)
        writer.appendNetfilterHeader(table.family)
        writer.put(UInt16(NFTA_SET_ELEM_LIST_TABLE.rawValue), string: table.name)
        writer.put(UInt16(NFTA_SET_ELEM_LIST_SET.rawValue), string: set)
        if withList {
            let list = writer.beginNested(UInt16(NFTA_SET_ELEM_LIST_ELEMENTS.rawValue))
            openElements = OpenElements(
                isAddition: isAddition, table: table, set: set, message: start, list: list)
        } else {
            writer.endMessage(start)
        }
    }

    private mutating func closeElements() {
        guard let open = openElements else { return }
        writer.endNested(open.list)
        writer.endMessage(open.message)
        if open.count > 1 { labels[labels.count - 1] += " and \(open.count - 1) more" }
        openElements = nil
    }
}

extension MessageWriter {
    package mutating func putElementKey(_ body: (inout MessageWriter) -> Void) {
        putElementData(UInt16(NFTA_SET_ELEM_KEY.rawValue), body)
    }
    /// The last key of an interval of a concatenation.
    package mutating func putElementKeyEnd(_ body: (inout MessageWriter) -> Void) {
        putElementData(UInt16(NFTA_SET_ELEM_KEY_END.rawValue), body)
    }
    package mutating func putElementValue(_ body: (inout MessageWriter) -> Void) {
        putElementData(UInt16(NFTA_SET_ELEM_DATA.rawValue), body)
    }
    private mutating func putElementData(_ type: UInt16, _ body: (inout MessageWriter) -> Void) {
        let data = beginNested(type)
        let start = beginNested(UInt16(NFTA_DATA_VALUE.rawValue))
        body(&self)
        // The value itself is no nested attribute, and padding does not count.
        endNested(start, isNested: false)
        pad()
        endNested(data)
    }
    package mutating func putElementVerdict(_ verdict: RuleVerdict) {
        nested(UInt16(NFTA_SET_ELEM_DATA.rawValue)) { data in
            data.nested(UInt16(NFTA_DATA_VERDICT.rawValue)) { value in
                value.put(UInt16(NFTA_VERDICT_CODE.rawValue), bigEndian: verdict.code)
                if let chain = verdict.chain { value.put(UInt16(NFTA_VERDICT_CHAIN.rawValue), string: chain) }
            }
        }
    }
    package mutating func putElementComment(_ comment: String) {
        put(UInt16(NFTA_SET_ELEM_USERDATA.rawValue), bytes: Userdata(comment: comment).bytes)
    }
    /// Marks the first address behind an interval, in sets without concatenation.
    package mutating func putElementIntervalEnd() {
        put(UInt16(NFTA_SET_ELEM_FLAGS.rawValue), bigEndian: UInt32(NFT_SET_ELEM_INTERVAL_END.rawValue))
    }
}

extension Table {
    package var label: String { "\(family == .ipv4 ? "ip" : "ip6") \(name)" }
}

extension SetDefinition {
    var isConcatenatedInterval: Bool { isInterval && key.count > 1 }
    package var flags: UInt32 {
        (isInterval ? NFT_SET_INTERVAL.rawValue : 0) | (isConcatenatedInterval ? NFT_SET_CONCAT.rawValue : 0)
            | (value == .none ? 0 : NFT_SET_MAP.rawValue)
            | (dynamicSize == nil ? 0 : NFT_SET_EVAL.rawValue | NFT_SET_TIMEOUT.rawValue)
    }
}

extension Rule {
    /// Comment and fingerprint as kept in the kernel.
    package func userdata(in table: Table) -> Userdata {
        var result = comment.map { Userdata(comment: $0) } ?? Userdata()
        result.append(UserdataType.fingerprint, withUnsafeBytes(of: fingerprint(in: table)) { Array($0) })
        return result
    }

    /// A hash of what the rule does: a rule with ours in its userdata is one that we wrote.
    package func fingerprint(in table: Table) -> UInt64 {
        let object = allocated(nftnl_rule_alloc())
        defer { nftnl_rule_free(object) }
        for expression in expressions { nftnl_rule_add_expr(object, expression.make()) }
        nftnl_rule_set_str(object, UInt16(NFTNL_RULE_TABLE.rawValue), table.name)
        return withUnsafeTemporaryAllocation(byteCount: 1 << 14, alignment: 8) { buffer in
            // libmnl leaves padding as it finds it.
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            guard let base = buffer.baseAddress,
                let header = nftnl_nlmsg_build_hdr(
                    base.assumingMemoryBound(to: CChar.self), 0, UInt16(NetfilterFamily.number(table.family)), 0, 0)
            else { return 0 }
            nftnl_rule_nlmsg_build_payload(header, object)
            // FNV-1a: stable between runs, unlike Swift's Hasher.
            var hash: UInt64 = 0xcbf2_9ce4_8422_2325
            for byte in buffer[..<Int(header.pointee.nlmsg_len)] { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
            return hash
        }
    }
}

/// libnftnl's allocators return nil only when memory is exhausted, where nothing sensible can be done.
private func allocated(_ object: OpaquePointer?) -> OpaquePointer {
    guard let object else { preconditionFailure("out of memory") }
    return object
}
