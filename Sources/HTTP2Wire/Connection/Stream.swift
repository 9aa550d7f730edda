/// One stream (RFC 9113, 5.1): each direction has its own state. Idle streams are above the highest ID used, closed
/// ones are not in the table; `open` and the two `half-closed` are what the directions say together.

struct Stream: Sendable {
    enum Receiving: Sendable {
        /// Of a response, behind so many interim ones.
        case head(interims: UInt8, isHEAD: Bool, isCONNECT: Bool)
        /// DATA and trailers; nil: of any length.
        case body(left: UInt64?)
        /// DATA only (RFC 9113, 8.5; RFC 8441).
        case tunnel
        /// A malformed request: what follows it is nobody's.
        case discarded
        case ended
    }
    enum Sending: Sendable {
        case head, body, ended
    }
    let id: UInt32
    var receiving: Receiving
    var sending: Sending
    /// What the peer takes; SETTINGS can make it negative (RFC 9113, 6.9.2).
    var sendWindow: Int32
    /// What the peer may still send, out of `windowSize`.
    var receiveWindow: Int32
    var windowSize: UInt32
    /// Consumed and not given back yet; consumed since the window grew.
    var owed: UInt32 = 0
    var used: UInt32 = 0
    /// More is to be sent than the windows let out.
    var isWaiting = false

    init(_ id: UInt32, _ receiving: Receiving, _ sending: Sending, sendWindow: Int32, windowSize: UInt32) {
        (self.id, self.receiving, self.sending) = (id, receiving, sending)
        (self.sendWindow, receiveWindow, self.windowSize) = (sendWindow, Int32(windowSize), windowSize)
    }

    var hasReceivedAll: Bool { if case .ended = receiving { true } else { false } }
    var isClosed: Bool { hasReceivedAll && sending == .ended }
}

/// Streams by ID, in one array with open addressing. IDs count up by two, so that they mostly lie side by side.
struct StreamTable: Sendable {
    private var slots: [Stream] = []
    private(set) var count = 0
    private static let none = Stream(0, .ended, .ended, sendWindow: 0, windowSize: 0)
    private static let smallest = 2
    private static let kept = 16

    var memory: Int { slots.capacity * MemoryLayout<Stream>.stride }
    /// Slots, some of them empty (ID 0).
    var indices: Range<Int> { slots.indices }
    @inline(__always) subscript(_ index: Int) -> Stream {
        get { slots[index] }
        _modify { yield &slots[index] }
    }

    @inline(__always) private func home(_ id: UInt32) -> Int { Int(id >> 1) & (slots.count - 1) }

    @inline(__always) func find(_ id: UInt32) -> Int? {
        guard count > 0 else { return nil }
        var index = home(id)
        while slots[index].id != 0 {
            if slots[index].id == id { return index }
            index = (index + 1) & (slots.count - 1)
        }
        return nil
    }

    @discardableResult mutating func insert(_ stream: Stream) -> Int {
        if (count + 1) * 2 > slots.count { grow() }
        count += 1
        return place(stream)
    }

    private mutating func place(_ stream: Stream) -> Int {
        var index = home(stream.id)
        while slots[index].id != 0 { index = (index + 1) & (slots.count - 1) }
        slots[index] = stream
        return index
    }

    private mutating func grow() {
        let old = slots
        slots = Array(repeating: Self.none, count: max(Self.smallest, old.count * 2))
        for stream in old where stream.id != 0 { _ = place(stream) }
    }

    /// What lies behind moves up if it may, so that no gap cuts it off.
    mutating func remove(at index: Int) {
        count -= 1
        guard count > 0 || slots.count <= Self.kept else {
            slots = []
            return
        }
        var gap = index
        var next = index
        let mask = slots.count - 1
        while true {
            next = (next + 1) & mask
            guard slots[next].id != 0 else { break }
            // The way from its home to here leads over the gap.
            if (next - home(slots[next].id)) & mask >= (next - gap) & mask {
                slots[gap] = slots[next]
                gap = next
            }
        }
        slots[gap] = Self.none
    }
}
