/// Buffers of one event loop, used over and over: a connection has one for as long as bytes lie in it, and an idle one
/// has none.
import NIOCore

// Touched on its own loop only, like the shard it belongs to.
final class BufferPool: @unchecked Sendable {
    /// Of an ordinary one: a head and more.
    static let size = 2 << 10
    private static let maximumFree = 32
    /// Some still belong to others as well: that shows when one is taken.
    private var free: [ByteBuffer] = []
    /// For long bodies.
    private var large = ByteBuffer()

    init() { free.reserveCapacity(Self.maximumFree) }

    /// Empty, with room for so many bytes at least.
    func take(_ capacity: Int) -> ByteBuffer {
        guard capacity <= Self.size else { return takeLarge(capacity) }
        while var buffer = free.popLast() {
            let isFree: Void? = buffer.modifyIfUniquelyOwned { $0.clear() }
            if isFree != nil { return buffer }
        }
        return ByteBufferAllocator().buffer(capacity: Self.size)
    }
    private func takeLarge(_ capacity: Int) -> ByteBuffer {
        // Not a much longer one: a head may be kept for as long as its request takes.
        if large.storageCapacity >= capacity, large.storageCapacity / 2 <= capacity {
            var buffer = ByteBuffer()
            swap(&buffer, &large)
            let isFree: Void? = buffer.modifyIfUniquelyOwned { $0.clear() }
            if isFree != nil { return buffer }
        }
        return ByteBufferAllocator().buffer(capacity: capacity)
    }

    /// Slices of it that live on keep its memory from being used again.
    func giveBack(_ buffer: consuming ByteBuffer) {
        switch buffer.storageCapacity {
        case Self.size: if free.count < Self.maximumFree { free.append(buffer) }
        case max(Self.size + 1, large.storageCapacity)...ReadSizes.maximum: large = buffer
        default: break
        }
    }
}

/// What a connection reads into: more as long as it comes full. NIO keeps a copy of the first buffer for as long as the
/// connection lives, so that one is as small as can be: a connection begins with one read more than it needs.
struct ReadAllocator: RecvByteBufferAllocator {
    static let firstSize = 16
    private static let first = ByteBufferAllocator().buffer(capacity: firstSize)
    private let pool: BufferPool
    /// 0: nothing was read yet.
    private var size: UInt32 = 0
    private var isOversized = false

    init(_ pool: BufferPool) { self.pool = pool }

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer {
        size == 0 ? Self.first : pool.take(Int(size))
    }

    /// Always true: NIO is not to use the first one again.
    mutating func record(actualReadBytes count: Int) -> Bool {
        if size == 0 {
            size = UInt32(BufferPool.size)
        } else if count >= Int(size) {
            size = min(size * 2, UInt32(ReadSizes.maximum))
            isOversized = false
        } else if size > BufferPool.size, count <= Int(size / 2) {
            // Twice in a row: the end of a body is short.
            if isOversized { size /= 2 }
            isOversized.toggle()
        } else {
            isOversized = false
        }
        return true
    }
}

/// Long bodies pass in pieces of up to 256 KB, at half the CPU of NIO's 64 KB. One piece a turn instead of four, so
/// that a connection holds no more memory than before.
enum ReadSizes {
    static let maximum = 256 << 10
    static let readsPerTurn: UInt = 1
    /// What a client of HTTP/1 may leave unread before its backend has to wait: it counts in no account.
    static let unread = ChannelOptions.Types.WriteBufferWaterMark(low: 8 << 10, high: 16 << 10)
    /// Frames of 16 KB leave several at a time.
    static let unreadFrames = ChannelOptions.Types.WriteBufferWaterMark(low: 32 << 10, high: 64 << 10)
}
