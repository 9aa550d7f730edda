/// What the compiler made of each endpoint of a service port, for `agentctl explain`: the same rules that choose the
/// backends say why one is left out, so the two cannot disagree.
package import Addressing
package import Cluster
package import DataplaneIR

package struct ExplainedEndpoint: Equatable, Sendable {
    package let address: SocketAddress
    /// Why it takes no traffic under this policy; nil: it does.
    package let exclusion: Exclusion?
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
        return candidates.map { candidate in
            ExplainedEndpoint(
                address: candidate.address,
                exclusion: policy == .cluster
                    ? rules.exclusionFromCluster(candidate) : rules.exclusionFromLocal(candidate))
        }
    }
}
