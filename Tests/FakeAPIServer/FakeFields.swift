/// Who owns which field of an object (`metadata.managedFields`), and server-side apply, which goes by that.

/// `["f:status", "f:parents"]`, as in FieldsV1; an element of a keyed list is `k:{"type":"Ready"}`, and itself `.`.
typealias FieldPath = [String]

struct FieldManager: Equatable {
    var name: String
    /// `Apply` or `Update`
    var operation: String
    var apiVersion: String
    var subresource: String
    var fields: Set<FieldPath>

    init(_ name: String, _ operation: String, _ target: FakeTarget, _ fields: Set<FieldPath> = []) {
        (self.name, self.operation, self.fields) = (name, operation, fields)
        (apiVersion, subresource) = (target.resource.apiVersion, target.subresource)
    }
    init(_ value: JSONValue) {
        name = value["manager"]?.string ?? ""
        operation = value["operation"]?.string ?? ""
        apiVersion = value["apiVersion"]?.string ?? ""
        subresource = value["subresource"]?.string ?? ""
        fields = Self.paths(value["fieldsV1"] ?? .object([:]), [])
    }
    private static func paths(_ tree: JSONValue, _ path: FieldPath) -> Set<FieldPath> {
        guard !tree.members.isEmpty else { return path.isEmpty ? [] : [path] }
        return tree.members.reduce(into: []) { $0.formUnion(paths($1.value, path + [$1.key])) }
    }

    var value: JSONValue {
        func insert(_ path: FieldPath.SubSequence, _ tree: inout JSONValue) {
            guard let first = path.first else { return }
            var child = tree[first] ?? .object([:])
            insert(path.dropFirst(), &child)
            tree[first] = child
        }
        var tree = JSONValue.object([:])
        for path in fields { insert(path[...], &tree) }
        var result = JSONValue.object([
            "manager": .text(name), "operation": .text(operation), "apiVersion": .text(apiVersion),
            "fieldsType": .text("FieldsV1"), "fieldsV1": tree,
        ])
        if !subresource.isEmpty { result["subresource"] = .text(subresource) }
        return result
    }
    func isSame(as other: FieldManager) -> Bool {
        name == other.name && operation == other.operation && subresource == other.subresource
    }
}

extension JSONValue {
    var managers: [FieldManager] {
        get {
            guard case .list(let list) = self["metadata"]?["managedFields"] else { return [] }
            return list.map(FieldManager.init)
        }
        set {
            let list = newValue.filter { !$0.fields.isEmpty }
                .sorted { ($0.name, $0.operation, $0.subresource) < ($1.name, $1.operation, $1.subresource) }
            self["metadata"]?["managedFields"] = list.isEmpty ? nil : .list(list.map(\.value))
        }
    }

    /// The fields that managers may own.
    var ownedFields: Set<FieldPath> {
        var fields: Set<FieldPath> = []
        for (key, value) in members where key != "apiVersion" && key != "kind" && key != "metadata" {
            fields.formUnion(value.leaves(["f:\(key)"]))
        }
        for key in ["labels", "annotations", "ownerReferences", "finalizers"] {
            if let value = self["metadata"]?[key] { fields.formUnion(value.leaves(["f:metadata", "f:\(key)"])) }
        }
        return fields
    }
    private func leaves(_ path: FieldPath) -> Set<FieldPath> {
        switch self {
        case .object(let members) where !members.isEmpty:
            return members.reduce(into: []) { $0.formUnion($1.value.leaves(path + ["f:\($1.key)"])) }
        case .list(let items):
            guard let keys = listKeys(path) else { return [path] }
            return items.reduce(into: []) { fields, item in
                let place = path + [item.key(keys)]
                fields.insert(place + ["."])
                fields.formUnion(item.leaves(place))
            }
        default: return [path]
        }
    }
    /// `k:{"type":"Ready"}`
    private func key(_ keys: [String]) -> String {
        "k:" + JSONValue.object(members.filter { keys.contains($0.key) }).json
    }

    subscript(_ path: FieldPath) -> JSONValue? { self[path[...], []] }
    private subscript(_ rest: FieldPath.SubSequence, _ done: FieldPath) -> JSONValue? {
        guard let first = rest.first, first != "." else { return self }
        let next: JSONValue?
        if case .list(let items) = self {
            let keys = listKeys(done) ?? []
            next = items.first { $0.key(keys) == first }
        } else {
            next = self[String(first.dropFirst(2))]
        }
        return next?[rest.dropFirst(), done + [first]]
    }

    /// Takes the field away, and what is empty without it.
    mutating func remove(_ path: FieldPath) { remove(path[...], []) }
    private mutating func remove(_ rest: FieldPath.SubSequence, _ done: FieldPath) {
        guard let first = rest.first else { return }
        let isLast = rest.count == 1 || rest.dropFirst().first == "."
        if case .list(var items) = self {
            let keys = listKeys(done) ?? []
            guard let index = items.firstIndex(where: { $0.key(keys) == first }) else { return }
            if isLast { items.remove(at: index) } else { items[index].remove(rest.dropFirst(), done + [first]) }
            self = .list(items)
        } else {
            let name = String(first.dropFirst(2))
            guard var child = self[name] else { return }
            child.remove(rest.dropFirst(), done + [first])
            self[name] = isLast || child == .object([:]) || child == .list([]) ? nil : child
        }
    }

    /// What is applied over what is there: maps and keyed lists are merged, all else is replaced.
    func applied(_ sent: JSONValue, _ path: FieldPath = []) -> JSONValue {
        switch (self, sent) {
        case (.object, .object(let members)):
            var result = self
            for (key, value) in members {
                result[key] = self[key]?.applied(value, path + ["f:\(key)"]) ?? value
            }
            return result
        case (.list(var items), .list(let sentItems)):
            guard let keys = listKeys(path) else { return sent }
            for item in sentItems {
                let key = item.key(keys)
                if let index = items.firstIndex(where: { $0.key(keys) == key }) {
                    items[index] = items[index].applied(item, path + [key])
                } else {
                    items.append(item)
                }
            }
            return .list(items)
        default: return sent
        }
    }

    /// After a write that was no apply: what it changed is its own.
    func owned(by manager: FieldManager, after old: JSONValue?) -> JSONValue {
        var result = self
        let fields = ownedFields
        let changed = fields.filter { old?[$0] != self[$0] }
        var managers = old?.managers ?? []
        for index in managers.indices { managers[index].fields.formIntersection(fields.subtracting(changed)) }
        if let index = managers.firstIndex(where: { $0.isSame(as: manager) }) {
            managers[index].fields.formUnion(changed)
        } else {
            managers.append(manager)
            managers[managers.count - 1].fields = changed
        }
        result.managers = managers
        return result
    }

    /// Server-side apply; a sentence: who is in the way.
    func applying(_ sent: JSONValue, by manager: FieldManager, force: Bool) -> Result<JSONValue, FieldConflict> {
        var managers = managers
        let mine = managers.first { $0.isSame(as: manager) }
        managers.removeAll { $0.isSame(as: manager) }
        let wanted = sent.ownedFields
        let changed = wanted.filter { self[$0] != sent[$0] && $0.last != "." }
        var conflicts: [String] = []
        for index in managers.indices {
            let taken = managers[index].fields.intersection(changed)
            if !taken.isEmpty { conflicts += taken.map { managers[index].sentence($0) } }
            managers[index].fields.subtract(taken)
        }
        guard force || conflicts.isEmpty else { return .failure(FieldConflict(conflicts.sorted())) }
        var result = applied(sent)
        let kept = managers.reduce(into: wanted) { $0.formUnion($1.fields) }
        let given = (mine?.fields ?? []).subtracting(kept)
        // Elements of lists as a whole first: without its key none is found.
        for path in given.filter({ $0.last == "." }) + given.filter({ $0.last != "." }) { result.remove(path) }
        var owner = manager
        owner.fields = wanted
        result.managers = managers + [owner]
        return .success(result)
    }
}

struct FieldConflict: Error {
    let message: String
    init(_ conflicts: [String]) {
        let count = conflicts.count == 1 ? "1 conflict" : "\(conflicts.count) conflicts"
        message = "Apply failed with \(count): \(conflicts.joined(separator: "; "))"
    }
}

extension FieldManager {
    fileprivate func sentence(_ path: FieldPath) -> String {
        let part = subresource.isEmpty ? "" : " with subresource \"\(subresource)\""
        let field = path.map { $0.hasPrefix("f:") ? ".\($0.dropFirst(2))" : "[\($0.dropFirst(2))]" }.joined()
        return "conflict with \"\(name)\"\(part) using \(apiVersion): \(field)"
    }
}

/// What tells the elements of a list apart; nil: the list is one value, as `status.parents` of routes is.
private func listKeys(_ path: FieldPath) -> [String]? {
    switch path.last {
    case "f:conditions": ["type"]
    case "f:webhooks": ["name"]
    case "f:ownerReferences": ["uid"]
    case "f:ports" where path.first == "f:spec": ["port", "protocol"]
    default: nil
    }
}
