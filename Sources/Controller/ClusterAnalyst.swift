/// Judges the whole cluster for those who ask. A large one takes a while: one walk at a time, and the same walk for all
/// who wait for it.
import AdminAPI
import AdminServer
import Cluster
import Daemon
import Validation

final class ClusterAnalyst: Sendable {
    private struct Question {
        let namespace: String?
        let reply: @Sendable (HTTPResponse) -> Void
    }
    private let queue = QuestionQueue<Question>()

    func ask(_ namespace: String?, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        guard !queue.add(Question(namespace: namespace, reply: reply)) else { return }
        reply(failureResponse("others wait for the cluster to be judged, and no more may; ask again", status: 503))
    }

    /// Until the task is cancelled.
    func run(_ view: @Sendable () -> ClusterView) async {
        await queue.run { questions in
            let view = view()
            let report = view.judged()
            for question in questions {
                question.reply(jsonResponse(view.analysis(report, of: question.namespace)))
            }
        }
    }
}

extension ClusterView {
    /// `namespace`: only what is told of its objects, or of itself.
    func analysis(_ report: Report, of namespace: String?) -> ClusterAnalysis {
        let judgements = report.judgements.filter { judgement in
            guard let namespace else { return true }
            let name = judgement.object.name
            return name.namespace == namespace || judgement.object.kind == .namespace && name.name == namespace
        }
        var answer = ClusterAnalysis()
        answer.errors = judgements.count { $0.severity == .error }
        answer.warnings = judgements.count - answer.errors
        let sorted = judgements.filter { $0.severity == .error } + judgements.filter { $0.severity == .warning }
        answer.entries = sorted.prefix(ClusterAnalysis.maximumEntries).map {
            .init(
                severity: $0.severity.rawValue, code: $0.code, object: $0.object.description, field: $0.field,
                message: $0.message)
        }
        answer.objects = objectCount(in: namespace)
        if !isComplete { answer.notes.append("the first lists are not complete: what is missing may exist") }
        if let unjudged = report.unjudged { answer.notes.append(unjudged) }
        let more = judgements.count - answer.entries.count
        if more > 0 { answer.notes.append("\(more) more are not shown; --namespace shows those of one") }
        if !problems.isEmpty {
            answer.notes.append(
                "\(problems.count) problems of the source, of which agentctl status --cluster tells: what it cannot "
                    + "read is not judged")
        }
        return answer
    }

    private func objectCount(in namespace: String?) -> Int {
        guard let namespace else {
            return state.services.count + state.slices.count + state.namespaces.count + state.routes.count
        }
        return state.services.keys.count { $0.namespace == namespace }
            + state.slices.keys.count { $0.namespace == namespace }
            + state.routes.keys.count { $0.name.namespace == namespace } + (state.namespaces[namespace] == nil ? 0 : 1)
    }
}
