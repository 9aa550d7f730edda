/// Builds netlink messages as bytes. Pure: nothing here talks to the kernel, so encodings are tested without root. The
/// buffer grows as needed, unlike libmnl's put functions, which write past the end of a full one.
package import Addressing

package struct MessageWriter: ~Copyable {
    private var storage: UnsafeMutableRawBufferPointer
    package private(set) var count = 0

    package init(capacity: Int = 4096) {
        storage = .allocate(byteCount: max(capacity, 64), alignment: 8)
    }
    deinit { storage.deallocate() }

    package var bytes: [UInt8] { Array(storage[..<count]) }
    package func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        try body(UnsafeRawBufferPointer(rebasing: storage[..<count]))
    }
    package mutating func removeAll() { count = 0 }

    // MARK: Messages

    /// Starts a message and returns its position, which `endMessage` wants back.
    package mutating func beginMessage(type: UInt16, flags: UInt16, sequence: UInt32) -> Int {
        let start = count
        append(UInt32(0))
        append(type)
        append(flags)
        append(sequence)
        append(UInt32(0))
        return start
    }
    package mutating func endMessage(_ start: Int) {
        storage.storeBytes(of: UInt32(count - start), toByteOffset: start, as: UInt32.self)
    }
    /// Sets flags of a message that is already complete, such as the request for an acknowledgement.
    package mutating func addFlags(_ flags: UInt16, toMessageAt start: Int) {
        let old = storage.loadUnaligned(fromByteOffset: start + 6, as: UInt16.self)
        storage.storeBytes(of: old | flags, toByteOffset: start + 6, as: UInt16.self)
    }

    // MARK: Attributes

    package mutating func beginNested(_ type: UInt16) -> Int {
        let start = count
        append(UInt16(0))
        append(type | 0x8000)
        return start
    }
    /// `isNested: false` ends an attribute that was written piece by piece but holds plain bytes.
    package mutating func endNested(_ start: Int, isNested: Bool = true) {
        precondition(count - start <= 0xffff, "a netlink attribute holds at most 65535 bytes; split it")
        if !isNested {
            let type = storage.loadUnaligned(fromByteOffset: start + 2, as: UInt16.self)
            storage.storeBytes(of: type & 0x7fff, toByteOffset: start + 2, as: UInt16.self)
        }
        storage.storeBytes(of: UInt16(count - start), toByteOffset: start, as: UInt16.self)
    }
    package mutating func nested<E: Error>(
        _ type: UInt16, _ body: (inout MessageWriter) throws(E) -> Void
    ) throws(E) {
        let start = beginNested(type)
        try body(&self)
        endNested(start)
    }
    /// The value as it lies in memory, in host order unless the caller swapped it.
    package mutating func put<T: FixedWidthInteger>(_ type: UInt16, _ value: T) {
        append(UInt16(4 + MemoryLayout<T>.size))
        append(type)
        append(value)
        pad()
    }
    /// nfnetlink's numbers are in network order.
    package mutating func put<T: FixedWidthInteger>(_ type: UInt16, bigEndian value: T) {
        put(type, value.bigEndian)
    }
    /// A string with its terminating zero.
    package mutating func put(_ type: UInt16, string: String) {
        var string = string
        string.withUTF8 { text in
            append(UInt16(5 + text.count))
            append(type)
            append(UnsafeRawBufferPointer(text))
            append(UInt8(0))
        }
        pad()
    }
    package mutating func put(_ type: UInt16, bytes: some Sequence<UInt8>) {
        let start = count
        append(UInt16(0))
        append(type)
        for byte in bytes { append(byte) }
        storage.storeBytes(of: UInt16(count - start), toByteOffset: start, as: UInt16.self)
        pad()
    }
    /// 4 or 16 bytes.
    package mutating func put(_ type: UInt16, address: IPAddress) {
        append(UInt16(4 + address.family.byteCount))
        append(type)
        append(address)
    }

    // MARK: Raw bytes

    package mutating func append<T: FixedWidthInteger>(_ value: T) {
        let size = MemoryLayout<T>.size
        reserve(size)
        storage.storeBytes(of: value, toByteOffset: count, as: T.self)
        count += size
    }
    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        reserve(bytes.count)
        UnsafeMutableRawBufferPointer(rebasing: storage[count...]).copyMemory(from: bytes)
        count += bytes.count
    }
    /// The address in network order, 4 or 16 bytes.
    package mutating func append(_ address: IPAddress) {
        if address.isIPv4 {
            append(address.v4.bigEndian)
        } else {
            append(address.high.bigEndian)
            append(address.low.bigEndian)
        }
    }
    /// Zeros up to the next multiple of four.
    package mutating func pad() {
        while count & 3 != 0 { append(UInt8(0)) }
    }

    private mutating func reserve(_ extra: Int) {
        guard storage.count - count < extra else { return }
        let bigger = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(storage.count * 2, count + extra), alignment: 8)
        bigger.copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[..<count]))
        storage.deallocate()
        storage = bigger
    }
}
