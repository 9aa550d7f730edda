/// What is kept of a request's body: what waits for an endpoint, and what may have to be sent to another one.
import NIOCore

struct KeptBody {
    private(set) var pieces: [ByteBuffer] = []
    private var bytes = 0
    /// All that has come is here, or can still be.
    private(set) var isWhole = true
    /// Lines with their CRLFs and the empty one, of a body that has ended with them.
    var trailers: ByteBuffer?

    var held: Int { pieces.isEmpty ? 0 : bytes }

    mutating func keep(_ piece: ByteBuffer) {
        pieces.keep(piece)
        bytes += piece.readableBytes
    }
    /// As above, for pieces as short as the client likes: each would keep the buffer it came in.
    mutating func join(_ piece: ByteBuffer) {
        if pieces.isEmpty { pieces.append(ByteBuffer()) }
        pieces[pieces.count - 1].writeImmutableBuffer(piece)
        bytes += piece.readableBytes
    }
    /// A piece that was sent, so that it can be sent again, up to this size of all of them.
    mutating func keep(sent piece: ByteBuffer, limit: Int) {
        guard isWhole else { return }
        bytes += piece.readableBytes
        if bytes > limit { drop() } else { pieces.keep(piece) }
    }
    /// It will not be sent again.
    mutating func drop() {
        if bytes > 0 { isWhole = false }
        pieces = []
    }
}

extension [ByteBuffer] {
    /// Long ones stay where they lie, which costs less than to copy them.
    private static var short: Int { 4 << 10 }
    private static var longest: Int { 16 << 10 }

    /// Adds what may wait for long, so that it takes no more memory than is counted for it: a few bytes keep no large
    /// buffer they lie in, and have none of their own. `first`: those before it are not to be changed.
    mutating func keep(_ piece: ByteBuffer, from first: Int = 0) {
        let size = piece.readableBytes
        guard size > 0 else { return }
        if size >= Self.short, piece.storageCapacity <= 4 * size { return append(piece) }
        guard count > first, self[count - 1].readableBytes + size <= Self.longest else {
            return append(ByteBuffer(bytes: piece.readableBytesView))
        }
        self[count - 1].writeImmutableBuffer(piece)
    }
}
