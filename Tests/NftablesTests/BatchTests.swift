/// Encoding of batches, byte for byte, and what real kernels make of them.
import Addressing
import Glibc
import Netlink
import Netns
import Nftables
import TestSupport
import Testing

private func hex(_ batch: inout Batch) -> [String] {
    batch.finish()
    let bytes = batch.withUnsafeBytes { Array($0) }
    // One line for each message.
    var lines: [String] = []
    var at = 0
    while at < bytes.count {
        let length = Int(bytes[at]) | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2]) << 16
        let end = min(at + (length + 3) & ~3, bytes.count)
        let digits = bytes[at..<end].map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        lines.append(
            stride(from: 0, to: digits.count, by: 4).map { digits[$0..<min($0 + 4, digits.count)].joined() }
                .joined(separator: " "))
        at = end
    }
    return lines
}

private let table = Table(.ipv4, "t")

@Suite struct BatchTests {
    @Test func elementsShareAMessageAndOnlyTheLastIsAcknowledged() {
        var batch = Batch()
        for port in [UInt16(80), 81] {
            batch.addElement(to: "m", in: table, label: "\(port)") { element in
                element.putElementKey { $0.append(port.bigEndian) }
                element.putElementVerdict(.goto("c"))
            }
        }
        batch.deleteElement(from: "m", in: table, label: "82") { element in
            element.putElementKey { $0.append(UInt16(82).bigEndian) }
        }
        let lines = hex(&batch)
        #expect(batch.labels == ["commit", "add to ip t m 80 and 1 more", "delete from ip t m 82"])
        #expect(batch.operations == 3)
        #expect(
            lines == [
                "14000000 10000100 01000000 00000000 0000000a",
                "78000000 0c0a0104 02000000 00000000 02000000 06000100 74000000 06000200 6d000000 54000380 "
                    + "28000180 0c000180 06000100 00500000 18000280 14000280 08000100 fffffffc 06000200 63000000 "
                    + "28000180 0c000180 06000100 00510000 18000280 14000280 08000100 fffffffc 06000200 63000000",
                "38000000 0e0a0500 03000000 00000000 02000000 06000100 74000000 06000200 6d000000 14000380 "
                    + "10000180 0c000180 06000100 00520000",
                "14000000 11000100 04000000 00000000 0000000a",
            ])
    }

    @Test func messagesAreSplitBeforeTheKernelsLimit() {
        var batch = Batch()
        for number in 0..<1001 {
            batch.addElement(to: "s", in: table, label: "\(number)") { element in
                element.putElementKey { $0.append(UInt32(number)) }
                element.putElementComment(String(repeating: "c", count: 500))
            }
        }
        let lines = hex(&batch)
        #expect(batch.operations == 1001)
        #expect(lines.allSatisfy { $0.utf8.count < 65_536 * 9 / 4 })
        #expect(lines.count == batch.labels.count + 1 && lines.count > 4)
    }

    @Test func fingerprintsTellRulesApart() {
        let drop = Rule([.verdict(.drop)], comment: "x")
        #expect(drop.fingerprint(in: table) == Rule([.verdict(.drop)]).fingerprint(in: table))
        #expect(drop.fingerprint(in: table) != Rule([.verdict(.accept)]).fingerprint(in: table))
        // Stable: what one agent wrote the next one must know again.
        let first = (0..<20).map { _ in drop.fingerprint(in: table) }
        #expect(Set(first).count == 1)
        #expect(Userdata.comment(in: drop.userdata(in: table).bytes) == "x")
    }

    @Test func userdataThatIsCutShortIsNoField() {
        #expect(Userdata.field(1, in: [0, 1, 9, 1, 5, 1]) == nil)
        #expect(Userdata.field(1, in: [0, 1, 9, 1, 2, 1, 2]) == [1, 2])
        #expect(Userdata.field(1, in: [0]) == nil)
    }
}

@Suite(.requiresKernel(.netns, .nftables)) struct NftablesConnectionTests {
    @Test func errorsNameTheOperationAndNothingIsCommitted() throws {
        try NetworkNamespace.anonymous().run {
            let connection = try NftablesConnection()
            var batch = connection.makeBatch()
            batch.add(table)
            batch.addRule(Rule([.verdict(.drop)]), to: "nowhere", in: table)
            batch.addChain("c", in: table)
            do {
                try connection.commit(&batch)
                throw TestFailure("the kernel accepted a rule in no chain")
            } catch let error as NetlinkError {
                guard error.operation == "add rule to chain ip t nowhere", error.code == ENOENT else { throw error }
            }
            guard try connection.tables(.ipv4).isEmpty else { throw TestFailure("half a batch is in force") }
        }
    }

    @Test func readsBackWhatItWrote() throws {
        try NetworkNamespace.anonymous().run {
            let connection = try NftablesConnection()
            let before = try connection.generation()
            let set = SetDefinition("s", key: [.ipv4Address, .port], value: .data([.ipv4Address]))
            let base = BaseChain(.filter, .input, priority: 5)
            let rule = Rule([.verdict(.jump("other"))], comment: "there")
            var batch = connection.makeBatch()
            batch.add(table, userdata: Userdata(comment: "mine"))
            batch.addSet(set, in: table)
            batch.addChain("other", in: table)
            batch.addChain("in", in: table, base: base)
            batch.addRule(rule, to: "in", in: table)
            batch.addElement(to: "s", in: table, label: "e") { element in
                element.putElementKey { key in
                    key.append(UInt32(1))
                    key.append(UInt32(2))
                }
                element.putElementValue { $0.append(UInt32(3)) }
                element.putElementComment("hello")
            }
            try connection.commit(&batch)
            let comments = try connection.tables(.ipv4).map { Userdata.comment(in: $0.userdata) }
            let chains = try connection.chains(table)
            let sets = try connection.sets(table)
            let rules = try connection.rules(table)
            let elements = try connection.elements(of: "s", in: table) { (element) -> String? in
                "\(element.key.byteCount) \(element.value.byteCount) \(element.comment)"
            }
            let isAsWritten =
                comments == ["mine"] && Set(chains.map(\.name)) == ["other", "in"]
                && chains.first { $0.name == "in" }?.base == base
                && sets.map(\.keySize) == [8] && sets.map(\.valueSize) == [4] && sets.map(\.flags) == [set.flags]
                && rules.map(\.fingerprint) == [rule.fingerprint(in: table)] && elements == ["8 4 hello"]
            guard isAsWritten else { throw TestFailure("\(comments) \(chains) \(sets) \(rules) \(elements)") }
            guard try connection.generation() == before + 1 else { throw TestFailure("not one commit") }
        }
    }
}
