/// What is to be sent goes to the kernel at once, past NIO's queue, which costs many times what it takes to make the
/// call. What the kernel does not take goes by way of NIO, and so does everything behind it while that lasts. For
/// connections without a handler that changes what is sent.
import Glibc
import NIOCore

struct DirectSocket {
    /// Its descriptor, for as long as the channel has one.
    private let transport: (any NIOTransportAccessibleChannelCore<NIOBSDSocket.Handle>)?
    /// NIO may have bytes that go first.
    private(set) var isQueueing = false

    /// Of no channel yet.
    init() { transport = nil }
    init(_ channel: any Channel) {
        transport = channel._channelCore as? any NIOTransportAccessibleChannelCore<NIOBSDSocket.Handle>
    }

    /// How many of the bytes the kernel has taken. After an error it is none: NIO, which gets the rest, meets the same
    /// and ends the connection.
    func send(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard !isQueueing, let transport else { return 0 }
        let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
        let sent = try? transport.withUnsafeTransport { Glibc.send($0, bytes.baseAddress, bytes.count, flags) }
        return max(0, sent ?? 0)
    }

    /// How many bytes were there already. Ends and errors are left for NIO to find.
    func receive(into bytes: UnsafeMutableRawBufferPointer) -> Int {
        guard let transport else { return 0 }
        let count = try? transport.withUnsafeTransport {
            recv($0, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT))
        }
        return max(0, count ?? 0)
    }

    /// Bytes were given to NIO.
    mutating func queued() { isQueueing = true }
    /// It was asked to send them.
    mutating func flushed(_ channel: any Channel) { if isQueueing { isQueueing = channel.pendingBytes > 0 } }
}
