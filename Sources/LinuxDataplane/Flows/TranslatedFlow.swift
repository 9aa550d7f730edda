/// Flows that a dataplane sent to a backend, as the kernel knows them: sockets that our programs connected elsewhere
/// than they were asked to, and tracked connections with another destination. Read without the agent.
package import Addressing
import BPF
import CDataplaneABI
package import DataplaneIR
import Netlink
import Netns

package struct Translation: Sendable {
    package let transport: TransportProtocol
    /// The service's address that the client asked for.
    package let dialled: SocketAddress
    package let backend: SocketAddress
    /// Our programs wrote it down; conntrack does not say whose rule it was.
    package let isCertainlyOurs: Bool

    package init(
        _ transport: TransportProtocol, dialled: SocketAddress, backend: SocketAddress, isCertainlyOurs: Bool
    ) {
        self.transport = transport
        self.dialled = dialled
        self.backend = backend
        self.isCertainlyOurs = isCertainlyOurs
    }
}

package struct TranslatedFlow: Sendable {
    package let translation: Translation
    /// The client's own end.
    package let local: SocketAddress
    package let state: String
    /// The client's socket; nil: it is not on this node, or closed already.
    fileprivate(set) var socket: (socket: DiagSocket, namespace: NetworkNamespace)?
    /// nil: no packet of it is translated.
    fileprivate let tracked: ConntrackEntry?

    package var isTracked: Bool { tracked != nil }
    package var hasSocket: Bool { socket != nil }
    /// As in `/proc/PID/fd`: `socket:[INODE]`.
    package var inode: UInt32? { socket.flatMap { $0.socket.inode == 0 ? nil : $0.socket.inode } }
}

package struct TranslatedFlows {
    package typealias Condition = (Translation) -> Bool
    private let bpffs: String
    /// Sockets are looked for in the network namespaces of its processes.
    private let cgroup: String

    package init(bpffs: String, cgroup: String) {
        self.bpffs = bpffs
        self.cgroup = cgroup
    }

    /// Those that satisfy `condition`. Closed connections, which the kernel remembers for a while, are left out.
    package func flows(where condition: Condition) throws(DataplaneError) -> [TranslatedFlow] {
        let namespaces: [NetworkNamespace]
        do throws(BPFError) {
            namespaces = try CgroupTree.namespaces(below: cgroup)
        } catch {
            throw DataplaneError(error)
        }
        return try connectedSockets(namespaces, condition) + trackedFlows(namespaces, condition)
    }

    // MARK: eBPF

    private func connectedSockets(
        _ namespaces: [NetworkNamespace], _ condition: Condition
    ) throws(DataplaneError) -> [TranslatedFlow] {
        let origins: [UInt64: heddle_origin]
        let storage: BPFDescriptor
        do throws(BPFError) {
            guard let maps = try BPFMaps.pinned(in: BPFPins(root: bpffs).maps),
                let found = maps.descriptors["socket_origin"]
            else { return [] }
            storage = found
            origins = try ConnectedUDPSockets(origins: found).list { condition($1.translation(.udp)) ? $1 : nil }
        } catch {
            throw DataplaneError(error)
        }
        var result: [TranslatedFlow] = []
        for namespace in namespaces {
            for transport in [TransportProtocol.tcp, .udp] {
                let map = transport == .tcp ? storage.fd : nil
                result += try sockets(transport, in: namespace, storage: map, where: \.isOpen).compactMap { socket in
                    guard let origin = origins[socket.cookie] ?? socket.storage.flatMap(heddle_origin.init(bytes:)),
                        // Else it was connected once more, to somebody else.
                        origin.backendAddress == socket.peer
                    else { return nil }
                    let translation = origin.translation(transport)
                    guard condition(translation) else { return nil }
                    return TranslatedFlow(
                        translation: translation, local: socket.local, state: socket.stateName,
                        socket: (socket, namespace), tracked: nil)
                }
            }
        }
        return result
    }

    // MARK: nftables

    private func trackedFlows(
        _ namespaces: [NetworkNamespace], _ condition: Condition
    ) throws(DataplaneError) -> [TranslatedFlow] {
        var entries: [ConntrackEntry] = []
        do throws(NetlinkError) {
            let client = try ConntrackClient()
            for family in AddressFamily.allCases {
                entries += try client.translatedFlows(family) { $0.entry.isOpen && condition($0.entry.translation) }
                    .map(\.entry)
            }
        } catch {
            throw DataplaneError(error)
        }
        guard !entries.isEmpty else { return [] }
        let clients = try clients(of: entries, in: namespaces)
        return entries.map { entry in
            let client = clients[entry.original]
            return TranslatedFlow(
                translation: entry.translation, local: entry.original.source,
                state: client?.socket.stateName ?? entry.stateName, socket: client, tracked: entry)
        }
    }

    /// The sockets on this node at the clients' ends.
    private func clients(
        of entries: [ConntrackEntry], in namespaces: [NetworkNamespace]
    ) throws(DataplaneError) -> [FlowTuple: (socket: DiagSocket, namespace: NetworkNamespace)] {
        let wanted = Set(entries.map(\.original))
        var result: [FlowTuple: (socket: DiagSocket, namespace: NetworkNamespace)] = [:]
        for namespace in namespaces {
            for transport in Set(wanted.map(\.transport)) where transport != .sctp {
                let found = try sockets(transport, in: namespace, storage: nil) { wanted.contains($0.asTuple) }
                for socket in found { result[socket.asTuple] = (socket, namespace) }
            }
        }
        return result
    }

    private func sockets(
        _ transport: TransportProtocol, in namespace: NetworkNamespace, storage: Int32?,
        where condition: (borrowing DiagSocket) -> Bool
    ) throws(DataplaneError) -> [DiagSocket] {
        try namespace.run(refusal: DataplaneError.init) { () throws(DataplaneError) in
            do throws(NetlinkError) {
                return try SocketDiag().sockets(transport, storage: storage, where: condition)
            } catch {
                throw DataplaneError(error)
            }
        }
    }

    // MARK: Ending

    /// Breaks the connection: the client gets an error at once where its socket is here, with its next packet where it
    /// is not. False when it was over already.
    package func end(_ flow: TranslatedFlow) throws(DataplaneError) -> Bool {
        var ended = false
        if let (socket, namespace) = flow.socket {
            ended = try namespace.run(refusal: DataplaneError.init) { () throws(DataplaneError) in
                do throws(NetlinkError) { return try SocketDiag().destroy(socket) } catch {
                    throw DataplaneError(error)
                }
            }
        }
        guard let entry = flow.tracked else { return ended }
        do throws(NetlinkError) {
            return try ConntrackClient().delete(entry) || ended
        } catch {
            throw DataplaneError(error)
        }
    }
}

extension DiagSocket {
    fileprivate var asTuple: FlowTuple { FlowTuple(source: local, destination: peer, transport: transport) }
    fileprivate var isOpen: Bool { peer.port != 0 && !["time-wait", "closed", "listening"].contains(stateName) }
}

extension ConntrackEntry {
    /// In the words sock_diag's states have.
    fileprivate var stateName: String {
        switch tcpState {
        case nil: "-"
        case .synSent, .synSentTwice: "syn-sent"
        case .synReceived: "syn-recv"
        case .established: "established"
        case .finWait: "fin-wait"
        case .closeWait: "close-wait"
        case .lastAck: "last-ack"
        case .timeWait: "time-wait"
        case .closed: "closed"
        }
    }
    fileprivate var translation: Translation {
        Translation(
            original.transport, dialled: original.destination, backend: reply.source, isCertainlyOurs: false)
    }
    fileprivate var isOpen: Bool { tcpState != .timeWait && tcpState != .closed }
}

extension heddle_origin {
    fileprivate init?(bytes: [UInt8]) {
        guard bytes.count == MemoryLayout<heddle_origin>.size else { return nil }
        self = bytes.withUnsafeBytes { $0.loadUnaligned(as: heddle_origin.self) }
    }
    var dialledAddress: SocketAddress { SocketAddress(dialled.value, UInt16(bigEndian: dialled_port)) }
    var backendAddress: SocketAddress { SocketAddress(backend.value, UInt16(bigEndian: backend_port)) }
    fileprivate func translation(_ transport: TransportProtocol) -> Translation {
        Translation(transport, dialled: dialledAddress, backend: backendAddress, isCertainlyOurs: true)
    }
}
