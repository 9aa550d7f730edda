/// The dynamic table (RFC 7541, 2.3.2) over one flat buffer: entries lie one behind the other, new ones at the end, and
/// what is live moves to the front when the end is reached. Both buffers grow with what is in them.

struct DynamicTable: Sendable {
    struct Entry: Sendable, BitwiseCopyable {
        var start: UInt32
        var nameCount: UInt16
        var valueCount: UInt16
        var name: FieldName
        var marks: FieldMarks
    }
    /// Entries are counted in 16 bits; also the most memory a peer may claim.
    static let maximumLimit = 65_535
    /// What an entry counts beside its bytes (RFC 7541, 4.1).
    static let overhead = 32

    private(set) var limit: Int
    private(set) var size = 0
    /// The number of the entry inserted next, and of the oldest that is still here. They wrap around.
    private(set) var next: UInt32 = 0
    private(set) var oldest: UInt32 = 0
    private var entries: [Entry] = []
    private var bytes: [UInt8] = []
    private var end = 0

    init(limit: Int) { self.limit = min(limit, Self.maximumLimit) }

    var count: Int { Int(next &- oldest) }
    var memory: Int { bytes.capacity + entries.capacity * MemoryLayout<Entry>.stride }
    /// How many entries there is room for; a power of two.
    var room: Int { entries.count }

    /// 0 is the newest.
    @inline(__always) func entry(at index: Int) -> Entry? {
        index < count ? entry(number: next &- 1 &- UInt32(truncatingIfNeeded: index)) : nil
    }
    @inline(__always) func entry(number: UInt32) -> Entry { entries[Int(number) & (entries.count - 1)] }
    @inline(__always) func isLive(_ number: UInt32) -> Bool { number &- oldest < next &- oldest }

    @inline(__always) func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        bytes.withUnsafeBytes(body)
    }

    /// Entries beyond the limit go, the oldest first (RFC 7541, 4.3).
    mutating func setLimit(_ limit: Int) {
        self.limit = min(limit, Self.maximumLimit)
        evict(to: self.limit)
        if self.limit == 0 { (entries, bytes) = ([], []) }
    }

    private mutating func evict(to size: Int) {
        while self.size > size {
            let entry = entry(number: oldest)
            self.size -= Int(entry.nameCount) + Int(entry.valueCount) + Self.overhead
            oldest &+= 1
        }
        if count == 0 { end = 0 }
    }

    /// Name and value, one behind the other, from another buffer. False: it is larger than the table, which is empty
    /// then (RFC 7541, 4.4).
    @discardableResult mutating func insert(
        _ field: UnsafeRawBufferPointer, nameCount: Int, _ name: FieldName, _ marks: FieldMarks
    ) -> Bool {
        let cost = field.count + Self.overhead
        guard cost <= limit else {
            evict(to: 0)
            return false
        }
        evict(to: limit - cost)
        if count == entries.count { growEntries() }
        if end + field.count > bytes.count { makeRoom(field.count) }
        let start = end
        bytes.withUnsafeMutableBytes { buffer in
            guard let target = buffer.baseAddress, let source = field.baseAddress else { return }
            (target + start).copyMemory(from: source, byteCount: field.count)
        }
        entries[Int(next) & (entries.count - 1)] = Entry(
            start: UInt32(start), nameCount: UInt16(nameCount), valueCount: UInt16(field.count - nameCount), name: name,
            marks: marks)
        end += field.count
        size += cost
        next &+= 1
        return true
    }

    private mutating func growEntries() {
        let old = entries
        let none = Entry(start: 0, nameCount: 0, valueCount: 0, name: .other, marks: [])
        entries = Array(repeating: none, count: max(4, old.count * 2))
        var number = oldest
        while number != next {
            entries[Int(number) & (entries.count - 1)] = old[Int(number) & (old.count - 1)]
            number &+= 1
        }
    }

    /// Moves what is live to the front, of a larger buffer if more than half of this one is live.
    private mutating func makeRoom(_ needed: Int) {
        let begin = count == 0 ? end : Int(entry(number: oldest).start)
        let live = end - begin
        if (live + needed) * 2 > bytes.count {
            let size = max(64, bytes.count * 2, live + needed)
            bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
        }
        bytes.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            base.copyMemory(from: base + begin, byteCount: live)
        }
        var number = oldest
        while number != next {
            entries[Int(number) & (entries.count - 1)].start -= UInt32(begin)
            number &+= 1
        }
        end = live
    }
}
