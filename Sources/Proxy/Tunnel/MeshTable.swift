/// Who of a configuration is in the mesh, and what follows for a connection from one to another.
import Addressing
import Balancing
import CertificateAuthority
import RouteIR

extension RoutingTable {
    /// Somebody has shown this identity; whether he can be the workload that has the address.
    func isWorkload(_ address: IPAddress, _ identity: WorkloadIdentity) -> Bool {
        guard let workload = workload(at: address)?.workload else { return false }
        return workload.namespace == identity.account.namespace && workload.serviceAccount == identity.account.name
    }

    /// Whether a pod is there that may be enrolled, where nothing but its address is dialled.
    func isUnknownPod(_ address: IPAddress) -> Bool {
        !snapshot.unknownPods.isEmpty && snapshot.unknownPods.contains(address)
    }

    /// Whether `client` must wait until more is known of somebody. Asked for each request, and mostly there is no mesh.
    func waits(_ client: SocketAddress, for isUnknown: @autoclosure () -> Bool) -> Bool {
        isInMesh && isUnknown() && snapshot.meshPods[client.address] != nil
    }

    /// How `client` reaches an endpoint. Two enrolled ones meet in a tunnel or not at all.
    func way(
        from client: SocketAddress, to endpoint: SocketAddress, _ workload: WorkloadEntry?, isUnknown: Bool,
        service: String?
    ) -> Way {
        guard let mesh = snapshot.mesh, let pod = snapshot.meshPods[client.address] else { return .plain }
        guard !isUnknown else { return .none(.unknownPod(endpoint.address)) }
        guard let target = workload?.workload, target.isEnrolled else { return .plain }
        guard let own = mesh.identity(of: pod) else {
            return .none(
                TunnelRefusal(.identity, "\(pod.namespace)/\(pod.name) names no service account, so it has no identity")
            )
        }
        guard let destination = mesh.identity(of: target) else {
            return .none(
                TunnelRefusal(
                    .identity, "\(target.namespace)/\(target.pod) names no service account, so it has no identity"))
        }
        let route = TunnelRoute(
            source: TunnelSource(pod: address(of: pod, at: client.address, like: endpoint.address), identity: own),
            destination: destination, address: endpoint.address)
        return .tunnel(
            route,
            TunnelCaller(client: client, service: service, workload: self.workload(at: client.address)))
    }

    /// Nothing of its bytes is looked at: a TCP service was dialled, or a pod itself, which the kernel brings here if
    /// both are enrolled or may be.
    func isRelayed(_ arrival: Arrival) -> Bool {
        if let service = arrival.entries(in: self).service { return service.service.clientProtocol == .tcp }
        return isInMesh && arrival.wasRedirected
            && (workload(at: arrival.dialled.address)?.workload.isEnrolled == true
                || isUnknownPod(arrival.dialled.address))
    }

    /// The pod's own address of the endpoint's family: a service of both may have an endpoint of the other one chosen.
    private func address(of pod: MeshPod, at known: IPAddress, like endpoint: IPAddress) -> IPAddress {
        guard known.family != endpoint.family else { return known }
        return snapshot.meshPods.first { $0.key.family == endpoint.family && $0.value == pod }?.key ?? known
    }
}

extension Shard {
    /// Also what dials a pod that has just left the mesh: the kernel hears of it a moment later.
    func isRelayed(_ arrival: Arrival) -> Bool {
        if table.isRelayed(arrival) { return true }
        guard arrival.wasRedirected, arrival.entries(in: table).service == nil,
            let left = formerPods[arrival.dialled.address]
        else { return false }
        return now.since(left) < Tunnel.lingerTime
    }
}

extension TunnelCaller {
    /// W3C baggage as Istio's ambient mode has it.
    func baggage(_ node: ProxyNode) -> String {
        guard let workload = workload?.workload else { return "" }
        var text = ""
        func add(_ name: String, _ value: String) {
            guard isPlain(value) else { return }
            if !text.isEmpty { text += "," }
            text += name
            text += "="
            text += value
        }
        text.reserveCapacity(192)
        add("k8s.cluster.name", node.clusterName)
        add("k8s.namespace.name", workload.namespace)
        add(workload.name == workload.pod ? "k8s.pod.name" : "k8s.deployment.name", workload.name)
        add("service.name", workload.canonicalService)
        add("service.version", workload.canonicalRevision)
        return text
    }
    private func isPlain(_ value: String) -> Bool {
        !value.isEmpty
            && value.utf8.allSatisfy { byte in
                (byte | 0x20) &- 0x61 < 26 || byte &- 0x30 < 10 || byte == 0x2d || byte == 0x2e || byte == 0x5f
            }
    }
}
