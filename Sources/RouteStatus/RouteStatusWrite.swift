/// What must be written to the status of one route, or that nothing must (gateway spec A.2).
package import Cluster
import PullJSON

package struct RouteStatusWrite: Equatable, Sendable {
    package static let controllerName = "heddle.io/mesh-controller"

    package let route: ObjectID
    /// That was read: whoever writes with it loses against a newer one.
    package let resourceVersion: String
    package let generation: Int64
    /// JSON of `status.parents`, which is one value to the API: the entries of others are in it byte for byte.
    package let parents: [UInt8]
}

/// What a status should say, and what of that has no room in it.
struct WantedStatus: Equatable {
    var entries: [(parent: WrittenParent, conditions: [Condition])] = []

    static func == (a: WantedStatus, b: WantedStatus) -> Bool {
        a.entries.elementsEqual(b.entries) { $0.parent == $1.parent && $0.conditions == $1.conditions }
    }

    /// The API's limits (row A6).
    static let maximumParents = 32
    static let maximumConditions = 8

    /// nil: nothing is to be done.
    func write(_ route: ObjectID, _ record: RouteRecord, now: Int) -> RouteStatusWrite? {
        var left = entries
        let foreign = record.entries.count { $0.controllerName != RouteStatusWrite.controllerName }
        let room = max(0, Self.maximumParents - foreign)
        if left.count > room { left = shortened(to: room) }
        var result: [[UInt8]] = []
        for entry in record.entries {
            guard entry.controllerName == RouteStatusWrite.controllerName else {
                result.append(entry.json)
                continue
            }
            let stored = StoredEntry(entry.json)
            // Row A2: whoever wrote that knew more than we do.
            if stored.conditions.contains(where: { $0.kind != nil && $0.observedGeneration > record.generation }) {
                return nil
            }
            guard let index = left.firstIndex(where: { $0.parent == stored.parent }) else { continue }
            let wanted = left.remove(at: index)
            result.append(json(wanted.parent, wanted.conditions, over: entry.json, stored, record.generation, now))
        }
        for wanted in left {
            result.append(json(wanted.parent, wanted.conditions, over: [], nil, record.generation, now))
        }
        guard result != record.entries.map(\.json) else { return nil }
        var parents: [UInt8] = []
        parents.append(list: result)
        return RouteStatusWrite(
            route: route, resourceVersion: record.resourceVersion, generation: record.generation,
            parents: parents)
    }

    /// The first ones, of which the last says what was left out.
    private func shortened(to room: Int) -> [(parent: WrittenParent, conditions: [Condition])] {
        var kept = Array(entries.prefix(room))
        guard let last = kept.indices.last else { return [] }
        kept[last].conditions[0].message +=
            ". \(entries.count - room) more parentRefs have no room in the status, which holds \(Self.maximumParents)"
        return kept
    }

    private func json(
        _ parent: WrittenParent, _ conditions: [Condition], over old: [UInt8], _ stored: StoredEntry?,
        _ generation: Int64, _ now: Int
    ) -> [UInt8] {
        // Conditions of others' types stay where they are (row A1).
        let others = stored?.conditions.count { $0.kind == nil } ?? 0
        var left = conditions
        let room = max(0, Self.maximumConditions - others)
        if left.count > room {
            let lost = left.suffix(left.count - room)
            left = Array(left.prefix(room))
            if !left.isEmpty {
                left[0].message +=
                    ". " + bounded(lost.map { "no room for condition \($0.kind.rawValue): \($0.message)" })
            }
        }
        let wanted = left
        var isSame = true
        var result: [[UInt8]] = []
        for condition in stored?.conditions ?? [] {
            guard let kind = condition.kind else {
                result.append(condition.json)
                continue
            }
            guard let index = left.firstIndex(where: { $0.kind == kind }) else {
                isSame = false
                continue
            }
            let new = left.remove(at: index)
            if condition.says(new, generation: generation) {
                result.append(condition.json)
                continue
            }
            isSame = false
            let stays =
                condition.status == (new.isTrue ? "True" : "False")
                && Timestamp.seconds(condition.lastTransitionTime) != nil
            result.append(
                new.json(
                    generation: generation, since: stays ? condition.lastTransitionTime : Timestamp.text(now)))
        }
        if isSame, left.isEmpty, stored != nil { return old }
        for new in wanted where left.contains(new) {
            result.append(new.json(generation: generation, since: Timestamp.text(now)))
        }
        var json: [UInt8] = Array("{\"parentRef\":".utf8) + parent.json
        json.append(field: "controllerName", RouteStatusWrite.controllerName)
        json.append(key: "conditions")
        json.append(list: result)
        return json + [UInt8(ascii: "}")]
    }
}
