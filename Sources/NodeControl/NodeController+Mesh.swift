/// The mesh in the control actor: who is in it, and what kernel and proxy are told of that.
package import Addressing
import Cluster
import Compile
import DataplaneIR
import RouteIR

extension NodeController {
    /// Before services and routes, to which it matters.
    mutating func compileMesh() {
        let arePodsKnown = knowsPodsElsewhere
        let changes = mesh?.update(
            dirty.pods, policies: dirty.policies, services: dirty.services, arePodsKnown: arePodsKnown, from: state)
        guard let changes else { return }
        if !dirty.accessPolicies.isEmpty {
            findingsVersion += 1
            tell(
                dirty.accessPolicies.sorted().compactMap(state.mesh.access.policy).flatMap {
                    accessFindings(of: $0, state)
                })
        }
        compiler.setReach(mesh?.view.reach ?? MeshReach())
        dirty.pods.formUnion(changes.reach)
        dirty.services.formUnion(state.services(withEndpointsAt: changes.reach))
        if changes.findings { findingsVersion += 1 }
        tell(changes.newFindings)
    }

    /// Until pods, namespaces and policies are known nothing is written over what an earlier agent wrote of the mesh:
    /// pods would be out of it, and what is STRICT would be open, on a guess.
    var mayWriteMesh: Bool {
        mutating get {
            // A snapshot is in force where the kernel holds nothing that it could take away.
            if isComplete && knowsPods || snapshot.isInForce { awaitsMesh = false }
            return !awaitsMesh
        }
    }

    /// What is not written because of that.
    var meshWaiting: [String] {
        guard isComplete, awaitsMesh else { return [] }
        return [
            "nothing is written yet: the pods of the mesh are not known; what an earlier agent wrote of them, and of "
                + "services, stays in force until the API server has listed them"
        ]
    }

    /// Otherwise than with routes, what is dialled goes to the proxy from the moment that a pod is enrolled, and is
    /// refused until one is there: nothing is sent in the clear meanwhile.
    var meshProgram: MeshProgram {
        guard let mesh else { return MeshProgram() }
        var program = MeshProgram()
        program.pods = mesh.programs
        let reach = mesh.view.reach
        program.enrolled = reach.isListed ? reach.enrolled.union(dialledUnknown(reach.unknown)) : reach.enrolled
        program.unlisted = reach.isListed ? [] : settings.podRanges
        return program
    }

    /// Whoever may write EndpointSlices can name any address as a pod's: nobody is to be kept from the API server by
    /// that, nor, where it is known which addresses pods have, from any other.
    private func dialledUnknown(_ unknown: Set<IPAddress>) -> Set<IPAddress> {
        guard !unknown.isEmpty else { return [] }
        let ranges = Dictionary(grouping: settings.clusterCIDRs, by: \.family)
        let apiServer = state.slices(of: .apiServer).flatMap(\.endpoints).map(\.address)
        let others = nodeInputs.interfaceAddresses.union(apiServer)
        return unknown.filter { address in
            ranges[address.family].map { $0.contains { $0.contains(address) } } ?? !others.contains(address)
        }
    }

    /// A walk over the pods of this node, over namespaces and policies, and over what is labelled.
    var meshFindings: [Finding] {
        namespaceFindings(state)
            + (mesh.map { $0.findings + policyFindings(state) + accessFindings(state) } ?? findingsWithoutMesh(state))
    }

    /// The addresses of this node's pods, in the mesh or not, by uid: of one that has left it connections go on.
    package var podsHere: [String: [IPAddress]] {
        guard mesh != nil else { return [:] }
        return Dictionary(state.mesh.localPods.values.map { ($0.knownUID, $0.addresses) }) { $0 + $1 }
    }

    /// Ports of services that routes are for.
    package var routedServices: Int { routes.snapshot.services.values.count { $0.clientProtocol != .tcp } }

    var meshWarningsWithoutProxy: [String] {
        guard let pods = mesh?.view.pods, !pods.isEmpty else { return [] }
        let names = Set(pods.values.map { ObjectName($0.namespace, $0.name) }).count
        return [
            "the L7 proxy is down: the \(names) pods of this node that are in the mesh reach no other pod that is, and "
                + "are reached by none"
        ]
    }
}
