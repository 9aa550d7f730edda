/// What is wrong with single objects of one kind, by name. Bounded in what it tells, not in what it knows: a mended
/// object must always be found and struck off.
import Cluster

struct ObjectProblems {
    private static let told = 50
    private var byName: [ObjectName: [(field: String, message: String)]] = [:]
    /// Changed since `takeChange`.
    private var hasChanged = false

    /// Objects that cannot be used at all.
    private(set) var refused: Set<ObjectName> = []

    mutating func removeAll() {
        hasChanged = hasChanged || !byName.isEmpty
        byName = [:]
        refused = []
    }
    mutating func removeAll(of name: ObjectName) {
        refused.remove(name)
        if byName.removeValue(forKey: name) != nil { hasChanged = true }
    }
    /// The object is used, but not all of it.
    mutating func set(_ notes: [DecodeNote], of name: ObjectName) {
        refused.remove(name)
        guard !notes.isEmpty else { return removeAll(of: name) }
        byName[name] = notes.map { ($0.path, $0.message) }
        hasChanged = true
    }
    mutating func refuse(_ name: ObjectName, field: String, message: String) {
        refused.insert(name)
        byName[name] = [(field, message)]
        hasChanged = true
    }
    mutating func takeChange() -> Bool {
        defer { hasChanged = false }
        return hasChanged
    }

    func problems(at location: String, kind: ObjectKind) -> [SourceProblem] {
        let names = byName.keys.sorted()
        var problems = names.prefix(Self.told).flatMap { name in
            (byName[name] ?? []).map { entry in
                SourceProblem(
                    location: location, object: ObjectID(kind, name).description,
                    field: entry.field.isEmpty ? nil : entry.field, message: entry.message)
            }
        }
        if names.count > Self.told {
            problems.append(
                SourceProblem(location: location, message: "\(names.count - Self.told) more objects have problems"))
        }
        return problems
    }
}
