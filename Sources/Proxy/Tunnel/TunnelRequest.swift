/// One CONNECT on its way: it waits for a certificate, for a connection, and for the answer, all within one time.
import Balancing
import HTTP2Wire
import NIOCore

final class TunnelRequest {
    let route: TunnelRoute
    /// The head.
    let fields: FieldList
    /// Who gets the stream, with what is known of the connection; nil: it was answered, or is not wanted any more.
    private var then: ((Result<ClientTunnelStream, TunnelRefusal>) -> Void)?
    /// Its stream, until the answer.
    private var stream: ClientTunnelStream?
    private var timer: Scheduled<Void>?
    var awaitsCertificate = false
    /// A server that leaves may turn it away, once, before it has looked at it.
    private var mayRepeat = true

    init(_ route: TunnelRoute, _ fields: FieldList, then: @escaping (Result<ClientTunnelStream, TunnelRefusal>) -> Void)
    {
        (self.route, self.fields, self.then) = (route, fields, then)
    }

    var isOver: Bool { then == nil }

    func limit(to time: Duration, on shard: Shard) {
        timer = shard.loop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64(clamping: time.wholeNanoseconds))) {
            [weak self] in
            guard let self else { return }
            self.finish(.failure(self.lateness(time)))
        }
    }
    private func lateness(_ time: Duration) -> TunnelRefusal {
        guard !awaitsCertificate else {
            return TunnelRefusal(
                .identity, "no certificate for \(route.source.identity) within \(time): see agentctl certificates")
        }
        return TunnelRefusal(
            .connect, "no tunnel within \(time): maybe a NetworkPolicy blocks port \(Tunnel.port)")
    }
    func began(_ stream: ClientTunnelStream) { self.stream = stream }
    /// True: nothing came of it yet, and it may begin anew.
    func repeats() -> Bool {
        defer { mayRepeat = false }
        stream = nil
        return mayRepeat && !isOver
    }

    func finish(_ result: Result<ClientTunnelStream, TunnelRefusal>) {
        guard let then else { return }
        self.then = nil
        timer?.cancel()
        let stream = stream
        self.stream = nil
        if case .failure = result { stream?.abandon(.cancel) }
        then(result)
    }
    /// Nobody waits for it any more.
    func cancel() {
        then = nil
        timer?.cancel()
        stream?.abandon(.cancel)
        stream = nil
    }
}

/// Of a client's side: first the answer, then bytes.
final class ClientTunnelStream: TunnelStream {
    private var request: TunnelRequest?
    /// Also when the stream is none of its any more: it knows why.
    private let tunnel: TunnelClient
    /// Our end of the connection.
    private(set) var link: Connector.Link?

    init(_ request: TunnelRequest, on tunnel: TunnelClient, _ link: Connector.Link) {
        self.request = request
        self.link = link
        self.tunnel = tunnel
        super.init(0, on: tunnel)
        request.began(self)
    }

    /// Its tunnel takes no new streams any more.
    var isLeaving: Bool { !isOver && tunnel.isDraining }

    override func receivedHead(_ facts: HeadFacts, isLast: Bool) {
        guard let request else { return }
        self.request = nil
        guard facts.status < 300 else {
            reset(.cancel)
            return request.finish(.failure(Self.refusal(facts.status)))
        }
        request.finish(.success(self))
        if isLast { user?.inputEnded() }
    }
    private static func refusal(_ status: UInt16) -> TunnelRefusal {
        switch status {
        case 401, 403:
            TunnelRefusal(.policy, "the server's node answered \(status): the pod's policies do not let this client in")
        case 503: TunnelRefusal(.application, "the server's node answered 503: nobody listens on that port")
        default: TunnelRefusal(.badRequest, "the server's node answered \(status) to CONNECT")
        }
    }

    override func wasReset(_ cause: HTTP2Reset) {
        guard let request else { return super.wasReset(cause) }
        self.request = nil
        switch cause {
        case .refused, .leaving: if request.repeats() { return tunnel.pool.again(request) }
        case .byPeer, .violation, .connectionClosed: break
        }
        request.finish(.failure(tunnel.lastRefusal ?? TunnelRefusal(.connect, "the server's node \(cause.sentence)")))
    }
    override func abandon(_ code: HTTP2Code) {
        request = nil
        super.abandon(code)
    }
}
