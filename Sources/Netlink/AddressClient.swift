/// The addresses of the namespace's interfaces, and word of their changes (rtnetlink). Node ports are served on these
/// (spec rows 88-93).
package import Addressing
import Glibc

package struct InterfaceAddress: Hashable, Sendable {
    package let address: IPAddress
    package let prefixLength: Int
    package let interfaceIndex: UInt32

    package init(address: IPAddress, prefixLength: Int, interfaceIndex: UInt32) {
        self.address = address
        self.prefixLength = prefixLength
        self.interfaceIndex = interfaceIndex
    }
}

package final class AddressClient {
    private let socket: NetlinkSocket
    private let events: NetlinkSocket

    /// Serves the network namespace of the calling thread.
    package init() throws(NetlinkError) {
        socket = try NetlinkSocket(.route)
        events = try NetlinkSocket(.route)
        try events.join(group: RouteGroup.ipv4Address)
        try events.join(group: RouteGroup.ipv6Address)
    }

    /// Every address of both families, in no order.
    package func addresses() throws(NetlinkError) -> [InterfaceAddress] {
        try socket.list(type: RouteMessage.getAddress, operation: "list interface addresses") { request in
            // struct ifaddrmsg, all zero: any family, any interface.
            request.append(UInt64(0))
        } read: { message, result in
            guard message.type == RouteMessage.newAddress, let found = readAddress(message) else { return }
            result.append(found)
        }
    }

    /// For a poll loop: readable when addresses may have changed.
    package var fileDescriptor: Int32 { events.fileDescriptor }

    /// Waits until some address was added or removed; false when nothing happened in time. Events that were lost
    /// because too many came at once count as a change.
    package func waitForChange(milliseconds: Int32) throws(NetlinkError) -> Bool {
        guard events.waitReadable(milliseconds: milliseconds) else { return false }
        while events.waitReadable(milliseconds: 0) {
            do {
                try events.receive(operation: "read address changes") { _ throws(NetlinkError) in true }
            } catch  where error.code == ENOBUFS {
                continue
            }
        }
        return true
    }
}

private enum RouteMessage {
    static let newAddress: UInt16 = 20
    static let getAddress: UInt16 = 22
}
private enum RouteGroup {
    static let ipv4Address: Int32 = 5
    static let ipv6Address: Int32 = 9
}
private enum AddressAttribute {
    static let address: UInt16 = 1
    /// The interface's own address; on a point-to-point link `address` is the peer's.
    static let local: UInt16 = 2
}

/// struct ifaddrmsg: family, prefix length, flags, scope, interface index; then attributes.
private func readAddress(_ message: borrowing NetlinkMessage) -> InterfaceAddress? {
    guard message.payload.byteCount >= 8 else { return nil }
    let attributes = message.attributes(after: 8)
    let address =
        attributes.first(AddressAttribute.local)?.address ?? attributes.first(AddressAttribute.address)?.address
    guard let address else { return nil }
    return InterfaceAddress(
        address: address, prefixLength: Int(message.byte(1)),
        interfaceIndex: message.payload.unsafeLoadUnaligned(fromByteOffset: 4, as: UInt32.self))
}
