/// Finds the entries of the encoder's dynamic table by name and value or by name alone. Chains of equal hashes lead
/// from newer entries to older ones, and a link to an entry that has gone ends them: nothing is deleted here.

struct EncoderIndex: Sendable {
    private struct Links: Sendable, BitwiseCopyable {
        var pairHash: UInt32 = 0
        var nameHash: UInt32 = 0
        var olderPair: UInt32 = 0
        var olderName: UInt32 = 0
    }
    /// By an entry's number, as many as the table has room for.
    private var links: [Links] = []
    /// The newest entry with a hash that ends so.
    private var pairs: [UInt32] = []
    private var names: [UInt32] = []

    var memory: Int { links.capacity * MemoryLayout<Links>.stride + (pairs.capacity + names.capacity) * 4 }

    /// The number of the newest entry that `matches`, among those with this hash.
    @inline(__always) func find(
        _ hash: UInt32, byName: Bool, in table: DynamicTable, matches: (DynamicTable.Entry) -> Bool
    ) -> UInt32? {
        let mask = links.count - 1
        guard mask > 0 else { return nil }
        var number = byName ? names[Int(hash) & mask] : pairs[Int(hash) & mask]
        while table.isLive(number) {
            let link = links[Int(number) & mask]
            if (byName ? link.nameHash : link.pairHash) == hash, matches(table.entry(number: number)) { return number }
            let older = byName ? link.olderName : link.olderPair
            // Always older; numbers of four thousand million entries ago look live again.
            guard table.next &- older > table.next &- number else { return nil }
            number = older
        }
        return nil
    }

    /// The newest entry of the table.
    mutating func insert(_ number: UInt32, pairHash: UInt32, nameHash: UInt32, in table: DynamicTable) {
        if links.count < table.room { grow(number, table) }
        link(number, pairHash, nameHash)
    }

    private mutating func link(_ number: UInt32, _ pairHash: UInt32, _ nameHash: UInt32) {
        let mask = links.count - 1
        links[Int(number) & mask] = Links(
            pairHash: pairHash, nameHash: nameHash, olderPair: pairs[Int(pairHash) & mask],
            olderName: names[Int(nameHash) & mask])
        pairs[Int(pairHash) & mask] = number
        names[Int(nameHash) & mask] = number
    }

    private mutating func grow(_ newest: UInt32, _ table: DynamicTable) {
        let old = links
        // Nothing has this number any more.
        let none = table.oldest &- 1
        links = Array(repeating: Links(), count: table.room)
        pairs = Array(repeating: none, count: table.room)
        names = pairs
        var number = table.oldest
        while !old.isEmpty, number != newest {
            let link = old[Int(number) & (old.count - 1)]
            self.link(number, link.pairHash, link.nameHash)
            number &+= 1
        }
    }

    mutating func removeAll() { (links, pairs, names) = ([], [], []) }
}
