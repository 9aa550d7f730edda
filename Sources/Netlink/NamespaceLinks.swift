/// Which network namespaces the interfaces of the calling thread's own lead to (rtnetlink): the other end of a pod's
/// veth is on its node.
import Glibc

package enum NamespaceLinks {
    /// Whether an interface has its other end in the namespace that `descriptor` refers to.
    package static func lead(to descriptor: Int32) throws(NetlinkError) -> Bool {
        let socket = try NetlinkSocket(.route)
        // Namespaces have numbers of their own in each other one, given when an interface is asked about.
        let ends: [Int32] = try socket.list(type: getLink, operation: "list interfaces") { request in
            // struct ifinfomsg, all zero: any family, any interface.
            request.append(UInt64(0))
            request.append(UInt64(0))
        } read: { message, result in
            guard message.type == newLink,
                let end = message.attributes(after: 16).first(linkNamespace)?.number(Int32.self)
            else { return }
            result.append(end)
        }
        guard !ends.isEmpty else { return false }
        let wanted: [Int32] = try socket.list(
            type: getNamespace, flags: MessageFlag.ack, operation: "ask for a namespace's number"
        ) { request in
            // struct rtgenmsg, padded.
            request.append(UInt32(0))
            request.put(namespaceDescriptor, UInt32(bitPattern: descriptor))
        } read: { message, result in
            guard message.type == newNamespace,
                let number = message.attributes(after: 4).first(namespaceNumber)?.number(Int32.self)
            else { return }
            result.append(number)
        }
        return wanted.contains { $0 >= 0 && ends.contains($0) }
    }

    private static let newLink: UInt16 = 16
    private static let getLink: UInt16 = 18
    private static let linkNamespace: UInt16 = 37
    private static let newNamespace: UInt16 = 88
    private static let getNamespace: UInt16 = 90
    private static let namespaceNumber: UInt16 = 1
    private static let namespaceDescriptor: UInt16 = 3
}
