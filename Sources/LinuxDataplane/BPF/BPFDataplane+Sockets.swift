/// State about sockets: which connected UDP sockets have lost their backend, and who waits for the proxy.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR
import Glibc

extension BPFDataplane {
    /// A socket is stale unless the service at the address it dialled still serves through its backend: whether the
    /// backend, the frontend or the whole service went does not matter, nor who was the agent then.
    /// Returns how many were sent to another backend or ended.
    func cutStaleSockets() throws(BPFError) -> Int {
        var serving: [UInt32: Set<SocketAddress>] = [:]
        for record in mirror.services.values where record.program.id.transport == .udp {
            serving[record.serviceID] = record.program.servingAddresses
        }
        var stale: [UInt64: StaleSockets.Socket] = [:]
        for (cookie, origin) in try connectedUDPSockets() {
            let (dialled, backend) = (origin.dialledAddress, origin.backendAddress)
            let service = owner(ofUDP: dialled).flatMap { serving[$0.serviceID] }
            // One that waits at the service's own address has nothing else to go to while there are no endpoints.
            if let service, service.contains(backend) || (backend == dialled && service.isEmpty) { continue }
            stale[cookie] = StaleSockets.Socket(dialled: dialled, backend: backend, hasService: service != nil)
        }
        unreachableSockets.formIntersection(stale.keys)
        for cookie in unreachableSockets { stale[cookie] = nil }
        guard !stale.isEmpty else { return 0 }
        let outcome = try StaleSockets(cgroup: options.cgroup).mend(stale)
        unreachableSockets.formUnion(outcome.missing)
        socketsMoved += UInt64(outcome.moved)
        socketsEnded += UInt64(outcome.ended)
        return outcome.moved + outcome.ended
    }

    private func connectedUDPSockets() throws(BPFError) -> [UInt64: heddle_origin] {
        if let connectedUDP { return try connectedUDP.list() }
        guard let origins = maps.descriptors["socket_origin"] else { throw BPFError("open socket_origin", ENOENT) }
        let sockets = try ConnectedUDPSockets(origins: origins)
        connectedUDP = sockets
        return try sockets.list()
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
