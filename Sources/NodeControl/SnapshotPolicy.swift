/// Fail static: the last good state goes to disk now and then, and is used when the control plane is away at the start
/// and the kernel holds nothing, as after a restart of the node. What the kernel holds is never older than the file, so
/// it is left alone.
import Cluster
import Reconcile

package struct SnapshotPolicy: Sendable {
    /// A change is not in the file yet.
    var isDue = false
    var savedAt: Duration?
    /// What the source has told before its first lists were complete; a snapshot must not undo it.
    var toldIDs: Set<ObjectID> = []
    /// The objects of the snapshot that is in force; the source has not confirmed them.
    var unconfirmed: Set<ObjectID> = []
    /// The way to the API server itself, which an empty list never takes away.
    var apiServer: Set<ObjectID> = []
    var isInForce = false
    /// What the status says of it; nil: the source is here.
    package internal(set) var sentence: String?
    /// When the one that is in force was written.
    package internal(set) var writtenAt: Duration?
}

extension NodeController {
    mutating func noteStateChange() {
        guard let times = settings.snapshots, isComplete, !snapshot.isDue else { return }
        snapshot.isDue = true
        let earliest = snapshot.savedAt.map { $0 + times.interval } ?? .zero
        deadlines.snapshot = max(now + times.delay, earliest)
    }

    /// Before the first lists are complete this deadline is the end of patience, afterwards a snapshot that is due.
    mutating func passSnapshotDeadline() {
        guard isComplete else { return act(.loadSnapshot) }
        saveSnapshot()
    }

    mutating func saveSnapshot() {
        guard snapshot.isDue else { return }
        snapshot.isDue = false
        snapshot.savedAt = now
        act(.saveSnapshot(state))
    }

    mutating func take(_ finding: SnapshotFinding) {
        guard !isComplete else { return }
        switch finding {
        case .kernelHoldsServices(let age):
            // The kernel got every change before the file did.
            snapshot.writtenAt = age.map { now - $0 }
            tellSnapshot("the source is away; what the kernel holds from before stays in force")
        case .none: tellSnapshot("the source is away, and there is no snapshot to begin with")
        case .unusable(let reason): tellSnapshot("the source is away, and the snapshot cannot be used: \(reason)")
        case .found(let objects, let age): adopt(objects, age)
        }
    }

    private mutating func adopt(_ objects: [ClusterObject], _ age: Duration) {
        // What the source has told already is newer.
        for object in objects where !snapshot.toldIDs.contains(object.id) {
            dirty.formUnion(state.apply(.upsert(object)))
            snapshot.unconfirmed.insert(object.id)
            if object.isOfAPIServer { snapshot.apiServer.insert(object.id) }
        }
        (snapshot.isInForce, mustCompile) = (true, true)
        snapshot.writtenAt = now - age
        tellSnapshot("the source is away; a snapshot with \(objects.count) objects is in force")
        if hasAddresses { reconciler.sourceIsComplete() }
    }

    private mutating func tellSnapshot(_ sentence: String) {
        log(.warning, sentence)
        snapshot.sentence = sentence
    }

    /// The source's own lists are complete: what they do not have is gone.
    mutating func confirmSnapshot() {
        (snapshot.sentence, snapshot.writtenAt) = (nil, nil)
        guard snapshot.isInForce else { return }
        let hasServices = state.services.keys.contains { !snapshot.unconfirmed.contains(ObjectID(.service, $0)) }
        // No service at all right after a good state is more likely a fault than the truth.
        let gone = hasServices ? snapshot.unconfirmed : snapshot.unconfirmed.subtracting(snapshot.apiServer)
        for id in gone { dirty.formUnion(state.apply(.delete(id))) }
        log(.notice, "the source is back: \(gone.count) objects of the snapshot are gone")
        snapshot.isInForce = false
        snapshot.unconfirmed = []
        snapshot.apiServer = []
    }
}
