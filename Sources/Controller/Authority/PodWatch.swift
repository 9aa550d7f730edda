/// Which ServiceAccounts run on which node, for those who ask for certificates: every pod of the cluster that has a
/// node, of which only that is kept.
import CertificateAuthority
import Cluster
import KubernetesClient
import Synchronization

final class PodWatch: Sendable {
    private struct State {
        var view = PodView()
        var problems: [String] = []
    }
    private let state = Mutex(State())
    private let source: KubernetesSource

    init(_ access: ClusterAccess) {
        source = KubernetesSource(configuration: .init(access: access, role: .pods))
    }

    /// Where it stands: one watch.
    var status: [WatchStatus] { source.status }
    var problems: [String] { state.withLock(\.problems) }
    var count: Int { state.withLock(\.view.count) }
    var isComplete: Bool { state.withLock(\.view.isComplete) }

    /// Asks under the lock: a copy of all pods for each request would cost more than the request.
    func decide(_ who: WhoMayAsk, _ token: TokenFacts, asked: [String]) throws(Refusal) -> Grant {
        let grant = try state.withLock { state throws(Refusal) in
            try who.decide(token, asked: asked, pods: state.view)
        }
        guard !grant.isImpersonation || isCurrent else {
            throw Refusal(
                .notReady, "the watch of pods is not up to date, so nobody gets another's certificate; ask again")
        }
        return grant
    }

    /// A pod that has gone must not be spoken for because nobody heard of it. Servers send something every minute.
    private var isCurrent: Bool {
        source.status.allSatisfy { $0.state == .watching && $0.age.map { $0 < Self.longestSilence } == true }
    }
    private static let longestSilence = Duration.seconds(150)

    /// Until the task is cancelled. What was known stays known while the API server is away; `tell` hears of problems.
    func run(_ tell: (String) -> Void = { _ in }) async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.source.run() }
            for await event in source.events {
                let known = Set(problems)
                take(event)
                for problem in problems where !known.contains(problem) { tell(problem) }
            }
        }
    }

    private func take(_ event: SourceEvent) {
        state.withLock { state in
            switch event {
            case .changes(let changes):
                for change in changes { state.view.take(change) }
            case .synced: state.view.isComplete = true
            case .problems(let problems): state.problems = problems.map(\.description)
            case .podsKnown, .reached: break
            }
        }
    }
}

extension PodView {
    fileprivate mutating func take(_ change: Change) {
        switch change {
        case .upsert(.pod(let pod)): set(PodFacts(pod))
        case .delete(let id) where id.kind == .pod: remove(namespace: id.name.namespace, name: id.name.name)
        default: break
        }
    }
}

extension PodFacts {
    fileprivate init(_ pod: Pod) {
        self.init(
            namespace: pod.name.namespace, name: pod.name.name, uid: pod.uid ?? "",
            serviceAccount: pod.serviceAccount, node: pod.nodeName ?? "", hasEnded: pod.isFinished)
    }
}
