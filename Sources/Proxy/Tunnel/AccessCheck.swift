/// Who may open a connection to a pod of this node: the workload's policies, asked at the CONNECT and again when they
/// have changed. An executor of `PolicyProgram`; a tunnel's bytes are not looked at, so that what rules say of requests
/// is unknown (spec 1.6).
import Addressing
import CertificateAuthority
import RouteIR

/// One object for as long as nothing about a pod's policies changes.
final class PodPolicies: Sendable {
    let program: PolicyProgram
    private init(_ program: PolicyProgram) { self.program = program }

    /// By the addresses of those pods that have some. `old` lends what stays the same.
    static func all(of snapshot: ProxySnapshot, replacing old: [IPAddress: PodPolicies]) -> [IPAddress: PodPolicies] {
        guard let mesh = snapshot.mesh else { return [:] }
        return snapshot.meshPods.compactMapValues(\.policies).filter { !$0.value.isEmpty }.reduce(into: [:]) {
            policies, entry in
            // One that nobody has told of says nobody knows what.
            let named = entry.value.map { snapshot.policies[$0] ?? AccessPolicy(name: $0, isUnreadable: true) }
            let program = PolicyProgram(named, in: mesh)
            let known = old[entry.key].flatMap { $0.program == program ? $0 : nil }
            policies[entry.key] = known ?? PodPolicies(program)
        }
    }
}

extension RoutingTable {
    /// A connection by a tunnel, of a client that has shown its identity. The peer is told nothing of the rule.
    func admit(_ flow: FlowRecord) throws(TunnelRefusal) {
        guard let policies = policies[flow.dialled.address], let client = flow.sourceIdentity else { return }
        let peer = PolicyPeer(
            trustDomain: client.trustDomain, namespace: client.account.namespace, serviceAccount: client.account.name)
        // Whose address it is must be known to be that of this identity; else it is whatever the peer says.
        let verdict = policies.program.verdict(
            of: PolicyQuestion(
                peer: peer, source: flow.source == nil ? nil : flow.client.address, destination: flow.dialled.address,
                port: flow.dialled.port))
        guard !verdict.isAllowed else { return }
        let reason = verdict.by.map { "\($0) denies it" } ?? "no rule of its ALLOW policies is about it"
        throw TunnelRefusal(.policy, "\(client) may not connect to \(flow.dialled): \(reason)")
    }
}

extension ServerTunnelStream {
    /// Called when other policies are in force: a connection that they deny ends as if it were reset.
    func policiesChanged(on shard: Shard) {
        guard let relay = (user as? RelayStream)?.relay else { return }
        do throws(TunnelRefusal) { try shard.table.admit(relay.flow) } catch {
            shard.refusedTunnel(error, "that was open goes on")
            relay.fail(error)
        }
    }
}
