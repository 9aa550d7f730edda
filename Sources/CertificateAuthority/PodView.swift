/// Which ServiceAccounts run on which node, kept up to date at the cost of a change.

package struct PodFacts: Equatable, Sendable {
    package var namespace: String
    package var name: String
    package var uid: String
    package var serviceAccount: String
    /// Empty: not placed yet.
    package var node: String
    /// Succeeded or Failed: nothing of it runs any more.
    package var hasEnded: Bool

    package init(
        namespace: String, name: String, uid: String, serviceAccount: String, node: String, hasEnded: Bool = false
    ) {
        (self.namespace, self.name, self.uid) = (namespace, name, uid)
        (self.serviceAccount, self.node, self.hasEnded) = (serviceAccount, node, hasEnded)
    }

    /// nil: it runs nowhere.
    fileprivate var place: PodView.Place? {
        guard !hasEnded, !node.isEmpty, let account = ServiceAccount(namespace: namespace, name: serviceAccount)
        else { return nil }
        return PodView.Place(account: account, node: node)
    }
}

package struct PodView: Sendable {
    fileprivate struct Place: Hashable, Sendable {
        let account: ServiceAccount
        let node: String
    }
    private struct Key: Hashable, Sendable {
        let namespace: String
        let name: String
    }
    private var pods: [Key: PodFacts] = [:]
    private var running: [Place: Int] = [:]
    /// Whether all pods there are have been listed. Before that nobody is known, so nobody is served.
    package var isComplete = false

    package init() {}

    package var count: Int { pods.count }

    package mutating func set(_ pod: PodFacts) {
        remove(namespace: pod.namespace, name: pod.name)
        pods[Key(namespace: pod.namespace, name: pod.name)] = pod
        if let place = pod.place { running[place, default: 0] += 1 }
    }

    package mutating func remove(namespace: String, name: String) {
        guard let place = pods.removeValue(forKey: Key(namespace: namespace, name: name))?.place,
            let count = running[place]
        else { return }
        running[place] = count > 1 ? count - 1 : nil
    }

    package func pod(namespace: String, name: String) -> PodFacts? { pods[Key(namespace: namespace, name: name)] }

    package func runs(_ account: ServiceAccount, on node: String) -> Bool {
        running[Place(account: account, node: node)] != nil
    }
}
