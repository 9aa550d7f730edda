/// Fail static: the last good state goes to disk now and then, and is used when the control plane is away at the start
/// and the kernel holds nothing, as after a restart of the node. What the kernel holds is never older than the file, so
/// it is left alone.
import AdminAPI
import Cluster
import Logging
import Reconcile

/// The snapshot as the control actor sees it. Nil functions: there is none, the source is a directory on this node.
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

struct SnapshotState {
    /// A change is not in the file yet.
    var isDue = false
    var savedAt: Duration?
    /// The objects of the snapshot that is in force; the source has not confirmed them.
    var unconfirmed: Set<ObjectID> = []
    /// The way to the API server itself, which an empty list never takes away.
    var apiServer: Set<ObjectID> = []
    var isInForce = false
}

extension NodeAgent {
    func noteStateChange() {
        guard environment.snapshot.save != nil, isComplete, !snapshot.isDue else { return }
        snapshot.isDue = true
        let earliest = snapshot.savedAt.map { $0 + environment.snapshot.interval } ?? .zero
        deadlines.snapshot = max(now + environment.snapshot.delay, earliest)
    }

    /// Before the first lists are complete this deadline is the end of patience, afterwards a snapshot that is due.
    func passSnapshotDeadline() {
        guard isComplete else { return restore() }
        saveSnapshot()
    }

    func saveSnapshot() {
        guard snapshot.isDue, let save = environment.snapshot.save else { return }
        snapshot.isDue = false
        snapshot.savedAt = now
        save(state)
    }

    private func restore() {
        guard let load = environment.snapshot.load else { return }
        guard !environment.snapshot.kernelHoldsServices() else {
            // The kernel got every change before the file did.
            noteSnapshotAge(environment.snapshot.writtenAt())
            return tellSnapshot("the source is away; what the kernel holds from before stays in force")
        }
        do throws(SnapshotError) {
            guard let found = try load() else {
                return tellSnapshot("the source is away, and there is no snapshot to begin with")
            }
            adopt(found)
        } catch { tellSnapshot("the source is away, and the snapshot cannot be used: \(error)") }
    }

    private func adopt(_ found: Snapshot) {
        // What the source has told already is newer.
        for object in found.objects where !toldIDs.contains(object.id) {
            dirty.formUnion(state.apply(.upsert(object)))
            snapshot.unconfirmed.insert(object.id)
            if object.isOfAPIServer { snapshot.apiServer.insert(object.id) }
        }
        snapshot.isInForce = true
        noteSnapshotAge(found.header.writtenAt)
        tellSnapshot("the source is away; a snapshot with \(found.objects.count) objects is in force")
        if hasAddresses { reconciler.sourceIsComplete() }
        settleSoon()
    }

    private func noteSnapshotAge(_ writtenAt: Double?) {
        let at = writtenAt.map { now - .seconds(max(0, wallTime - $0)) }
        environment.board.update { $0.snapshotWrittenAt = at }
    }

    private func tellSnapshot(_ sentence: String) {
        log.warning("\(sentence)")
        environment.board.update { $0.status.snapshot = sentence }
    }

    /// The source's own lists are complete: what they do not have is gone.
    func confirmSnapshot() {
        environment.board.update { contents in
            contents.status.snapshot = nil
            contents.snapshotWrittenAt = nil
        }
        guard snapshot.isInForce else { return }
        let hasServices = state.services.keys.contains { !snapshot.unconfirmed.contains(ObjectID(.service, $0)) }
        // No service at all right after a good state is more likely a fault than the truth.
        let gone = hasServices ? snapshot.unconfirmed : snapshot.unconfirmed.subtracting(snapshot.apiServer)
        for id in gone { dirty.formUnion(state.apply(.delete(id))) }
        log.notice("the source is back: \(gone.count) objects of the snapshot are gone")
        snapshot.isInForce = false
        snapshot.unconfirmed = []
        snapshot.apiServer = []
    }
}
