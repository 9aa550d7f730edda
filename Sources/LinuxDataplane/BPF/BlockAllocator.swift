/// Hands out ranges of the `backends` array: a buddy allocator. Freed ranges merge again whatever the order they come
/// back in. Of the smallest blocks that will do the lowest is taken, so the far end of the array stays untouched as
/// long as possible: what is never touched is never mapped into memory.

struct BlockAllocator {
    let capacity: Int
    /// Entries handed out, rounded up to blocks.
    private(set) var used = 0
    /// Free blocks of 2^order entries, by their number: place / 2^order.
    private var free: [BitTree] = []

    init(capacity: Int) {
        self.capacity = capacity
        var order = 0
        while 1 << order <= capacity {
            free.append(BitTree(capacity: capacity >> order))
            order += 1
        }
        // A capacity that is no power of two is cut into aligned blocks, the largest first.
        var place = 0
        for order in free.indices.reversed() where capacity & 1 << order != 0 {
            free[order].insert(place >> order)
            place += 1 << order
        }
    }

    /// The order of the smallest block that holds `count` entries.
    static func order(_ count: Int) -> Int { count <= 1 ? 0 : Int.bitWidth - (count - 1).leadingZeroBitCount }

    /// A place for `count` entries; nil when no block is large enough.
    mutating func allocate(_ count: Int) -> Int? {
        let wanted = Self.order(count)
        guard let found = free.indices.dropFirst(wanted).first(where: { free[$0].first != nil }),
            let number = free[found].first
        else { return nil }
        split(number << found, from: found, to: wanted)
        return number << found
    }

    /// Takes the given place, which some earlier allocator handed out; false when part of it is taken.
    mutating func claim(_ place: Int, _ count: Int) -> Bool {
        let wanted = Self.order(count)
        guard place >= 0, place & (1 << wanted - 1) == 0,
            let found = free.indices.dropFirst(wanted).first(where: { free[$0].contains(place >> $0) })
        else { return false }
        split(place, from: found, to: wanted)
        return true
    }

    mutating func release(_ place: Int, _ count: Int) {
        var order = Self.order(count)
        used -= 1 << order
        var number = place >> order
        while order + 1 < free.count, free[order].contains(number ^ 1) {
            free[order].remove(number ^ 1)
            number >>= 1
            order += 1
        }
        free[order].insert(number)
    }

    /// Takes the block of `order` that starts at or contains `place` and frees what is not needed of it.
    private mutating func split(_ place: Int, from found: Int, to wanted: Int) {
        free[found].remove(place >> found)
        for order in (wanted..<found).reversed() { free[order].insert(place >> order ^ 1) }
        used += 1 << wanted
    }
}
