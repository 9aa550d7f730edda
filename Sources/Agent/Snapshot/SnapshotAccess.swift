/// The snapshot as the control actor reaches it.
import Cluster

/// Nil functions: there is none, the source is a directory on this node.
struct SnapshotAccess: Sendable {
    /// Begins to write; does not wait for the end.
    var save: (@Sendable (ClusterState) -> Void)?
    var load: (@Sendable () throws(SnapshotError) -> Snapshot?)?
    /// When the file was written, in seconds since 1970; nil: there is none that can be used.
    var writtenAt: @Sendable () -> Double? = { nil }
    /// Why the last one could not be written.
    var problem: @Sendable () -> String? = { nil }
    var kernelHoldsServices: @Sendable () -> Bool = { false }
    /// How long the source may take for its first lists.
    var patience = Duration.seconds(5)
    /// From a change to its snapshot, and the least time between two: writing costs as much as the cluster is large.
    var delay = Duration.seconds(5)
    var interval = Duration.seconds(60)
}
