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
    /// Those of other nodes too, which are followed only while something depends on them.
    var knowsPodsElsewhere: Bool { knowsPods && (pods.scope == .all || settings.podSources.isEmpty) }

    mutating func followPods() {
        if let end = pods.observedUntil, end <= now {
            pods.observedUntil = nil
            flowNames.forget()
        }
        deadlines.pods = pods.observedUntil
        // What an earlier agent wrote of the mesh is replaced at once, so all is to be known.
        let forRoutes = (routes.isNeeded || hasMeshPods) && settings.proxy != .off || awaitsMesh
        let forNode = mesh != nil || pods.observedUntil != nil
        let wanted: PodScope = forRoutes ? .all : forNode ? .ofNode : .none
        guard wanted != pods.scope else { return }
        if pods.scope == .none { pods.round += 1 }
        // In the mesh nothing is said of any pod before all are known.
        if wanted == .none || wanted == .all && mesh != nil { pods.told = [] }
        pods.scope = wanted
        act(.follow(wanted, round: pods.round))
    }

    /// Also such as have no address yet: by then the pods of other nodes shall be known.
    private var hasMeshPods: Bool {
        mesh != nil
            && state.mesh.localPods.values.contains { pod in
                let enrolment = state.enrolment(of: pod)
                return enrolment.isEnrolled || enrolment == .out(.noAddress)
            }
    }

    /// `ofAll`: what was told of this node's alone came too late.
    mutating func notePodsKnown(of source: Int, _ round: Int, ofAll: Bool) {
        guard pods.scope != .none, round == pods.round, ofAll || mesh == nil || pods.scope != .all else { return }
        pods.told.insert(source)
        mustCompile = true
    }
}
