/// What the actor last said about itself, for readers on other threads: the health servers must answer while a long
/// write holds the kernel thread.
import AdminAPI
import Addressing
import DataplaneIR
import NodeControl
import Synchronization

final class StatusBoard: Sendable {
    struct Contents: Sendable {
        var status: AgentStatus
        /// Points in the agent's monotonic time.
        var startedAt: Duration
        var lastSyncAt: Duration?
        var driftAt: Duration?
        var auditAt: Duration?
        var auditPassed = false
        var canaryTriedAt: Duration?
        var canaryPassedAt: Duration?
        /// An address of a pod on this node that is an endpoint of some service.
        var localPod: IPAddress?
        var sourceChangedAt: [Duration?] = []
        var servers: [ServerKind: [AgentStatus.Server]] = [:]
        /// When the snapshot that is in force was written.
        var snapshotWrittenAt: Duration?
        /// When the oldest change that is not yet in the kernel came in.
        var oldestPending: Duration?
        /// How far we are, and since when the proxies hold it up.
        var written: Marks.Versions = [:]
        var inForce: Marks.Versions = [:]
        var waitsForProxySince: Duration?
        var refused: [ServicePortID: String] = [:]
        /// One that others can reach; nil: not known yet.
        var hasNodeAddress: Bool?
        /// Of our Node object (spec row 144).
        var nodeEligible = true

        var canaryFailure: String? {
            guard let canary = status.dataplane.canary, canary.state == "failed" else { return nil }
            return canary.detail ?? ""
        }
        var isProven: Bool { auditPassed && canaryFailure == nil }

        /// The status with its ages as of `now`.
        func status(now: Duration) -> AgentStatus {
            var status = status
            let age = { (at: Duration?) in at.map { (now - $0).seconds } }
            status.uptimeSeconds = (now - startedAt).seconds
            status.sync.lastSyncSecondsAgo = age(lastSyncAt)
            status.drift.lastSecondsAgo = age(driftAt)
            status.snapshotSecondsAgo = age(snapshotWrittenAt)
            status.dataplane.proven = isProven
            status.dataplane.provenSecondsAgo = age(auditAt)
            status.dataplane.canary?.triedSecondsAgo = age(canaryTriedAt)
            status.dataplane.canary?.passedSecondsAgo = age(canaryPassedAt)
            for (index, at) in sourceChangedAt.enumerated() where index < status.sources.count {
                status.sources[index].changedSecondsAgo = age(at)
            }
            status.servers = ServerKind.allCases.flatMap { servers[$0] ?? [] }
            return status
        }
    }

    private let contents: Mutex<Contents>
    let clock: @Sendable () -> Duration

    init(status: AgentStatus, clock: @escaping @Sendable () -> Duration) {
        contents = Mutex(Contents(status: status, startedAt: clock()))
        self.clock = clock
    }

    var now: Contents { contents.withLock { $0 } }
    /// Without a copy of everything.
    func read<R>(_ look: (Contents) -> R) -> R { contents.withLock { look($0) } }
    func update(_ edit: (inout Contents) -> Void) { contents.withLock { edit(&$0) } }
    var status: AgentStatus { now.status(now: clock()) }
}
