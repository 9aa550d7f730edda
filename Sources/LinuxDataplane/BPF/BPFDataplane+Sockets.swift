/// State about sockets: which connected UDP sockets have lost their backend, and who waits for the proxy.
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
        var stale: [UInt64: SocketAddress] = [:]
        for (cookie, origin) in try maps.udpSockets.entries() {
            if let owner = owner(ofUDP: origin.dialledAddress),
                serving[owner.serviceID]?.contains(origin.backendAddress) == true
            {
                continue
            }
            stale[cookie] = origin.backendAddress
        }
        guard !stale.isEmpty else { return 0 }
        let missing = try SocketDestroyer(cgroup: options.cgroup).destroy(.udp, stale) { cookie throws(BPFError) in
            // Before it is ended: afterwards the program may connect the same socket again.
            try maps.udpSockets.delete(cookie)
        }
        // Disconnected meanwhile, closed while our programs were not attached, or in a namespace without a process:
        // nothing can be done about them, and they must not be looked for again with every update.
        for cookie in missing { try maps.udpSockets.delete(cookie) }
        return stale.count - missing.count
    }

    /// Nobody told us which sockets ended while our program was not attached.
    func forgetProxyClients() throws(BPFError) {
        for (handshake, _) in try maps.proxyClients.entries() { try maps.proxyClients.delete(handshake) }
        for (container, _) in try maps.proxyShares.entries() { try maps.proxyShares.delete(container) }
    }

    /// Shares of containers that have nobody waiting; most of the containers are gone. One that just begins to wait
    /// may go uncounted once, which is not worth a lock.
    func removeUnusedShares() throws(BPFError) {
        guard attachment.ensured?.contains(.sockOps) == true else { return }
        for (container, count) in try maps.proxyShares.entries() where count == 0 {
            try maps.proxyShares.delete(container)
        }
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
