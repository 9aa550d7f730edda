/// The entries that a map should have, and which of them the comparison under way has met in the kernel. So one walk
/// over what the kernel lists finds what is wrong, what is too much and, at its end, what is missing, whatever is
/// written in between.
struct ExpectedEntries<Key: Hashable, Value> {
    private struct Entry {
        var value: Value
        /// The comparison that met it last; what was written since that one began counts as met.
        var round: UInt16
    }
    private var entries: [Key: Entry] = [:]
    private var round: UInt16 = 0
    private var metCount = 0

    var count: Int { entries.count }
    var keys: some Collection<Key> { entries.keys }

    subscript(key: Key) -> Value? {
        get { entries[key]?.value }
        set {
            let old = entries.removeValue(forKey: key)
            if old?.round == round { metCount -= 1 }
            guard let newValue else { return }
            entries[key] = Entry(value: newValue, round: round)
            metCount += 1
        }
    }

    mutating func beginComparison() {
        round &+= 1
        metCount = 0
    }
    /// The kernel has an entry of that key; nil: it should not.
    mutating func meet(_ key: Key) -> Value? {
        guard let index = entries.index(forKey: key) else { return nil }
        if entries.values[index].round != round {
            entries.values[index].round = round
            metCount += 1
        }
        return entries.values[index].value
    }
    /// At the end of a comparison.
    var missing: [Key] {
        metCount == entries.count ? [] : entries.compactMap { $0.value.round == round ? nil : $0.key }
    }
}
