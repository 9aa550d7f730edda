/// What the compiler made of each endpoint of a service port, for `agentctl explain`: the same rules that choose the
/// backends say why one is left out, so the two cannot disagree.
package import Addressing
package import Cluster
package import DataplaneIR

package struct ExplainedEndpoint: Equatable, Sendable {
    package let address: SocketAddress
    /// Why it takes no traffic under this policy; nil: it does.
    package let exclusion: Exclusion?
    /// The EndpointSlices that have it.
    package let slices: [ObjectName]
}

extension Compiler {
    /// Every endpoint of the service port, sorted by address, under one policy.
    package func explainEndpoints(
        of id: ServicePortID, under policy: TrafficPolicy, from state: borrowing ClusterState
    ) -> [ExplainedEndpoint] {
        let slices = state.slices(of: ObjectName(id.namespace, id.service)).filter(options.handles)
        let candidates = mergedCandidates(
            slices, portName: id.portName, transport: id.transport, family: id.family, node: node)
        let rules = SelectionRules(candidates, node: node)
        var sources: [SocketAddress: [ObjectName]] = [:]
        for slice in slices {
            for port in slice.ports where port.name == id.portName && port.transport == id.transport {
                for endpoint in slice.endpoints {
                    sources[SocketAddress(endpoint.address, port.port), default: []].append(slice.name)
                }
            }
        }
        return candidates.map { candidate in
            ExplainedEndpoint(
                address: candidate.address,
                exclusion: policy == .cluster
                    ? rules.exclusionFromCluster(candidate) : rules.exclusionFromLocal(candidate),
                slices: sources[candidate.address] ?? [])
        }
    }
}
