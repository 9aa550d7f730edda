/// Has signed what the proxy asks for, and tells it whom to believe. Only identities of pods that are enrolled on this
/// node get a certificate: whoever takes over the proxy gets no other.
import AuthorityClient
import CertificateAuthority
import HandOver
import Logging
import RouteIR
import Synchronization

final class CertificateDesk: Sendable {
    private let source: any CertificateSource
    private let log: Logger
    private let allowed = Mutex<Set<WorkloadIdentity>>([])
    private typealias Asked = (question: CertificateQuestion, reply: @Sendable (CertificateAnswer) -> Void)
    private let asked: AsyncStream<Asked>
    private let put: AsyncStream<Asked>.Continuation

    init(_ source: any CertificateSource, log: Logger) {
        (self.source, self.log) = (source, log)
        // More than all proxies together may have open.
        (asked, put) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(1024))
    }

    /// Answers, and tells the roots, until the task is cancelled.
    func run(tellRoots: @escaping @Sendable ([String]) -> Void) async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.watchRoots(tellRoots) }
            for await (question, reply) in asked {
                group.addTask { reply(await self.answer(question)) }
            }
        }
    }

    /// What the proxy is told, before it is.
    func publish(_ snapshot: ProxySnapshot) {
        let identities = snapshot.identities
        allowed.withLock { $0 = identities }
    }

    @Sendable func certify(_ question: CertificateQuestion, _ reply: @escaping @Sendable (CertificateAnswer) -> Void) {
        put.yield((question, reply))
    }

    private func answer(_ question: CertificateQuestion) async -> CertificateAnswer {
        let id = question.id
        guard let identity = WorkloadIdentity(question.identity), allowed.withLock({ $0.contains(identity) }) else {
            return CertificateAnswer(
                id: id, problem: "\(shown(question.identity)) is the identity of no enrolled pod of this node")
        }
        do throws(CertificateFault) {
            let chain = try await source.certificate(csr: question.request, for: identity)
            return CertificateAnswer(id: id, chain: chain, roots: try source.roots())
        } catch {
            return CertificateAnswer(id: id, problem: error.description)
        }
    }

    /// Tells the roots, now and when they change.
    func watchRoots(every pause: Duration = .seconds(5), _ publish: @Sendable ([String]) -> Void) async {
        var (known, problem): ([String], String?) = ([], nil)
        while !Task.isCancelled {
            do throws(CertificateFault) {
                let roots = try source.roots()
                if roots != known { publish(roots) }
                (known, problem) = (roots, nil)
            } catch {
                if problem != error.description { log.error("no roots to believe: \(error)") }
                problem = error.description
            }
            try? await Task.sleep(for: pause)
        }
    }
}
