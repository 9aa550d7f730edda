/// Asks the kernel for a route (rtnetlink), in the network namespace of the calling thread.
package import Addressing
import Glibc

package enum RouteQuery {
    /// The interface by which packets to this address leave: where those from it come in, too, unless routing is
    /// asymmetric. nil: there is no route.
    package static func interface(to address: IPAddress) throws(NetlinkError) -> String? {
        let socket = try NetlinkSocket(.route)
        let found: [UInt32]
        do throws(NetlinkError) {
            found = try socket.list(
                type: getRoute, flags: MessageFlag.ack, operation: "look up the route to \(address)"
            ) { request in
                // struct rtmsg: family, length of the destination; all else is zero.
                request.append(UInt8(address.isIPv4 ? AF_INET : AF_INET6))
                request.append(UInt8(address.isIPv4 ? 32 : 128))
                request.append(UInt16(0))
                request.append(UInt64(0))
                request.put(destination, address: address)
            } read: { message, result in
                guard message.type == newRoute,
                    let index = message.attributes(after: 12).first(output)?.number(UInt32.self)
                else { return }
                result.append(index)
            }
        } catch  where [ENETUNREACH, EHOSTUNREACH, ENOENT].contains(error.code) {
            return nil
        }
        guard let index = found.first else { return nil }
        var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
        guard if_indextoname(index, &name) != nil else { return nil }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static let newRoute: UInt16 = 24
    private static let getRoute: UInt16 = 26
    private static let destination: UInt16 = 1
    private static let output: UInt16 = 4
}
