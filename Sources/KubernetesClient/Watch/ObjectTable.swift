/// Which objects of one kind the agent was told of, so that a new list can say which are gone. Names only: the objects
/// themselves are the agent's.
import Cluster

struct ObjectTable {
    enum Replacement: Equatable {
        /// These were not in the list.
        case complete(gone: [ObjectName])
        /// Everything is gone that was there before. Nothing was changed: a second list must say so, too.
        case doubted
    }

    private let resource: WatchedResource
    private(set) var names: Set<ObjectName> = []
    /// Of those, what the API server is reached by: Service `default/kubernetes` and its slices.
    private var apiServer: Set<ObjectName> = []
    /// While a list comes: what was in it so far.
    private var listed: Set<ObjectName>?
    private(set) var isDoubted = false
    /// What a list left out and is kept all the same.
    private(set) var kept: Set<ObjectName> = []

    init(_ resource: WatchedResource) { self.resource = resource }

    mutating func beginReplacing() { listed = [] }

    mutating func put(_ object: ClusterObject) {
        let name = object.id.name
        names.insert(name)
        listed?.insert(name)
        kept.remove(name)
        if object.isOfAPIServer { apiServer.insert(name) } else { apiServer.remove(name) }
    }

    /// The object is there but cannot be used; its last good version, if any, stays.
    mutating func keep(_ name: ObjectName) { listed?.insert(name) }

    /// False: nobody was told of it.
    mutating func remove(_ name: ObjectName) -> Bool {
        listed?.remove(name)
        apiServer.remove(name)
        kept.remove(name)
        return names.remove(name) != nil
    }

    /// The list is complete.
    mutating func endReplacing() -> Replacement {
        guard let listed else { return .complete(gone: []) }
        self.listed = nil
        let missing = names.subtracting(listed)
        if resource.isGuarded, listed.isEmpty, !names.subtracting(kept).isEmpty, !isDoubted {
            isDoubted = true
            return .doubted
        }
        isDoubted = false
        kept = listed.isEmpty && resource.isGuarded ? missing.intersection(apiServer) : []
        let gone = missing.subtracting(kept)
        names.subtract(gone)
        apiServer.subtract(gone)
        return .complete(gone: gone.sorted())
    }
}
