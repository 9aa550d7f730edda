/// What the status says of what the controller knows; the rest of it others know.
package import AdminAPI
package import Addressing
import Cluster
import Compile
import DataplaneIR
import Reconcile

extension NodeController {
    private static let findingsShown = 200

    /// The part that changes with every write; costs the same however many services there are.
    package func report(into status: inout AgentStatus) {
        let written = reconciler.status
        status.ready = isComplete && written.applied > 0
        status.sync.inSync = written.isInSync && isComplete
        status.sync.generation = written.applied
        status.sync.pendingChanges = written.pending
        status.sync.failuresInARow = written.failuresInARow
        status.sync.failures = written.failures
        status.sync.lastError = written.lastError
        status.sync.plans = written.plans
        status.sync.fullPlans = written.fullPlans
        status.refused = written.refused.sorted { $0.key < $1.key }
            .map { .init(service: $0.key.description, reason: $0.value) }
        if let lastWrite {
            status.sync.lastSyncDurationSeconds = lastWrite.took.seconds
            status.dataplane.attached = true
        }
        for (index, source) in sources.enumerated() where index < status.sources.count {
            status.sources[index].complete = source.isComplete
            status.sources[index].problems = source.problems
        }
        status.snapshot = snapshot.sentence
        status.proxy = proxyStatus
    }

    /// Sentences for the status.
    package var warnings: (node: [String], proxy: [String]) { (nodeWarnings + meshWaiting, proxyWarnings) }

    /// One that others can reach; nil: not known yet.
    package var hasNodeAddress: Bool? {
        hasAddresses ? nodeInputs.addresses.contains { $0.address.isOfOneMachine } : nil
    }

    /// What a walk over everything finds.
    package struct Census: Equatable, Sendable {
        package var counts: AgentStatus.Counts
        /// An endpoint on this node that is a pod.
        package var localPod: IPAddress?
        package var findingCount: Int
        /// How many of each reason.
        package var findings: [String: Int]
        package var shownFindings: [String]
        package var nodePortAddresses: [String]
    }

    package var census: Census {
        var counts = AgentStatus.Counts()
        counts.services = Set(compiler.programs.keys.map { ObjectName($0.namespace, $0.service) }).count
        counts.servicePorts = compiler.programs.count
        for program in compiler.programs.values {
            counts.frontends += program.frontends.count
            counts.backends += program.backends.count
        }
        let pod = compiler.programs.values.lazy.flatMap(\.backends).first { backend in
            backend.isLocal && !node.localAddresses.contains(backend.address.address)
        }
        let findings = compiler.findings.values.flatMap { $0 } + routes.findings + meshFindings
        return Census(
            counts: counts, localPod: pod?.address.address, findingCount: findings.count,
            findings: Dictionary(findings.map { ($0.reason, 1) }, uniquingKeysWith: +),
            shownFindings: Array(findings.map(\.description).sorted().prefix(Self.findingsShown)),
            nodePortAddresses: node.nodePortAddresses.sorted().map(\.description))
    }
}
