/// Paths to the matches that name them. A prefix knows the next shorter prefix in the index, so the tree of path
/// elements is walked from the deepest one up, without a list of what was passed on the way.

struct PathIndex: Sendable {
    private struct Bucket: Sendable {
        let path: [UInt8]
        var ranks: [Int]
        var parent: Int?
        /// Another path with the same hash.
        let collision: Int?
    }
    private var buckets: [Bucket] = []
    private var byHash: [UInt64: Int] = [:]
    private var longest = 0

    /// FNV-1a: it can be continued byte by byte, so all prefixes of a path cost one pass.
    private static let start: UInt64 = 0xcbf2_9ce4_8422_2325
    private static func step(_ hash: UInt64, _ byte: UInt8) -> UInt64 { (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }

    mutating func add(_ rank: Int, at path: [UInt8]) {
        let hash = path.reduce(Self.start, Self.step)
        var candidate = byHash[hash]
        while let index = candidate {
            if buckets[index].path == path {
                buckets[index].ranks.append(rank)
                return
            }
            candidate = buckets[index].collision
        }
        buckets.append(Bucket(path: path, ranks: [rank], parent: nil, collision: byHash[hash]))
        byHash[hash] = buckets.count - 1
        longest = max(longest, path.count)
    }

    /// To be called once all paths are in.
    mutating func linkParents() {
        for index in buckets.indices {
            let path = buckets[index].path
            guard let last = path.lastIndex(of: UInt8(ascii: "/")) else { continue }
            let above = Array(path[..<last])
            buckets[index].parent = deepestPrefix(of: above.span)
        }
    }

    func ranks(in bucket: Int) -> [Int] { buckets[bucket].ranks }
    func parent(of bucket: Int) -> Int? { buckets[bucket].parent }

    func bucket(for path: Span<UInt8>) -> Int? {
        guard path.count <= longest else { return nil }
        var hash = Self.start
        for index in 0..<path.count { hash = Self.step(hash, path[index]) }
        return find(hash, path, path.count)
    }

    /// The longest path of the index that is this path or stands above it by whole elements.
    func deepestPrefix(of path: Span<UInt8>) -> Int? {
        var hash = Self.start
        var deepest: Int?
        for index in 0..<min(path.count, longest + 1) {
            if path[index] == UInt8(ascii: "/"), let found = find(hash, path, index) { deepest = found }
            hash = Self.step(hash, path[index])
        }
        if path.count <= longest, let found = find(hash, path, path.count) { deepest = found }
        // The empty path stands above all, also above the `*` of OPTIONS, which has no elements.
        return deepest ?? find(Self.start, path, 0)
    }

    private func find(_ hash: UInt64, _ path: Span<UInt8>, _ length: Int) -> Int? {
        var candidate = byHash[hash]
        while let index = candidate {
            if buckets[index].path.count == length, path.starts(with: buckets[index].path) { return index }
            candidate = buckets[index].collision
        }
        return nil
    }
}
