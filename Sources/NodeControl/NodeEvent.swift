/// What the controller hears, and what it wants done: all there is between it and the world.
package import Addressing
package import Cluster
package import Compile
package import DataplaneIR
package import HandOver
package import Reconcile
package import RouteIR

package enum NodeEvent: Sendable {
    case source(Int, SourceEvent)
    /// Every address of every interface.
    case addresses(Set<LocalAddress>)
    /// The L7 proxies that are connected now, and those of them that run another program than the installed one.
    case proxies([ConnectedProxy], outdated: Set<UInt32>)
    /// What became of the plan that was to be applied. `jitter`: a random number in 0..<1 for the next try.
    case applied(Result<Receipt, DataplaneError>, jitter: Double)
    case collected(Result<Void, DataplaneError>)
    /// The kernel differs from what was written, or may.
    case drift
    /// The answer to `.loadSnapshot`.
    case snapshot(SnapshotFinding)
    /// Somebody looks at flows and wants names.
    case observed
    /// The agent ends: what is worth keeping is to be kept.
    case stopping
}

/// What was found when the last good state was looked for.
package enum SnapshotFinding: Sendable {
    /// Older than what the kernel has, so it is not needed. `age`: of the file, nil: there is none.
    case kernelHoldsServices(age: Duration?)
    case none
    case unusable(String)
    case found([ClusterObject], age: Duration)
}

package enum NodeAction: Sendable {
    /// To be answered with `.applied` before anything else happens.
    case apply(Plan)
    case collectGarbage
    /// Hands a configuration to the proxies of the node.
    case publish(ProxySnapshot)
    /// Whether a proxy must run, and which are here.
    case tendProxies(isNeeded: Bool, ProxySuccession)
    /// Asks a proxy to end once it has finished what it does.
    case drain(pid: UInt32)
    /// `round` comes back with `.podsKnown`.
    case follow(PodScope, round: Int)
    /// Which health-check servers must run.
    case healthChecks([ObjectName: HealthCheck], NodeProgram)
    case loadSnapshot
    /// Begins to write it; nobody waits for the end.
    case saveSnapshot(ClusterState)
    /// Tells whoever owns the object.
    case tell(ObjectEvent)
    case log(NodeLogLine)
    case measure(NodeMeasure)
}

package struct NodeLogLine: Equatable, Sendable {
    package enum Level: Sendable {
        case debug, info, notice, warning, error
    }
    package var level: Level
    package var text: String
    package var metadata: [String: String] = [:]

    init(_ level: Level, _ text: String, _ metadata: [String: String] = [:]) {
        (self.level, self.text, self.metadata) = (level, text, metadata)
    }
}

/// What is worth counting when it happens; what can be looked up is in `NodeController` itself.
package enum NodeMeasure: Sendable {
    case serviceChange
    case endpointChange
    case sourceProblems(source: Int, Int)
    /// Programs of these families wait to be written.
    case queued(Set<AddressFamily>)
    case written(Plan, Receipt, took: Duration)
    case writeFailed
    case collectionFailed
    /// These changes, of which the control plane says when they happened, are in force (spec row 149).
    case programmed([ChangeLog.Trigger])
}
