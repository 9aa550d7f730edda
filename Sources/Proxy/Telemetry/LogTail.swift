/// The last lines of a log, so that they can be asked for where the log itself went somewhere else.

package struct LogTail: Sendable {
    package static let capacity = 256 << 10
    private var bytes: [UInt8] = []
    /// How much came before the first of `bytes`, counted from the start of the log.
    private var start: UInt64 = 0

    package init() {}

    /// Whole lines only.
    package mutating func append(_ lines: some Collection<UInt8>) {
        bytes += lines
        guard bytes.count > Self.capacity else { return }
        // Rarely, and then half of it, so that a line costs its own length.
        var cut = bytes.count - Self.capacity / 2
        while cut < bytes.count, bytes[cut - 1] != 0x0a { cut += 1 }
        bytes.removeFirst(cut)
        start += UInt64(cut)
    }

    /// What came from `offset` on; of what is gone, `missed` bytes.
    package func read(from offset: UInt64) -> (text: String, next: UInt64, missed: UInt64) {
        let end = start + UInt64(bytes.count)
        // An offset of another process, which had written more.
        let offset = offset > end ? 0 : offset
        let from = Int(max(offset, start) - start)
        let missed = offset > 0 && offset < start ? start - offset : 0
        return (String(decoding: bytes[from...], as: UTF8.self), end, missed)
    }
}
