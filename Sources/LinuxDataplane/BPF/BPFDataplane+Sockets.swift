/// State about sockets: which connected UDP sockets have lost their backend, and who waits for the proxy.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR
import Glibc

extension BPFDataplane {
    /// Returns how many stale sockets were sent to another backend or ended.
    func cutStaleSockets() throws(BPFError) -> Int {
        var stale = try staleSockets()
        unreachableSockets = unreachableSockets.filter { stale[$0.key]?.backend == $0.value }
        if unreachableTried + unreachableRest <= .now {
            unreachableTried = .now
        } else {
            for cookie in unreachableSockets.keys { stale[cookie] = nil }
        }
        guard !stale.isEmpty else { return 0 }
        let sockets = StaleSockets(cgroup: options.cgroup, linksPerContainer: linksPerContainer)
        let outcome = try sockets.mend(stale)
        try noteUnreachable(outcome.missing, stale)
        socketsMoved += UInt64(outcome.moved)
        socketsEnded += UInt64(outcome.ended)
        return outcome.moved + outcome.ended
    }

    /// A process may have come to where they are.
    func retryUnreachableSockets() throws(BPFError) {
        guard !isMirrorDoubtful, !unreachableSockets.isEmpty, unreachableTried + unreachableRest <= .now else { return }
        _ = try cutStaleSockets()
    }

    /// Of those that nobody found, the ones that are still there and still go to the same backend.
    private func noteUnreachable(
        _ missing: Set<UInt64>, _ stale: [UInt64: StaleSockets.Socket]
    ) throws(BPFError) {
        guard !missing.isEmpty else { return }
        for (cookie, backend) in try connectedUDPSockets().list({ missing.contains($0) ? $1.backendAddress : nil })
        where stale[cookie]?.backend == backend {
            if unreachableSockets.updateValue(backend, forKey: cookie) != backend { socketsUnreachable += 1 }
        }
    }

    /// A socket is stale unless the service at the address it dialled still serves through its backend: whether the
    /// backend, the frontend or the whole service went does not matter, nor who was the agent then.
    private func staleSockets() throws(BPFError) -> [UInt64: StaleSockets.Socket] {
        var services: [UInt32: (program: ServiceProgram, serving: Set<SocketAddress>)] = [:]
        for record in mirror.services.values where record.program.id.transport == .udp {
            services[record.serviceID] = (record.program, record.program.servingAddresses)
        }
        return try connectedUDPSockets().list { _, origin in
            let (dialled, backend) = (origin.dialledAddress, origin.backendAddress)
            let owner = owner(ofUDP: dialled)
            let service = owner.flatMap { services[$0.serviceID] }
            if let service, service.serving.contains(backend) { return nil }
            // One that waits at the service's own address stays there as long as it would be sent nowhere else.
            if backend == dialled, let owner, let service, !mayChoose(service.program, kind: owner.kind) { return nil }
            return StaleSockets.Socket(dialled: dialled, backend: backend, hasService: service != nil)
        }
    }

    /// Whether a socket that dials such a frontend might get a backend. Our programs choose as block.h says: policy
    /// Local of an external address is for pods only, where they cannot be told apart (spec rows 30-34, 77-79).
    private func mayChoose(_ program: ServiceProgram, kind: UInt8) -> Bool {
        guard let kind = Frontend.Kind(abiNumber: kind) else { return true }
        let range = program.range(for: program.policy(for: kind))
        return !range.isEmpty || (kind.isExternal && !program.clusterRange.isEmpty)
    }

    private func connectedUDPSockets() throws(BPFError) -> ConnectedUDPSockets {
        if let connectedUDP { return connectedUDP }
        guard let origins = maps.descriptors["socket_origin"] else { throw BPFError("open socket_origin", ENOENT) }
        let sockets = try ConnectedUDPSockets(origins: origins)
        connectedUDP = sockets
        return sockets
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
