/// Where the proxy may send requests, and who has which address: the part of compiling that follows endpoints and pods.
package import Addressing
import Cluster
import DataplaneIR
import RouteIR

extension RouteCompiler {
    mutating func upstream(_ id: UpstreamID, _ state: borrowing ClusterState) -> Upstream {
        made += 1
        var upstream = Upstream(id: id)
        var refused: [(SocketAddress, String)] = []
        var slices: [EndpointSlice] = []
        defer { noteRefused(id, refused.isEmpty ? [] : findings(refused, slices)) }
        guard let service = state.services[id.object],
            let port = service.ports.first(where: { $0.port == id.service.port && $0.transport == .tcp })
        else { return upstream }
        slices = state.slices(of: id.object).filter(options.handles)
        // A pod of a dual-stack service is one endpoint, not two.
        let family = service.clusterIPs.first?.family ?? slices.compactMap(\.addressType.family).first ?? .ipv4
        let candidates = mergedCandidates(
            slices, portName: port.name, transport: .tcp, family: family, node: node)
        let selection = select(candidates, node: node)
        let range = service.internalTrafficPolicy == .local ? selection.localRange : selection.clusterRange
        let places = Dictionary(
            slices.flatMap(\.endpoints).map { ($0.address, $0) }, uniquingKeysWith: { first, _ in first })
        let unknown =
            mesh.reach.unknown.isEmpty
            ? [] : Set(slices.lazy.flatMap(\.endpoints).filter(mesh.reach.isUnknown).map(\.address))
        upstream.endpoints = selection.backends.enumerated().compactMap { index, backend in
            let isSelected = range.contains(index)
            let isDraining = !isSelected && backend.state.isSuperset(of: [.serving, .terminating])
            guard isSelected || isDraining else { return nil }
            if let reason = refusal(of: backend.address) {
                refused.append((backend.address, reason))
                return nil
            }
            let place = places[backend.address.address]
            var endpoint = Endpoint(
                backend.address, zone: place?.zone, node: place?.nodeName, isDraining: isDraining)
            endpoint.isUnknown = unknown.contains(backend.address.address)
            return endpoint
        }.sorted { $0.address < $1.address }
        upstream.wire = wire(of: port, id)
        upstream.policy = ServicePolicy(service).policy
        return upstream
    }

    /// One for each slice: a slice may be full of them.
    private func findings(_ refused: [(address: SocketAddress, reason: String)], _ slices: [EndpointSlice]) -> [Finding]
    {
        slices.compactMap { slice in
            let (addresses, ports) = (Set(slice.endpoints.map(\.address)), Set(slice.ports.map(\.port)))
            let here = refused.filter { addresses.contains($0.address.address) && ports.contains($0.address.port) }
            guard let first = here.first else { return nil }
            let more = here.count > 1 ? " (and \(here.count - 1) more like it)" : ""
            return Finding(
                reason: "refused-endpoint", object: ObjectID(.endpointSlice, slice.name), field: "endpoints.addresses",
                message:
                    "no request of a route goes to \(first.address)\(more): \(first.reason); give the address of a "
                    + "pod or of another server")
        }
    }

    /// Why requests never go to an endpoint; nil: they may.
    package func refusal(of endpoint: SocketAddress) -> String? {
        own.refusal(of: endpoint, isRouted: references.isRouted(endpoint.address))
    }

    private mutating func noteRefused(_ id: UpstreamID, _ findings: [Finding]) {
        changes.replace(endpointFindings[id] ?? [], with: findings)
        endpointFindings[id] = findings.isEmpty ? nil : findings
    }

    /// `touched` learns the addresses that may have become an endpoint's, or are none any more.
    mutating func replace(_ id: UpstreamID, _ new: Upstream?, _ touched: inout Set<IPAddress>) {
        if new == nil { noteRefused(id, []) }
        guard snapshot.upstreams[id] != new else { return }
        changes.snapshot = true
        for endpoint in snapshot.upstreams[id]?.endpoints ?? [] {
            targets.remove(endpoint.address.address)
            touched.insert(endpoint.address.address)
        }
        for endpoint in new?.endpoints ?? [] {
            targets.add(endpoint.address.address)
            touched.insert(endpoint.address.address)
        }
        snapshot.upstreams[id] = new
    }

    private func wire(of port: Service.Port, _ id: UpstreamID) -> Upstream.Wire {
        switch DeclaredProtocol(port) {
        case .http(.h2c), .http(.grpc): return .h2c
        case .http(.http1), .http(.tcp), .other: return .http1
        case .unknown:
            // Nothing is said: what a GRPCRoute sends there is gRPC.
            return references.isCalledByGRPC(id) ? .h2c : .http1
        }
    }

    mutating func updatePolicyFindings(of names: Set<ObjectName>, _ state: borrowing ClusterState) {
        for name in names {
            let service = references.upstreams(of: name).isEmpty ? nil : state.services[name]
            let findings = service.map(Compile.policyFindings) ?? []
            changes.replace(policyFindings[name] ?? [], with: findings)
            policyFindings[name] = findings.isEmpty ? nil : findings
        }
    }

    /// Keeps the pods of this node, which are the clients, and those that requests are sent to.
    mutating func updateWorkloads(at addresses: Set<IPAddress>, _ state: borrowing ClusterState) -> Bool {
        guard isNeeded else {
            defer { snapshot.workloads = [:] }
            return !snapshot.workloads.isEmpty
        }
        var differs = false
        lookups = addresses.count
        for address in addresses {
            // A pod that takes tunnels may be dialled by its address.
            let isTarget = targets.contains(address) || mesh.reach.enrolled.contains(address)
            // Of two pods with one address the older is about to go.
            var workload: Workload?
            for pod in state.pods(at: address) {
                guard let known = state.workloads[pod] else { continue }
                if isTarget || known.node == node.name || known.node.isEmpty { workload = known }
            }
            workload?.isEnrolled = mesh.reach.enrolled.contains(address)
            guard snapshot.workloads[address] != workload else { continue }
            snapshot.workloads[address] = workload
            differs = true
        }
        return differs
    }
}
