/// The admin socket: turns requests into questions for the control actor.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import DataplaneIR
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
        case .success(.some(.status)):
            ask(.status, reply) { [board] in jsonResponse(board.status) }
        case .success(.some(.observe(let from, let rate))):
            flows.send(
                .events(from: from, rate: rate) { result in
                    name(result, reply) { .observed($0) }
                })
        case .success(.some(.traffic)):
            flows.send(.traffic { result in name(result, reply) { .nameTraffic($0) } })
        case .success(.some(let question)):
            mailbox.send(.request(AdminRequest(question: question, reply: reply)))
        }
    }

    /// `otherwise`: the answer when the actor is busy.
    private func ask(
        _ question: AdminRequest.Question, _ reply: @escaping @Sendable (HTTPResponse) -> Void,
        otherwise: @escaping @Sendable () -> HTTPResponse
    ) {
        let once = Once(reply)
        let timer = timers.schedule(after: Self.patience) { once.reply(otherwise()) }
        mailbox.send(
            .request(
                AdminRequest(question: question) { response in
                    timer.cancel()
                    once.reply(response)
                }))
    }

    /// What was seen of traffic goes by way of the actor, which knows names.
    private func name<Seen: Encodable & Sendable>(
        _ result: Result<Seen, DataplaneError>, _ reply: @escaping @Sendable (HTTPResponse) -> Void,
        _ question: (Seen) -> AdminRequest.Question
    ) {
        switch result {
        case .success(let seen): ask(question(seen), reply) { jsonResponse(seen) }
        case .failure(let error): reply(failureResponse(error.description, status: 500))
        }
    }

    static func question(_ request: HTTPRequest) -> Result<AdminRequest.Question?, AdminFailure> {
        let query = request.query
        switch request.path {
        case AdminPath.status: return .success(.status)
        case AdminPath.services: return .success(.services)
        case AdminPath.capacity: return .success(.capacity)
        case AdminPath.desired: return .success(.desired)
        case AdminPath.backends: return .success(.backends)
        case AdminPath.verify: return .success(.verify(repair: query["repair"] == "true"))
        case AdminPath.endpoints:
            let parts = (query["service"] ?? "").split(separator: "/").map(String.init)
            guard parts.count == 2 else { return .failure(AdminFailure("pass service=NAMESPACE/NAME")) }
            return .success(.endpoints(ObjectName(parts[0], parts[1])))
        case AdminPath.explain:
            guard let from = query["from"], let to = SocketAddress(query["to"] ?? "") else {
                return .failure(AdminFailure("pass from=IP or from=NAMESPACE/POD, and to=IP:PORT"))
            }
            var flow = AdminRequest.FlowQuestion(from: from, to: to)
            flow.transport = query["protocol"] ?? flow.transport
            flow.interface = query["interface"]
            if query["method"] != nil || query["path"] != nil || query["header"] != nil {
                flow.request = ExplainedRequest(
                    method: query["method"] ?? "GET", target: query["path"] ?? "/", headers: query["header"] ?? "")
            }
            return .success(.explain(flow))
        case AdminPath.routes: return .success(.routes)
        case AdminPath.observe:
            return .success(
                .observe(from: query["from"].flatMap { UInt64($0) }, rate: UInt32(query["rate"] ?? "") ?? 1000))
        case AdminPath.traffic: return .success(.traffic)
        case AdminPath.proxy:
            guard let what = query["what"], !what.isEmpty else { return .failure(AdminFailure("pass what=config")) }
            return .success(.proxy(what))
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
