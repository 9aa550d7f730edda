/// The sockets of a network namespace through sock_diag: list those of one protocol, and end single ones.
package import Addressing
import Glibc

/// A TCP or UDP socket as the kernel describes it.
package struct DiagSocket: Sendable {
    package let transport: TransportProtocol
    package let local: SocketAddress
    /// Port 0: not connected.
    package let peer: SocketAddress
    /// TCP_ESTABLISHED and so on, also for UDP.
    package let state: UInt8
    /// As in `/proc/PID/fd`: `socket:[INODE]`; 0: no process has it open any more.
    package let inode: UInt32
    /// No other socket has the same.
    package let cookie: UInt64
    /// What a program keeps with it in the map asked for.
    package let storage: [UInt8]?
    /// AF_INET or AF_INET6: an IPv6 socket may have IPv4 addresses.
    fileprivate let family: UInt8
    package var isIPv6: Bool { family == UInt8(AF_INET6) }
    /// struct inet_diag_sockid: addresses, ports, interface and cookie.
    fileprivate let identity: [UInt8]

    /// `established`
    package var stateName: String { Self.stateNames.indices.contains(Int(state)) ? Self.stateNames[Int(state)] : "?" }
    /// From net/tcp_states.h, counted from 1.
    private static let stateNames = [
        "?", "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait", "closed", "close-wait",
        "last-ack", "listening", "closing",
    ]
}

package final class SocketDiag {
    private let socket: NetlinkSocket

    /// Serves the network namespace of the calling thread.
    package init() throws(NetlinkError) { socket = try NetlinkSocket(.sockDiag) }

    /// The sockets that satisfy `condition`. With the descriptor of a socket storage map, TCP sockets come with what is
    /// stored for them (Linux lists storage for no other protocol).
    package func sockets(
        _ transport: TransportProtocol, storage map: Int32? = nil,
        where condition: (borrowing DiagSocket) -> Bool
    ) throws(NetlinkError) -> [DiagSocket] {
        var result: [DiagSocket] = []
        for family in [UInt8(AF_INET), UInt8(AF_INET6)] {
            result += try socket.list(type: Diag.byFamily, operation: "list \(transport) sockets") { request in
                request.appendRequest(family, transport, identity: [UInt8](repeating: 0, count: Diag.identitySize))
                guard let map else { return }
                request.nested(Diag.requestStorages) { $0.put(Diag.storageMap, UInt32(bitPattern: map)) }
            } read: { message, sockets in
                guard let found = DiagSocket(message, transport), condition(found) else { return }
                sockets.append(found)
            }
        }
        return result
    }

    /// Ends that very connection: whoever has it open gets an error. False when it is gone already, or the socket has
    /// been connected to somebody else since it was listed.
    package func destroy(_ found: DiagSocket) throws(NetlinkError) -> Bool {
        do throws(NetlinkError) {
            try socket.request(type: Diag.destroy, operation: "end a \(found.transport) socket") { request in
                request.appendRequest(found.family, found.transport, identity: found.identity)
            }
            return true
        } catch  where error.code == ENOENT {
            return false
        }
    }
}

extension DiagSocket {
    fileprivate init?(_ message: borrowing NetlinkMessage, _ transport: TransportProtocol) {
        guard message.type == Diag.byFamily, message.payload.byteCount >= Diag.messageSize else { return nil }
        let storages = message.attributes(after: Diag.messageSize).first(Diag.storages)?.nested
        storage = storages?.first(Diag.storage)?.nested.first(Diag.storageValue)?.bytes
        let raw = message.payload.withUnsafeBytes { Array($0.prefix(Diag.messageSize)) }
        func number<T: FixedWidthInteger & BitwiseCopyable>(_ at: Int) -> T {
            raw.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: T.self) }
        }
        let size = raw[0] == UInt8(AF_INET) ? 4 : 16
        func address(_ at: Int, port: Int) -> SocketAddress? {
            raw.withUnsafeBytes { IPAddress(networkBytes: UnsafeRawBufferPointer(rebasing: $0[at..<at + size])) }
                .map { SocketAddress($0, UInt16(bigEndian: number(port))) }
        }
        guard let local = address(8, port: 4), let peer = address(24, port: 6) else { return nil }
        self.transport = transport
        (self.local, self.peer) = (local, peer)
        (family, state) = (raw[0], raw[1])
        inode = number(Diag.messageSize - 4)
        cookie = number(Diag.identityOffset + Diag.cookieOffset)
        identity = Array(raw[Diag.identityOffset..<Diag.identityOffset + Diag.identitySize])
    }
}

/// From linux/sock_diag.h and linux/inet_diag.h.
private enum Diag {
    static let byFamily: UInt16 = 20
    static let destroy: UInt16 = 21
    /// struct inet_diag_msg: family, state and two more bytes; the identity: ports, addresses, interface, cookie; five
    /// numbers, the last of which is the inode.
    static let identityOffset = 4
    static let identitySize = 48
    static let cookieOffset = 40
    static let messageSize = identityOffset + identitySize + 20
    static let requestStorages: UInt16 = 2
    static let storageMap: UInt16 = 1
    static let storages: UInt16 = 20
    static let storage: UInt16 = 1
    static let storageValue: UInt16 = 3
}

extension MessageWriter {
    /// struct inet_diag_req_v2 for sockets in any state.
    fileprivate mutating func appendRequest(_ family: UInt8, _ transport: TransportProtocol, identity: [UInt8]) {
        append(family)
        append(transport.rawValue)
        append(UInt16(0))
        append(UInt32.max)
        identity.withUnsafeBytes { append($0) }
    }
}
