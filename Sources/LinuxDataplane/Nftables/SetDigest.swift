/// What a set holds, in a few words: kept up to date from what is added and removed, and compared with what the kernel
/// lists, in any order. Two contents with the same digest are the same for all that chance and tampering can do: the
/// hash has a key that this process drew.
struct SetDigest: Equatable {
    private var sum: UInt64 = 0
    private(set) var count = 0
    private(set) var commentBytes = 0

    init() {}

    mutating func insert(_ element: TableElement) {
        sum &+= element.digest
        count += 1
        commentBytes += element.comment.utf8.count
    }
    mutating func remove(_ element: TableElement) {
        sum &-= element.digest
        count -= 1
        commentBytes -= element.comment.utf8.count
    }
    static func += (digest: inout SetDigest, other: SetDigest) {
        digest.sum &+= other.sum
        digest.count += other.count
        digest.commentBytes += other.commentBytes
    }
}

/// One for each set of a table.
struct TableDigest: Equatable {
    private var sets = Array(repeating: SetDigest(), count: TableSet.allCases.count)

    init() {}
    init(_ elements: some Sequence<TableElement>) { for element in elements { insert(element) } }

    subscript(_ set: TableSet) -> SetDigest { sets[Int(set.rawValue)] }
    mutating func insert(_ element: TableElement) { sets[Int(element.key.set.rawValue)].insert(element) }
    mutating func remove(_ element: TableElement) { sets[Int(element.key.set.rawValue)].remove(element) }
    static func += (digest: inout TableDigest, other: TableDigest) {
        for index in digest.sets.indices { digest.sets[index] += other.sets[index] }
    }
}

extension TableElement {
    /// All of it, where the key's own hash is content with what tells most apart.
    fileprivate var digest: UInt64 {
        var hasher = Hasher()
        hasher.combine(
            UInt64(key.set.rawValue) << 56 | UInt64(key.transport) << 48 | UInt64(key.port) << 32 | UInt64(key.slot))
        hasher.combine(key.address)
        hasher.combine(key.rangeStart)
        hasher.combine(key.rangeEnd)
        hasher.combine(value)
        hasher.combine(comment)
        return UInt64(bitPattern: Int64(hasher.finalize()))
    }
}
