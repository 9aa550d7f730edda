/// Maglev's lookup table (Eisenbud et al., NSDI 2016): a key always finds the same endpoint, endpoints get slots in
/// proportion to their weights, and a change of the endpoints moves little more than the keys it must.

package struct Maglev: Sendable {
    /// A prime much larger than the number of endpoints.
    package static let size = 65537
    /// Slot to the number of an endpoint.
    package let slots: [UInt16]

    /// `keys` identify the endpoints: equal keys keep their slots from one table to the next. At most 65,535; none with
    /// a weight above 0 gives an empty table.
    package init(keys: [UInt64], weights: [UInt32]) {
        let wanted = keys.indices.prefix(Int(UInt16.max)).filter { weights[$0] > 0 }
        guard let heaviest = wanted.map({ weights[$0] }).max() else {
            slots = []
            return
        }
        let size = UInt64(Self.size)
        let free = UInt16.max
        var slots = Array(repeating: free, count: Self.size)
        var position = keys.map { mixed($0) % size }
        let skip = keys.map { mixed($0 ^ 0x5bd1_e995_9d1b_54a3) % (size - 1) + 1 }
        // An endpoint takes its turn when its share of the rounds so far has come to a whole one.
        var turns = Array(repeating: UInt64(0), count: keys.count)
        var filled = 0
        while true {
            for index in wanted {
                turns[index] += UInt64(weights[index])
                guard turns[index] >= UInt64(heaviest) else { continue }
                turns[index] -= UInt64(heaviest)
                while slots[Int(position[index])] != free { position[index] = (position[index] + skip[index]) % size }
                slots[Int(position[index])] = UInt16(index)
                filled += 1
                if filled == Self.size {
                    self.slots = slots
                    return
                }
            }
        }
    }

    package func slot(for hash: UInt64) -> Int { Int(mixed(hash) % UInt64(Self.size)) }
}

/// Spreads every bit over all others (the finalizer of MurmurHash3).
package func mixed(_ value: UInt64) -> UInt64 {
    var value = value
    value = (value ^ value >> 33) &* 0xff51_afd7_ed55_8ccd
    value = (value ^ value >> 33) &* 0xc4ce_b9fe_1a85_ec53
    return value ^ value >> 33
}

/// FNV-1a: the same in every process, unlike Swift's own hashes.
package func stableHash(_ bytes: some Sequence<UInt8>) -> UInt64 {
    mixed(bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
}
