/// Which pods the agent follows: none as long as nothing depends on them, those of this node where there is a mesh or
/// while somebody observes, all while something is routed or one of this node's is in the mesh. Clients of routed
/// services are pods of this node, and their namespace decides which routes apply to them: nothing is handed to the
/// proxy before they are known.
import Cluster
import Compile

struct PodFollowing {
    var scope = PodScope.none
    /// Counts how often following began: what a source tells of an earlier time says nothing about now.
    var round = 0
    /// Sources that have told all pods of this node in this round.
    var told: Set<Int> = []
    /// Until when whoever observes wants names.
    var observedUntil: Duration?
}

extension NodeController {
    var knowsPods: Bool { settings.podSources.isSubset(of: pods.told) }

    mutating func followPods() {
        if let end = pods.observedUntil, end <= now {
            pods.observedUntil = nil
            flowNames.forget()
        }
        deadlines.pods = pods.observedUntil
        // What an earlier agent wrote of the mesh is replaced at once, so all is to be known.
        let forRoutes = routes.isNeeded && settings.proxy != .off || awaitsMesh
        let forNode = mesh != nil || pods.observedUntil != nil
        let wanted: PodScope = forRoutes ? .all : forNode ? .ofNode : .none
        guard wanted != pods.scope else { return }
        if pods.scope == .none { pods.round += 1 }
        pods.scope = wanted
        if wanted == .none { pods.told = [] }
        act(.follow(wanted, round: pods.round))
    }

    mutating func notePodsKnown(of source: Int, _ round: Int) {
        guard pods.scope != .none, round == pods.round else { return }
        pods.told.insert(source)
        mustCompile = true
    }
}
