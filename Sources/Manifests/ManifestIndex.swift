/// Which file is in force for each object, across all files of the directory. Pure: what files say in, changes out. It
/// holds the objects only, never texts or trees.
package import Cluster

package struct ManifestIndex {
    private struct Claim {
        var file: String
        var line: Int32
        var object: ClusterObject
    }
    private struct FileState {
        var ids: [ObjectID] = []
        var problems: [SourceProblem] = []
        var ignoredKinds: [String: Int] = [:]
    }

    private var files: [String: FileState] = [:]
    /// Files with something to report: few, so that asking for problems does not look at every file.
    private var troubled: Set<String> = []
    /// The claim in force for each object: that of the file whose name sorts first.
    private var winners: [ObjectID: Claim] = [:]
    /// The claims of other files, by name of the file.
    private var others: [ObjectID: [Claim]] = [:]
    /// Objects touched since the last commit, in order, and what was in force before.
    private var touched: [ObjectID] = []
    private var isTouched: Set<ObjectID> = []
    private var before: [ObjectID: ClusterObject] = [:]

    package init() {}

    package var fileNames: some Collection<String> { files.keys }

    /// What `name` says now; nil when the file is gone. An object whose document is broken keeps its last good version.
    package mutating func update(_ name: String, _ file: ManifestFile?) {
        let old = files[name]?.ids ?? []
        guard let file else {
            for id in old { removeClaim(id, name) }
            files[name] = nil
            troubled.remove(name)
            return
        }
        var state = FileState()
        state.problems = file.problems
        state.ignoredKinds = file.ignoredKinds
        state.ids.reserveCapacity(file.entries.count)
        for entry in file.entries {
            let id = entry.object.id
            state.ids.append(id)
            setClaim(id, Claim(file: name, line: Int32(clamping: entry.line), object: entry.object))
        }
        let present = Set(state.ids)
        for id in old where !present.contains(id) {
            if file.hasUnnamedBreakage || file.broken.contains(id) {
                state.ids.append(id)
            } else {
                removeClaim(id, name)
            }
        }
        if state.problems.isEmpty && state.ignoredKinds.isEmpty {
            troubled.remove(name)
        } else {
            troubled.insert(name)
        }
        files[name] = state
    }

    /// The real differences since the last commit. An object that moved from one file to another between commits was
    /// never gone.
    package mutating func commit() -> [Change] {
        var changes: [Change] = []
        for id in touched {
            let old = before[id]
            guard let now = winners[id]?.object else {
                if old != nil { changes.append(.delete(id)) }
                continue
            }
            if old != now { changes.append(.upsert(now)) }
        }
        touched = []
        isTouched = []
        before = [:]
        return changes
    }

    /// Everything that is wrong now, in the order of file names.
    package var problems: [SourceProblem] {
        var all: [SourceProblem] = []
        var ignored: Set<String> = []
        let losers = Dictionary(grouping: others.flatMap { id, claims in claims.map { (id, $0) } }) { $0.1.file }
        for name in troubled.union(losers.keys).sorted() {
            guard let state = files[name] else { continue }
            all += state.problems
            for (id, claim) in (losers[name] ?? []).sorted(by: { $0.1.line < $1.1.line }) {
                guard let winner = winners[id] else { continue }
                all.append(
                    SourceProblem(
                        location: "\(name):\(claim.line)", object: id.description,
                        message: "is also in \(winner.file):\(winner.line), and that one is used; remove one of them"))
            }
            for (kind, line) in state.ignoredKinds.sorted(by: { $0.value < $1.value })
            where ignored.insert(kind).inserted {
                all.append(
                    SourceProblem(
                        location: "\(name):\(line)", message: "kind \(kind) is not read by Heddle and is ignored"))
            }
        }
        return all
    }

    private mutating func touch(_ id: ObjectID) {
        guard isTouched.insert(id).inserted else { return }
        touched.append(id)
        before[id] = winners[id]?.object
    }

    private mutating func setClaim(_ id: ObjectID, _ claim: Claim) {
        touch(id)
        guard let winner = winners[id], winner.file != claim.file || others[id] != nil else {
            winners[id] = claim
            return
        }
        elect(id, (allClaims(id).filter { $0.file != claim.file }) + [claim])
    }
    private mutating func removeClaim(_ id: ObjectID, _ file: String) {
        touch(id)
        elect(id, allClaims(id).filter { $0.file != file })
    }
    private func allClaims(_ id: ObjectID) -> [Claim] { (winners[id].map { [$0] } ?? []) + (others[id] ?? []) }

    private mutating func elect(_ id: ObjectID, _ claims: [Claim]) {
        let sorted = claims.sorted { $0.file < $1.file }
        winners[id] = sorted.first
        others[id] = sorted.count > 1 ? Array(sorted[1...]) : nil
    }
}
