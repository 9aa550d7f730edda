/// Whether the API server may take an object, and what to tell whoever sent it. Refused is only what can never work,
/// whatever else the cluster holds, and only by whoever brings it: an object that had the fault before can still be
/// changed, or it could not even lose its finalizers.
import Cluster
package import Compile
package import Validation

package struct AdmissionVerdict: Equatable, Sendable {
    /// Of the object itself.
    package private(set) var refusals: [Judgement] = []
    /// Everything else, also what its coming does to other objects; its own come first, errors before warnings.
    package private(set) var warnings: [Judgement] = []

    package var isAllowed: Bool { refusals.isEmpty }

    package init() {}

    /// `options`: those of the agents, which decide whose Services are ours.
    package init(_ request: AdmissionRequest, against set: ObjectSet, options: CompilerOptions = CompilerOptions()) {
        guard let asked = request.object, !asked.isBeingDeleted, asked.isOfServices, let kind = request.kind else {
            return
        }
        let id: ObjectID
        var judgements: [Judgement]
        switch asked.content {
        case .failure(let error):
            id = ObjectID(kind, ObjectName(kind.isNamespaced ? request.namespace : "", request.name))
            judgements = [Judgement(undecodable: id, error)]
        case .success(let object):
            if case .service(let service) = object, !options.handles(service) { return }
            id = object.id
            judgements = judge(object, against: set).judgements
            judgements += asked.notes.map { Judgement(leftOutOf: id, $0) }
        }
        judgements.sort { ($0.object == id ? 0 : 1, $1.severity, $0) < ($1.object == id ? 0 : 1, $0.severity, $1) }
        var excused = judgements.contains(where: \.isRefused) ? OldFaults(request.oldObject, set) : OldFaults(nil, set)
        for judgement in judgements {
            if judgement.object == id, judgement.isRefused, !excused.take(judgement) {
                refusals.append(judgement)
            } else {
                warnings.append(judgement)
            }
        }
    }
}

/// Faults for which the object would have been refused before. The same fault elsewhere in the object is the same.
private struct OldFaults {
    private struct Fault: Hashable {
        let code: String
        let message: String
    }
    private var faults: [Fault: Int] = [:]
    /// It could not be read, and of several faults only the first was told.
    private var areUnknown = false

    init(_ old: AskedObject?, _ set: ObjectSet) {
        guard let old, old.isOfServices else { return }
        guard case .success(let object) = old.content else {
            areUnknown = true
            return
        }
        for judgement in judge(object, against: set).judgements
        where judgement.object == object.id && judgement.isRefused {
            faults[Fault(code: judgement.code, message: judgement.message), default: 0] += 1
        }
    }

    /// Whether it was there as often as now.
    mutating func take(_ judgement: Judgement) -> Bool {
        let fault = Fault(code: judgement.code, message: judgement.message)
        guard !areUnknown else { return true }
        guard let count = faults[fault], count > 0 else { return false }
        faults[fault] = count - 1
        return true
    }
}
