/// Commits batches and reads tables back. The only file of this module that does I/O.
import Addressing
import CLibnftnl
import Glibc
package import Netlink

package final class NftablesConnection {
    private let socket: NetlinkSocket

    /// Serves the network namespace of the calling thread.
    package init() throws(NetlinkError) {
        socket = try NetlinkSocket(.netfilter)
        // A batch is one send; loading a large cluster takes tens of megabytes.
        socket.setBufferSizes(send: 1 << 28, receive: 1 << 24)
    }

    /// The notifications that our commits cause carry this number.
    package var portID: UInt32 { socket.portID }

    package func makeBatch() -> Batch { Batch(firstSequence: socket.nextSequence()) }

    /// All of the batch or nothing. The error names the operation that the kernel refused.
    package func commit(_ batch: inout Batch) throws(NetlinkError) {
        batch.finish()
        let first = batch.lastSequence &- UInt32(batch.labels.count - 1)
        let last = batch.lastSequence
        socket.skipSequences(through: last &+ 1)
        let operation = "commit \(batch.operations) nftables operations"
        try batch.withUnsafeBytes { (bytes) throws(NetlinkError) in try socket.send(bytes, operation: operation) }
        var failure: NetlinkError?
        var finished = false
        while !finished {
            try socket.receive(operation: operation) { message throws(NetlinkError) in
                guard let code = message.errorCode, let label = batch.label(of: message.sequence) else { return true }
                if code != 0, failure == nil { failure = NetlinkError(operation: label, code: code) }
                // An error for the opening message is the commit itself, or a refusal to begin.
                if message.sequence == last || message.sequence == first { finished = true }
                return true
            }
        }
        if let failure { throw failure }
    }

    /// Counts up with every commit in this network namespace, ours or not.
    package func generation() throws(NetlinkError) -> UInt32 {
        let answers: [UInt32] = try list(
            NFT_MSG_GETGEN, family: nil, flags: MessageFlag.ack, "read the nftables generation"
        ) { _ in
        } read: { message, result in
            let number = message.attributes(after: 4).first(UInt16(NFTA_GEN_ID.rawValue))
            if let id = number?.bigEndian(UInt32.self) { result.append(id) }
        }
        return answers.first ?? 0
    }

    /// Lists objects of the table, or of the family when `table` is nil.
    func list<Item>(
        _ type: nf_tables_msg_types, family: AddressFamily?, flags: UInt16 = MessageFlag.dump, _ operation: String,
        _ build: (inout MessageWriter) -> Void, read: (borrowing NetlinkMessage, inout [Item]) -> Void
    ) throws(NetlinkError) -> [Item] {
        let number = UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(type.rawValue)
        return try socket.list(type: number, flags: flags, operation: operation) { request in
            if let family {
                request.appendNetfilterHeader(family)
            } else {
                request.append(UInt32(0))
            }
            build(&request)
        } read: { message, result in
            read(message, &result)
        }
    }
}
