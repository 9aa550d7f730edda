/// How connection tracking entries come, change and go, as it happens (ctnetlink's multicast groups), and a listing
/// with the same detail.
package import Addressing
import Glibc

/// The kernel's numbers (enum tcp_conntrack).
package enum TrackedTCPState: UInt8, Sendable {
    case synSent = 1
    case synReceived, established, finWait, closeWait, lastAck, timeWait, closed
    case synSentTwice
}

/// One entry and what is known of the flow beyond its addresses.
package struct TrackedFlow: Sendable, Equatable {
    package let entry: ConntrackEntry
    /// An answer has come.
    package let isAnswered: Bool
    /// The destination was changed.
    package let isTranslated: Bool
    /// Bytes of packets, headers included; nil: nf_conntrack_acct is off.
    package let sentBytes: UInt64?
    package let receivedBytes: UInt64?
}

package struct ConntrackEvent: Sendable, Equatable {
    package enum Change: Sendable {
        case new, update, destroy
    }
    package let change: Change
    package let flow: TrackedFlow
}

package final class ConntrackMonitor {
    private let socket: NetlinkSocket
    /// NFNLGRP_CONNTRACK_NEW, _UPDATE and _DESTROY.
    private static let (new, update, destroy): (Int32, Int32, Int32) = (1, 2, 3)

    /// Flows whose destination was translated. Without `withUpdates` only how they begin and go: the kernel makes a
    /// message of every change of state of every flow it tracks if there is one listener, which costs each connection
    /// some microseconds. Serves the network namespace of the calling thread.
    package init(withUpdates: Bool) throws(NetlinkError) {
        socket = try NetlinkSocket(.netfilter)
        socket.setBufferSizes(send: 1 << 16, receive: 16 << 20)
        try socket.keepTranslatedFlows()
        for group in withUpdates ? [Self.new, Self.update, Self.destroy] : [Self.new, Self.destroy] {
            try socket.join(group: group)
        }
    }

    /// Hands over what has happened; does not wait.
    package func drain(_ body: (ConntrackEvent) -> Void) throws(NetlinkError) {
        while socket.waitReadable(milliseconds: 0) {
            do {
                try socket.receive(operation: "read conntrack events") { message throws(NetlinkError) in
                    if let event = ConntrackEvent(message) { body(event) }
                    return true
                }
            } catch  where error.code == ENOBUFS {
                continue  // `lost` has them
            }
        }
    }

    /// Messages the kernel could not leave here because the buffer was full.
    package var lost: UInt64 {
        let soMeminfo: Int32 = 55
        let drops = 8  // SK_MEMINFO_DROPS
        return withUnsafeTemporaryAllocation(of: UInt32.self, capacity: drops + 1) { numbers in
            numbers.initialize(repeating: 0)
            var size = socklen_t(numbers.count * MemoryLayout<UInt32>.size)
            guard getsockopt(socket.fileDescriptor, SOL_SOCKET, soMeminfo, numbers.baseAddress, &size) == 0 else {
                return 0
            }
            return UInt64(numbers[drops])
        }
    }
}

extension ConntrackClient {
    /// The flows of a family whose destination was translated and that satisfy `condition`.
    package func translatedFlows(
        _ family: AddressFamily, where condition: (borrowing TrackedFlow) -> Bool = { _ in true }
    ) throws(NetlinkError) -> [TrackedFlow] {
        try socket.list(type: CT.get, operation: "list translated flows (\(family))") { request in
            request.appendNetfilterHeader(family)
            // Kernels before 5.18 do not know these and list everything.
            request.put(CT.status, bigEndian: Status.destinationTranslated)
            request.put(CT.statusMask, bigEndian: Status.destinationTranslated)
        } read: { message, result in
            guard let flow = TrackedFlow(message), flow.isTranslated, condition(flow) else { return }
            result.append(flow)
        }
    }
}

/// enum ip_conntrack_status.
private enum Status {
    static let seenReply: UInt32 = 1 << 1
    static let destinationTranslated: UInt32 = 1 << 5
}

extension ConntrackEvent {
    init?(_ message: borrowing NetlinkMessage) {
        guard let flow = TrackedFlow(message) else { return nil }
        let isNew = message.flags & (MessageFlag.create | MessageFlag.exclusive) != 0
        change = message.type == CT.delete ? .destroy : isNew ? .new : .update
        self.flow = flow
    }
}

extension TrackedFlow {
    init?(_ message: borrowing NetlinkMessage) {
        guard let entry = ConntrackEntry(message) else { return nil }
        let attributes = message.attributes(after: 4)
        let status: UInt32 = attributes.first(CT.status)?.bigEndian() ?? 0
        self.entry = entry
        isAnswered = status & Status.seenReply != 0
        isTranslated = status & Status.destinationTranslated != 0
        sentBytes = attributes.first(CT.countersOriginal)?.nested.first(CT.counterBytes)?.bigEndian()
        receivedBytes = attributes.first(CT.countersReply)?.nested.first(CT.counterBytes)?.bigEndian()
    }
}
