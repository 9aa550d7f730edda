/// Bytes that grow at their end and are overwritten in place: an array whose unused part is filled already, so that a
/// writer of unknown length (Huffman's code, a header block) writes straight into it.

package struct ByteStore: Sendable {
    private var storage: [UInt8] = []
    package private(set) var count = 0

    package init() {}

    package var isEmpty: Bool { count == 0 }
    package var capacity: Int { storage.count }

    /// `body` writes at most `maximum` bytes and says how many.
    @inline(__always) mutating func write(upTo maximum: Int, _ body: (UnsafeMutablePointer<UInt8>) -> Int) {
        if storage.count - count < maximum { grow(by: maximum) }
        let start = count
        let written = storage.withUnsafeMutableBufferPointer { buffer in
            // Never nil: room was made for at least one byte, or nothing is written.
            buffer.baseAddress.map { body($0 + start) } ?? 0
        }
        count = start + written
    }

    private mutating func grow(by room: Int) {
        let size = max(64, storage.count * 2, count + room)
        storage.append(contentsOf: repeatElement(0, count: size - storage.count))
    }

    @inline(__always) package mutating func append(_ byte: UInt8) {
        write(upTo: 1) {
            $0.pointee = byte
            return 1
        }
    }

    @inline(__always) package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        write(upTo: bytes.count) {
            UnsafeMutableRawPointer($0).copyMemory(from: source, byteCount: bytes.count)
            return bytes.count
        }
    }

    package mutating func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

    /// Big-endian, the lowest `size` bytes.
    @inline(__always) mutating func append(_ value: UInt64, size: Int) {
        write(upTo: size) { target in
            for index in 0..<size { target[index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (size - 1 - index))) }
            return size
        }
    }

    /// Overwrites what stands there.
    mutating func set(_ value: UInt64, size: Int, at offset: Int) {
        for index in 0..<size {
            storage[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (size - 1 - index)))
        }
    }

    /// Makes room for `size` bytes at `offset` and fills it with what is to be written there.
    mutating func insert(_ value: UInt64, size: Int, at offset: Int) {
        let moved = count - offset
        write(upTo: size) { _ in size }
        storage.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            (base + offset + size).copyMemory(from: base + offset, byteCount: moved)
        }
        set(value, size: size, at: offset)
    }

    @inline(__always) mutating func truncate(to length: Int) { count = min(count, length) }

    /// Forgets the bytes; keeps the memory unless it is more than `kept`.
    package mutating func removeAll(keeping kept: Int = .max) {
        count = 0
        if storage.count > kept { storage = [] }
    }

    @inline(__always) package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        storage.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    }

    package var bytes: [UInt8] { Array(storage[..<count]) }
}
