/// Notices when somebody else changes our tables (spec row 169). The kernel sends a notification for every changed
/// object to whoever listens; our own are filtered out in the kernel by the number of our socket.
import CLibnftnl
package import DataplaneIR
import Netlink
import Nftables

/// `wait` blocks, so it runs on a thread of its own; `pause` and `resume` are called from the dataplane's thread. The
/// socket's descriptor never changes, and joining and leaving a group are single system calls.
package final class NftablesMonitor {
    private let socket: NetlinkSocket
    private static let group: Int32 = 7

    /// `ownPort`: the dataplane's `portID`. Serves the network namespace of the calling thread.
    package init(ownPort: UInt32) throws(DataplaneError) {
        do {
            socket = try NetlinkSocket(.netfilter)
            socket.setBufferSizes(send: 1 << 16, receive: 8 << 20)
            try socket.ignoreMessages(from: ownPort)
            try socket.join(group: Self.group)
        } catch {
            throw DataplaneError(error)
        }
    }

    /// For a poll loop.
    package var fileDescriptor: Int32 { socket.fileDescriptor }

    /// Waits until somebody else changed one of our tables, or may have; false: nothing in time.
    package func wait(milliseconds: Int32) -> Bool {
        guard socket.waitReadable(milliseconds: milliseconds) else { return false }
        var isOurs = false
        while socket.waitReadable(milliseconds: 0) {
            do {
                try socket.receive(operation: "read nftables notifications") { message throws(NetlinkError) in
                    if Self.concernsUs(message) { isOurs = true }
                    return true
                }
            } catch {
                // Too many at once (ENOBUFS): some are lost, and one may have been about us.
                isOurs = true
            }
        }
        return isOurs
    }

    /// Every message names its table first, except the one that ends a transaction.
    private static func concernsUs(_ message: borrowing NetlinkMessage) -> Bool {
        guard message.type >> 8 == UInt16(NFNL_SUBSYS_NFTABLES),
            message.type & 0xff != UInt16(NFT_MSG_NEWGEN.rawValue)
        else { return false }
        return message.attributes(after: 4).first(UInt16(NFTA_TABLE_NAME.rawValue))?.string == TableLayout.name
    }

    /// A listener makes the kernel build a message for each of a hundred thousand elements: be none meanwhile.
    func pause() { try? socket.leave(group: Self.group) }
    func resume() { try? socket.join(group: Self.group) }
}
