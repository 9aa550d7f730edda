/// Cuts a watch's bytes into events. Only the byte 0x0A ends an event: U+2028 and U+0085 are legal inside JSON text,
/// and an event may come in any number of pieces, in pieces of any size.

package struct LineFramer {
    /// What of an event has come so far.
    private var pending: [UInt8] = []
    /// Larger events are refused. The API server itself refuses objects of more than 3 MiB.
    let limit: Int

    package struct TooLong: Error {}

    package init(limit: Int = 8 << 20) { self.limit = limit }

    /// Whether the stream stands in the middle of an event.
    package var isInsideEvent: Bool { !pending.isEmpty }

    /// Calls `body` with each event that is complete now, in place where it lies within `chunk`.
    package mutating func push(_ chunk: Span<UInt8>, _ body: (Span<UInt8>) throws -> Void) throws {
        var start = 0
        while start < chunk.count {
            let end = newline(in: chunk, from: start)
            guard pending.count + (end ?? chunk.count) - start <= limit else { throw TooLong() }
            guard let end else {
                append(chunk.extracting(start..<chunk.count))
                return
            }
            if pending.isEmpty {
                if end > start { try body(chunk.extracting(start..<end)) }
            } else {
                append(chunk.extracting(start..<end))
                let line = pending
                // A large event must not keep its memory until the stream ends.
                pending.removeAll(keepingCapacity: pending.capacity <= 1 << 16)
                try body(line.span)
            }
            start = end + 1
        }
    }

    private mutating func append(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBufferPointer { pending.append(contentsOf: $0) }
    }
}

private func newline(in bytes: Span<UInt8>, from start: Int) -> Int? {
    bytes.withUnsafeBufferPointer { $0[start...].firstIndex(of: UInt8(ascii: "\n")) }
}
