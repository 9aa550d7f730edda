/// Connection tracking entries through ctnetlink: list those of one protocol and delete single ones. This replaces the
/// `conntrack` program for clearing stale UDP flows (spec rows 114-126).
package import Addressing
import Glibc

/// One direction of a tracked flow.
package struct FlowTuple: Hashable, Sendable {
    package let source: SocketAddress
    package let destination: SocketAddress
    package let transport: TransportProtocol

    package init(source: SocketAddress, destination: SocketAddress, transport: TransportProtocol) {
        self.source = source
        self.destination = destination
        self.transport = transport
    }
}

package struct ConntrackEntry: Hashable, Sendable {
    /// As the client sent it: the destination is the frontend.
    package let original: FlowTuple
    /// As the answers come: the source is the backend.
    package let reply: FlowTuple
    package let zone: UInt16
    package let id: UInt32
    /// nil: not TCP.
    package let tcpState: TrackedTCPState?

    package init(
        original: FlowTuple, reply: FlowTuple, zone: UInt16 = 0, id: UInt32, tcpState: TrackedTCPState? = nil
    ) {
        self.tcpState = tcpState
        self.original = original
        self.reply = reply
        self.zone = zone
        self.id = id
    }
}

package final class ConntrackClient {
    let socket: NetlinkSocket

    /// Serves the network namespace of the calling thread.
    package init() throws(NetlinkError) {
        socket = try NetlinkSocket(.netfilter)
        socket.setBufferSizes(send: 1 << 16, receive: 8 << 20)
    }

    /// Where flows were sent to, before translation.
    package struct Destination: Hashable, Sendable {
        /// nil: any address.
        package let address: IPAddress?
        package let port: UInt16

        package init(_ address: IPAddress?, _ port: UInt16) {
            self.address = address
            self.port = port
        }
    }

    /// The entries of one family and protocol that satisfy `condition`. With a `destination` the kernel hands over only
    /// entries that were sent there: a node may track a million flows, of which a handful matter here.
    package func entries(
        _ family: AddressFamily, _ transport: TransportProtocol, to destination: Destination? = nil,
        where condition: (borrowing ConntrackEntry) -> Bool = { _ in true }
    ) throws(NetlinkError) -> [ConntrackEntry] {
        do {
            return try list(family, transport, filter: Filter(destination: destination), condition)
        } catch  where error.code == EOPNOTSUPP || error.code == EINVAL {
            // Kernels before 5.8 cannot filter and list everything.
            return try list(family, transport, filter: nil, condition)
        }
    }

    /// Deletes that very entry; false when it is gone already.
    package func delete(_ entry: ConntrackEntry) throws(NetlinkError) -> Bool {
        let original = entry.original
        do {
            try socket.request(
                type: CT.delete, operation: "delete conntrack entry \(original.source) -> \(original.destination)"
            ) { request in
                request.appendNetfilterHeader(original.source.address.family)
                request.nested(CT.tupleOriginal) { $0.put(original) }
                if entry.zone != 0 { request.put(CT.zone, bigEndian: entry.zone) }
                // The id keeps a new flow with the same addresses from being cut in place of the old one.
                request.put(CT.id, bigEndian: entry.id)
            }
            return true
        } catch  where error.code == ENOENT {
            return false
        }
    }

    private func list(
        _ family: AddressFamily, _ transport: TransportProtocol, filter: Filter?,
        _ condition: (borrowing ConntrackEntry) -> Bool
    ) throws(NetlinkError) -> [ConntrackEntry] {
        try socket.list(type: CT.get, operation: "list \(transport) conntrack entries (\(family))") { request in
            request.appendNetfilterHeader(family)
            if let filter { request.put(filter, transport) }
        } read: { message, result in
            guard let entry = ConntrackEntry(message), entry.original.transport == transport,
                filter?.destination?.matches(entry) ?? true, condition(entry)
            else { return }
            result.append(entry)
        }
    }
}

/// What the kernel is to leave out of a listing.
private struct Filter {
    let destination: ConntrackClient.Destination?

    /// IPv4 only: Linux compares IPv6 addresses the wrong way round here and leaves out just those asked for (seen on
    /// 6.18), so that family is filtered by port.
    var address: IPAddress? { destination?.address.flatMap { $0.isIPv4 ? $0 : nil } }
    var flags: UInt32 {
        CT.filterByProtocol | (address == nil ? 0 : CT.filterByDestination)
            | (destination == nil ? 0 : CT.filterByDestinationPort)
    }
}

extension ConntrackClient.Destination {
    fileprivate func matches(_ entry: borrowing ConntrackEntry) -> Bool {
        let destination = entry.original.destination
        return destination.port == port && (address == nil || destination.address == address)
    }
}

/// From linux/netfilter/nfnetlink_conntrack.h; the filter bits are in the kernel's nf_internals.h.
enum CT {
    static let subsystem: UInt16 = 1 << 8
    static let new = subsystem | 0
    static let get = subsystem | 1
    static let delete = subsystem | 2

    static let tupleOriginal: UInt16 = 1
    static let tupleReply: UInt16 = 2
    static let status: UInt16 = 3
    static let protocolInfo: UInt16 = 4
    static let tcpInfo: UInt16 = 1
    static let tcpState: UInt16 = 1
    static let countersOriginal: UInt16 = 9
    static let countersReply: UInt16 = 10
    static let counterBytes: UInt16 = 2
    static let id: UInt16 = 12
    static let zone: UInt16 = 18
    static let filter: UInt16 = 25
    static let statusMask: UInt16 = 26

    static let tupleIP: UInt16 = 1
    static let tupleProtocol: UInt16 = 2
    static let ipv4Source: UInt16 = 1
    static let ipv4Destination: UInt16 = 2
    static let ipv6Source: UInt16 = 3
    static let ipv6Destination: UInt16 = 4
    static let protocolNumber: UInt16 = 1
    static let sourcePort: UInt16 = 2
    static let destinationPort: UInt16 = 3

    static let filterOriginalFlags: UInt16 = 1
    static let filterReplyFlags: UInt16 = 2
    static let filterByDestination: UInt32 = 1 << 1
    static let filterByProtocol: UInt32 = 1 << 3
    static let filterByDestinationPort: UInt32 = 1 << 5
}

extension MessageWriter {
    /// struct nfgenmsg: family, version, resource id.
    package mutating func appendNetfilterHeader(_ family: AddressFamily, resource: UInt16 = 0) {
        append(NetfilterFamily.number(family))
        append(UInt8(0))
        append(resource.bigEndian)
    }
    fileprivate mutating func put(_ filter: Filter, _ transport: TransportProtocol) {
        nested(CT.tupleOriginal) { tuple in
            if let address = filter.address {
                tuple.nested(CT.tupleIP) { $0.put(CT.ipv4Destination, address: address) }
            }
            tuple.nested(CT.tupleProtocol) {
                $0.put(CT.protocolNumber, transport.rawValue)
                if let port = filter.destination?.port { $0.put(CT.destinationPort, bigEndian: port) }
            }
        }
        nested(CT.filter) {
            $0.put(CT.filterOriginalFlags, filter.flags)
            $0.put(CT.filterReplyFlags, UInt32(0))
        }
    }
    fileprivate mutating func put(_ tuple: FlowTuple) {
        let isIPv4 = tuple.source.address.isIPv4
        nested(CT.tupleIP) { ip in
            ip.put(isIPv4 ? CT.ipv4Source : CT.ipv6Source, address: tuple.source.address)
            ip.put(isIPv4 ? CT.ipv4Destination : CT.ipv6Destination, address: tuple.destination.address)
        }
        nested(CT.tupleProtocol) { ports in
            ports.put(CT.protocolNumber, tuple.transport.rawValue)
            ports.put(CT.sourcePort, bigEndian: tuple.source.port)
            ports.put(CT.destinationPort, bigEndian: tuple.destination.port)
        }
    }
}

/// Netfilter's numbers for the families (NFPROTO_*).
package enum NetfilterFamily {
    package static func number(_ family: AddressFamily) -> UInt8 { family == .ipv4 ? 2 : 10 }
    package static func family(_ number: UInt8) -> AddressFamily? { number == 2 ? .ipv4 : number == 10 ? .ipv6 : nil }
}

extension ConntrackEntry {
    init?(_ message: borrowing NetlinkMessage) {
        guard message.type == CT.new || message.type == CT.delete else { return nil }
        let attributes = message.attributes(after: 4)
        guard let forward = attributes.first(CT.tupleOriginal), let backward = attributes.first(CT.tupleReply),
            let original = FlowTuple(forward.nested), let reply = FlowTuple(backward.nested)
        else { return nil }
        self.init(
            original: original, reply: reply, zone: attributes.first(CT.zone)?.bigEndian() ?? 0,
            id: attributes.first(CT.id)?.bigEndian() ?? 0,
            tcpState: (attributes.first(CT.protocolInfo)?.nested.first(CT.tcpInfo)?.nested.first(CT.tcpState)?.number())
                .flatMap(TrackedTCPState.init))
    }
}

extension FlowTuple {
    fileprivate init?(_ parts: borrowing AttributeReader) {
        guard let ip = parts.first(CT.tupleIP)?.nested,
            let ports = parts.first(CT.tupleProtocol)?.nested,
            let source = ip.first(CT.ipv4Source)?.address ?? ip.first(CT.ipv6Source)?.address,
            let destination = ip.first(CT.ipv4Destination)?.address ?? ip.first(CT.ipv6Destination)?.address,
            let transport = TransportProtocol(rawValue: ports.first(CT.protocolNumber)?.number() ?? 0),
            let sourcePort = ports.first(CT.sourcePort)?.bigEndian(UInt16.self),
            let destinationPort = ports.first(CT.destinationPort)?.bigEndian(UInt16.self)
        else { return nil }
        self.init(
            source: SocketAddress(source, sourcePort), destination: SocketAddress(destination, destinationPort),
            transport: transport)
    }
}
