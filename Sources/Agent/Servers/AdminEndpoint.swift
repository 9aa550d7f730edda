/// The admin socket: turns requests into questions for the control actor.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import Daemon
import DataplaneIR
import NodeControl
import Observation
import Synchronization

struct AdminEndpoint: Sendable {
    /// `/status` must answer even while a long write holds the actor: then with what the board has.
    private static let patience = Duration.milliseconds(500)

    let mailbox: Mailbox
    let board: StatusBoard
    let timers: ServerLoop
    let flows: FlowWatch

    @Sendable func respond(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        switch Self.question(request) {
        case .failure(let failure): reply(failureResponse(failure.error, status: 400))
        case .success(nil): reply(failureResponse("there is no \(request.path) here", status: 404))
        case .success(.some(.actor(.status))):
            let answer = firstOf(reply) { [board] in jsonResponse(board.status) }
            mailbox.send(.request(AdminRequest(question: .status, reply: answer)))
        case .success(.some(.observe(let from, let rate))):
            flows.send(
                .events(from: from, rate: rate) { result in
                    name(result.map { .events($0) }, reply)
                })
        case .success(.some(.traffic)):
            flows.send(.traffic { result in name(result.map { .totals($0) }, reply) })
        case .success(.some(.actor(let question))):
            mailbox.send(.request(AdminRequest(question: question, reply: reply)))
        }
    }

    /// What to answer with: `otherwise` goes out when the actor is busy.
    private func firstOf(
        _ reply: @escaping @Sendable (HTTPResponse) -> Void, otherwise: @escaping @Sendable () -> HTTPResponse
    ) -> @Sendable (HTTPResponse) -> Void {
        let once = Once(reply)
        let timer = timers.schedule(after: Self.patience) { once.reply(otherwise()) }
        return { response in
            timer.cancel()
            once.reply(response)
        }
    }

    /// What was seen of traffic goes by way of the actor, which knows names.
    private func name(
        _ result: Result<SeenTraffic, DataplaneError>, _ reply: @escaping @Sendable (HTTPResponse) -> Void
    ) {
        switch result {
        case .success(let seen):
            let answer = firstOf(reply) { seen.response }
            mailbox.send(.name(seen) { answer($0.response) })
        case .failure(let error): reply(failureResponse(error.description, status: 500))
        }
    }

    /// Whom a request is for.
    enum Asked {
        case actor(AdminRequest.Question)
        /// Those who look at traffic.
        case observe(from: UInt64?, rate: UInt32)
        case traffic
    }

    static func question(_ request: HTTPRequest) -> Result<Asked?, AdminFailure> {
        let query = request.query
        switch request.path {
        case AdminPath.status: return .success(.actor(.status))
        case AdminPath.services: return .success(.actor(.services))
        case AdminPath.capacity: return .success(.actor(.capacity))
        case AdminPath.desired: return .success(.actor(.desired))
        case AdminPath.backends: return .success(.actor(.backends))
        case AdminPath.verify: return .success(.actor(.verify(repair: query["repair"] == "true")))
        case AdminPath.endpoints:
            let parts = (query["service"] ?? "").split(separator: "/").map(String.init)
            guard parts.count == 2 else { return .failure(AdminFailure("pass service=NAMESPACE/NAME")) }
            return .success(.actor(.endpoints(ObjectName(parts[0], parts[1]))))
        case AdminPath.explain:
            guard let from = query["from"], let to = SocketAddress(query["to"] ?? "") else {
                return .failure(AdminFailure("pass from=IP or from=NAMESPACE/POD, and to=IP:PORT"))
            }
            var flow = FlowQuestion(from: from, to: to)
            flow.transport = query["protocol"] ?? flow.transport
            flow.interface = query["interface"]
            if query["method"] != nil || query["path"] != nil || query["header"] != nil {
                flow.request = ExplainedRequest(
                    method: query["method"] ?? "GET", target: query["path"] ?? "/", headers: query["header"] ?? "")
            }
            return .success(.actor(.explain(flow)))
        case AdminPath.routes: return .success(.actor(.routes))
        case AdminPath.mesh: return .success(.actor(.mesh))
        case AdminPath.policy: return .success(.actor(.policy))
        case AdminPath.observe:
            return .success(
                .observe(from: query["from"].flatMap { UInt64($0) }, rate: UInt32(query["rate"] ?? "") ?? 1000))
        case AdminPath.traffic: return .success(.traffic)
        case AdminPath.proxy:
            guard let what = query["what"], !what.isEmpty else { return .failure(AdminFailure("pass what=config")) }
            return .success(.actor(.proxy(what)))
        default: return .success(nil)
        }
    }
}

/// Lets only the first answer through.
private final class Once: Sendable {
    private let target: Mutex<(@Sendable (HTTPResponse) -> Void)?>

    init(_ target: @escaping @Sendable (HTTPResponse) -> Void) { self.target = Mutex(target) }
    func reply(_ response: HTTPResponse) {
        let target = target.withLock { $0.take() }
        target?(response)
    }
}

extension SeenTraffic {
    fileprivate var response: HTTPResponse {
        switch self {
        case .events(let events): jsonResponse(events)
        case .totals(let report): jsonResponse(report)
        }
    }
}
