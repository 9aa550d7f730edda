/// Which connected UDP sockets have lost their backend.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR

extension BPFDataplane {
    /// A socket is stale unless the service at the address it dialled still serves through its backend: whether the
    /// backend, the frontend or the whole service went does not matter, nor who was the agent then.
    func cutStaleSockets() throws(BPFError) -> Int {
        var serving: [UInt32: Set<SocketAddress>] = [:]
        for record in mirror.services.values where record.program.id.transport == .udp {
            serving[record.serviceID] = record.program.servingAddresses
        }
        var cookies = Set<UInt64>()
        for (cookie, origin) in try maps.udpSockets.entries() {
            if let owner = owner(ofUDP: origin.dialledAddress),
                serving[owner.serviceID]?.contains(origin.backendAddress) == true
            {
                continue
            }
            cookies.insert(cookie)
        }
        guard !cookies.isEmpty else { return 0 }
        let missing = try SocketDestroyer(cgroup: options.cgroup).destroy(.udp, cookies) { cookie throws(BPFError) in
            // Before it is ended: afterwards the program may connect the same socket again.
            try maps.udpSockets.delete(cookie)
        }
        // Closed while our programs were not attached, or in a namespace without a process: nothing can be done about
        // them, and they must not be looked for again with every update.
        for cookie in missing { try maps.udpSockets.delete(cookie) }
        return cookies.count - missing.count
    }

    private func owner(ofUDP dialled: SocketAddress) -> BPFMirror.Owner? {
        let udp = TransportProtocol.udp.rawValue
        let exact = FrontendKey(address: dialled.address, port: dialled.port, transport: udp, scope: .address)
        if let owner = mirror.owners[exact] { return owner }
        guard mirror.nodeAddresses.contains(dialled.address) || (node.nodePortLoopback && dialled.address.isLoopback)
        else { return nil }
        let anyAddress = FrontendKey.anyAddress(dialled.address.family)
        return mirror.owners[FrontendKey(address: anyAddress, port: dialled.port, transport: udp, scope: .node)]
    }
}
