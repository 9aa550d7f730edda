/// Which pods the agent follows: none as long as nothing depends on them, those of this node while somebody observes,
/// all while something is routed. Clients of routed services are pods of this node, and their namespace decides which
/// routes apply to them: nothing is handed to the proxy before they are known.
import Cluster
import Compile

struct PodFollowing {
    var scope = PodScope.none
    /// Sources that have told all pods of this node.
    var told: Set<Int> = []
    /// Until when whoever observes wants names.
    var observedUntil: Duration?
}

extension NodeController {
    var knowsPods: Bool { settings.podSources.isSubset(of: pods.told) }

    mutating func followPods() {
        if let end = pods.observedUntil, end <= now { pods.observedUntil = nil }
        deadlines.pods = pods.observedUntil
        let forRoutes = routes.isNeeded && settings.proxy != .off
        let wanted: PodScope = forRoutes ? .all : pods.observedUntil != nil ? .ofNode : .none
        guard wanted != pods.scope else { return }
        pods.scope = wanted
        if wanted == .none { pods.told = [] }
        act(.follow(wanted))
    }
}
