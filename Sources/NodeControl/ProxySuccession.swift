/// How a newer proxy takes the place of an older one: the older one ends only once its successor has the
/// configuration, so that at every moment somebody serves the routes in force. Pure; for `--proxy spawn`, where both
/// are the agent's.
import HandOver

package struct ProxySuccession: Equatable, Sendable {
    /// None that is here runs the installed program.
    package internal(set) var needsSuccessor: Bool
    /// Those that run another program than the installed one, also if they speak another format of the hand-over.
    package internal(set) var outdated: Set<UInt32>
    /// Those of them that are not needed any more.
    package internal(set) var leaving: Set<UInt32>

    /// `oldest`: the first configuration that this agent handed over.
    init(
        _ proxies: [ConnectedProxy], oldest: UInt64, isCurrent: (ConnectedProxy) -> Bool
    ) {
        let current = proxies.filter(isCurrent)
        let old = proxies.filter { proxy in !current.contains { $0.pid == proxy.pid } }
        needsSuccessor = current.isEmpty
        outdated = Set(old.map(\.pid))
        leaving = Set(
            old.filter { old in
                current.contains { $0.isUp && $0.generation >= oldest && $0.generation >= old.generation }
            }.map(\.pid))
    }
}
