/// The admin socket: turns requests into questions for the control actor.
import AdminAPI
import AdminServer
import Addressing
import Cluster
import Synchronization

struct AdminEndpoint: Sendable {
    /// `/status` must answer even while a long write holds the actor: then with what the board has.
    private static let patience = Duration.milliseconds(500)

    let mailbox: Mailbox
    let board: StatusBoard
    let timers: ServerLoop

    @Sendable func respond(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        switch Self.question(request) {
        case .failure(let failure): reply(failureResponse(failure.error, status: 400))
        case .success(nil): reply(failureResponse("there is no \(request.path) here", status: 404))
        case .success(.some(.status)):
            let once = Once(reply)
            let timer = timers.schedule(after: Self.patience) { [board] in once.reply(jsonResponse(board.status)) }
            mailbox.send(
                .request(
                    AdminRequest(question: .status) { response in
                        timer.cancel()
                        once.reply(response)
                    }))
        case .success(.some(let question)):
            mailbox.send(.request(AdminRequest(question: question, reply: reply)))
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
