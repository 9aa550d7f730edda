/// Typed access to a bpf map whose keys and values are plain C structs. Calls go straight to the kernel; nothing is
/// kept here and nothing is allocated per entry.
import CLibbpf
import Glibc

package struct BPFMap<Key: BitwiseCopyable, Value: BitwiseCopyable>: Sendable {
    package let descriptor: BPFDescriptor
    package let name: String
    package let maxEntries: Int
    package let id: UInt32

    /// Fails when the map's sizes are not those of the Swift types: then some other program made it.
    package init(_ descriptor: BPFDescriptor, name: String) throws(BPFError) {
        let info = try descriptor.mapInfo()
        guard Int(info.key_size) == MemoryLayout<Key>.stride, Int(info.value_size) == MemoryLayout<Value>.stride else {
            throw BPFError(
                "open map \(name)", EINVAL,
                detail: "it has \(info.key_size)-byte keys and \(info.value_size)-byte values, "
                    + "not \(MemoryLayout<Key>.stride) and \(MemoryLayout<Value>.stride)")
        }
        self.descriptor = descriptor
        self.name = name
        maxEntries = Int(info.max_entries)
        id = info.id
    }

    package func update(_ key: Key, _ value: Value) throws(BPFError) {
        let result = withUnsafePointer(to: key) { key in
            withUnsafePointer(to: value) { bpf_map_update_elem(descriptor.fd, key, $0, 0) }
        }
        if result < 0 { throw BPFError("update map \(name)", -result) }
    }

    /// nil when the key is absent.
    package func lookup(_ key: Key) throws(BPFError) -> Value? {
        var result: Int32 = 0
        let value = withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { buffer -> Value? in
            result = withUnsafePointer(to: key) { bpf_map_lookup_elem(descriptor.fd, $0, buffer.baseAddress) }
            return result == 0 ? buffer[0] : nil
        }
        if result < 0 && result != -ENOENT { throw BPFError("look up in map \(name)", -result) }
        return value
    }

    /// No error when the key is absent.
    package func delete(_ key: Key) throws(BPFError) {
        let result = withUnsafePointer(to: key) { bpf_map_delete_elem(descriptor.fd, $0) }
        if result < 0 && result != -ENOENT { throw BPFError("delete from map \(name)", -result) }
    }

    /// Writes entries in order, many to a system call. On failure `written` entries at the front are in.
    package func update(
        batch keys: borrowing [Key], _ values: borrowing [Value], written: inout Int
    ) throws(BPFError) {
        written = 0
        guard !keys.isEmpty else { return }
        var count = UInt32(keys.count)
        var options = bpf_map_batch_opts()
        options.sz = MemoryLayout<bpf_map_batch_opts>.size
        let result = keys.withUnsafeBufferPointer { keys in
            values.withUnsafeBufferPointer {
                bpf_map_update_batch(descriptor.fd, keys.baseAddress, $0.baseAddress, &count, &options)
            }
        }
        written = min(Int(count), keys.count)
        if result < 0 { throw BPFError("update map \(name)", -result) }
    }

    /// Deletes entries in order; absent ones are passed over. On failure `deleted` entries at the front are gone.
    package func delete(batch keys: borrowing [Key], deleted: inout Int) throws(BPFError) {
        deleted = 0
        while deleted < keys.count {
            var count = UInt32(keys.count - deleted)
            var options = bpf_map_batch_opts()
            options.sz = MemoryLayout<bpf_map_batch_opts>.size
            let from = deleted
            let result = keys.withUnsafeBufferPointer {
                bpf_map_delete_batch(descriptor.fd, $0.baseAddress.map { $0 + from }, &count, &options)
            }
            deleted += min(Int(count), keys.count - from)
            // The kernel stops at an absent key: go on behind it.
            if result == -ENOENT {
                deleted += 1
            } else if result < 0 {
                throw BPFError("delete from map \(name)", -result)
            }
        }
    }

    /// Every entry of a hash map, in the kernel's order, read in batches.
    package func entries(batch size: Int = 4096) throws(BPFError) -> [(key: Key, value: Value)] {
        var all: [(key: Key, value: Value)] = []
        var cursor = BPFMapCursor()
        while !cursor.isAtEnd { all += try entries(after: &cursor, batch: size) }
        return all
    }

    /// Some `size` entries of a hash map behind the cursor. Entries keep their place: one that is there from the first
    /// call to the last is read once, whatever is written in between.
    package func entries(
        after cursor: inout BPFMapCursor, batch size: Int
    ) throws(BPFError) -> [(key: Key, value: Value)] {
        var all: [(key: Key, value: Value)] = []
        try read(after: &cursor, batch: size) { keys, values in
            all.reserveCapacity(keys.count)
            for index in keys.indices { all.append((keys[index], values[index])) }
        }
        return all
    }

    /// The same where they lie: the caller's loop knows what they are, where one in here would ask for each entry.
    package func read(
        after cursor: inout BPFMapCursor, batch size: Int,
        _ body: (_ keys: UnsafeBufferPointer<Key>, _ values: UnsafeBufferPointer<Value>) -> Void
    ) throws(BPFError) {
        var capacity = size
        while true {
            var count = UInt32(capacity)
            let keys = UnsafeMutableBufferPointer<Key>.allocate(capacity: capacity)
            let values = UnsafeMutableBufferPointer<Value>.allocate(capacity: capacity)
            defer {
                keys.deallocate()
                values.deallocate()
            }
            var (position, next) = (cursor.position, UInt64(0))
            let isAtStart = cursor.isAtStart
            let result = withUnsafeMutablePointer(to: &position) { position in
                withUnsafeMutablePointer(to: &next) {
                    bpf_map_lookup_batch(
                        descriptor.fd, isAtStart ? nil : position, $0, keys.baseAddress, values.baseAddress, &count,
                        nil)
                }
            }
            if result == -ENOSPC {  // one bucket alone has more entries than the batch
                capacity *= 2
                continue
            }
            if result < 0 && result != -ENOENT { throw BPFError("read map \(name)", -result) }
            (cursor.position, cursor.isAtStart, cursor.isAtEnd) = (next, false, result == -ENOENT)
            let found = Int(count)
            return body(.init(rebasing: keys[..<found]), .init(rebasing: values[..<found]))
        }
    }

    /// Every key, one system call each: for map types without batch reading.
    package func keys() throws(BPFError) -> [Key] {
        var all: [Key] = []
        while true {
            var result: Int32 = 0
            let next = withUnsafeTemporaryAllocation(of: Key.self, capacity: 1) { buffer -> Key? in
                if let last = all.last {
                    result = withUnsafePointer(to: last) {
                        bpf_map_get_next_key(descriptor.fd, $0, buffer.baseAddress)
                    }
                } else {
                    result = bpf_map_get_next_key(descriptor.fd, nil, buffer.baseAddress)
                }
                return result == 0 ? buffer[0] : nil
            }
            guard let next else {
                guard result == -ENOENT else { throw BPFError("walk map \(name)", -result) }
                return all
            }
            all.append(next)
        }
    }
}

/// How far a hash map has been read.
package struct BPFMapCursor: Sendable {
    /// The number of a bucket, of 32 bits.
    fileprivate var position: UInt64 = 0
    fileprivate var isAtStart = true
    package fileprivate(set) var isAtEnd = false

    package init() {}
}

extension BPFMap where Key == UInt32, Value == UInt64 {
    /// The sums over processors of all entries of a per-processor array, read with one call.
    package func sums() throws(BPFError) -> [UInt64] {
        let processors = Int(libbpf_num_possible_cpus())
        guard processors > 0 else { throw BPFError("count the processors", Int32(-processors)) }
        var keys = [UInt32](repeating: 0, count: maxEntries)
        var slots = [UInt64](repeating: 0, count: maxEntries * processors)
        var count = UInt32(maxEntries)
        var next = UInt32(0)
        let result = keys.withUnsafeMutableBytes { keys in
            slots.withUnsafeMutableBytes {
                bpf_map_lookup_batch(descriptor.fd, nil, &next, keys.baseAddress, $0.baseAddress, &count, nil)
            }
        }
        // ENOENT: there is nothing behind the last one.
        if result < 0 && result != -ENOENT { throw BPFError("read map \(name)", -result) }
        return (0..<Int(count)).map { slots[$0 * processors..<($0 + 1) * processors].reduce(0, &+) }
    }
}
