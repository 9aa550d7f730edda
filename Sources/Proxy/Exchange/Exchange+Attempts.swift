/// Tries: choosing an endpoint, getting a connection, and what happens when it comes to nothing (spec 6.3).
import Addressing
import Balancing
import HTTP2Wire
import HTTPWire
import NIOCore
import RouteIR

extension Exchange {
    /// Without a policy of the route only what no backend can have seen is tried again.
    private static let defaultRetry = RetryPolicy(attempts: 2, classes: .neverSent)
    var retryPolicy: RetryPolicy { plan?.rule.retry ?? Self.defaultRetry }

    /// Whether bytes of the body need to be kept.
    var mayTryAgainLater: Bool {
        // An endpoint that speaks HTTP/2 may say after the fact that it did nothing with a request.
        let mayBeRefused = target?.head?.wire == .h2c
        return !isMirror && form != .upgrade && (plan?.rule.retry != nil || mayBeRefused)
            && machine.tries.isAnotherLeft
    }

    /// `isFirst`: it has waited, and its turn has come.
    func attempt(isFirst: Bool = false) {
        guard let pool = target?.pool, machine.mayBegin else { return }
        guard pool.upstream.wire == target?.head?.wire else {
            return reply(503, .noUpstream, "protocol_changed", "\(pool.id) speaks another protocol by now")
        }
        guard pool.load.mayRequest(pool.policy) else { return overflow() }
        guard let host = pick(from: pool) else {
            return reply(503, .noHealthyUpstream, "no_healthy_upstream", "\(pool.id) has no ready endpoint")
        }
        guard isFirst || !pool.hasWaiting else { return wait(in: pool) }
        let isAwaited = shard.table.waits(arrival.peer.address, for: pool.isUnknown(host))
        guard !isAwaited || !waitsForPod() else { return }
        let way = way(to: host, in: pool)
        // Where there must be a tunnel and can be none, no other's plaintext will do.
        let mayReuse = if case .none = way { false } else { machine.tries.mayReuse }
        if pool.upstream.wire == .h2c { return openStream(host, way, pool, isFirst) }
        if mayReuse, let connection = pool.takeIdle(host, by: way.route) {
            begin(host, in: pool, isReused: true)
            send(on: connection)
        } else if pool.load.mayConnect(pool.policy) {
            begin(host, in: pool, isReused: false)
            pool.connect(host, by: traced(way), for: self)
        } else if let other = pool.anyIdleHost({ mayShare($0.route, $0.host, pool) }),
            let connection = pool.takeIdle(other, by: self.way(to: other, in: pool).route)
        {
            begin(other, in: pool, isReused: true)
            send(on: connection)
        } else {
            wait(in: pool, isFirst: isFirst)
            // What it waits for may be held by connections that only others can use.
            if table.isInMesh, machine.isQueued { _ = pool.closeAnyIdle() }
        }
    }

    /// One whose pod is known, if there is any.
    private func pick(from pool: UpstreamPool) -> EndpointBalancer.HostID? {
        let table = shard.table
        return pool.pick(hash: target?.hash, tried: machine.tries.failed) {
            table.waits(arrival.peer.address, for: pool.isUnknown($0))
        }
    }
    /// False: long enough.
    private func waitsForPod() -> Bool {
        guard shard.now.since(waitsForPodSince ?? shard.now) < Tunnel.podPatience else { return false }
        waitsForPodSince = waitsForPodSince ?? shard.now
        timers.pause = shard.loop.assumeIsolated().scheduleTask(in: Tunnel.podPause) { [weak self] in
            if let self, !self.machine.isOver { self.attempt() }
        }
        return true
    }

    /// In the mesh it depends on who asks, and on the configuration in force: pods become known.
    private func way(to host: EndpointBalancer.HostID, in pool: UpstreamPool) -> Way {
        let table = shard.table
        guard table.isInMesh else { return .plain }
        return table.way(
            from: arrival.peer.address, to: pool.balancer.hosts[host].endpoint.address,
            pool.workload(of: host, in: table), isUnknown: pool.isUnknown(host),
            service: service?.service.id.hostname)
    }
    /// With the trace of the request that a connection is made for.
    private func traced(_ way: Way) -> Way {
        guard case .tunnel(let route, var caller) = way else { return way }
        caller.trace = record.trace ?? callersTrace?.asItCame
        return .tunnel(route, caller)
    }
    private func mayShare(_ route: TunnelRoute?, _ host: EndpointBalancer.HostID, _ pool: UpstreamPool) -> Bool {
        switch way(to: host, in: pool) {
        case .none: false
        case let way: way.route == route
        }
    }

    /// On a connection that has room, else on a new one, else when there is room again.
    private func openStream(_ host: EndpointBalancer.HostID, _ way: Way, _ pool: UpstreamPool, _ isFirst: Bool) {
        let known = if case .none = way { nil as HTTP2Upstream? } else { pool.http2(host, by: way.route) }
        if let connection = known ?? pool.connectHTTP2(host, by: traced(way))
            ?? pool.anyHTTP2({ mayShare($0.route, $0.host, pool) })
        {
            begin(connection.host, in: pool, isReused: connection.served > 0)
            connection.serve(self)
        } else {
            wait(in: pool, isFirst: isFirst)
        }
    }

    private func wait(in pool: UpstreamPool, isFirst: Bool = false) {
        guard pool.wait(self, isFirst: isFirst) else { return overflow() }
        machine.queue()
    }
    /// The pool may have room for it.
    func turnCame() {
        machine.unqueue()
        attempt(isFirst: true)
    }

    private func overflow() {
        shard.stats.overflows += 1
        reply(503, .overflow, "overflow", nil, headers: [("x-envoy-overloaded", "true")])
    }

    private func begin(_ host: EndpointBalancer.HostID, in pool: UpstreamPool, isReused: Bool) {
        machine.begin(host, isReused: isReused, now: shard.now)
        let address = pool.balancer.hosts[host].endpoint.address
        record.upstream = address
        record.destination = pool.workload(of: host, in: table)
        pool.began(host)
        if let timeout = plan?.rule.timeouts.backendRequest {
            timers.attempt = schedule(timeout) { $0.failed(.timeout) }
        }
    }

    // MARK: The connection

    func connected(_ connection: any UpstreamStream) {
        pending = nil
        send(on: connection)
    }

    func connectFailed(_ failure: Connector.Failure, _ host: EndpointBalancer.HostID) {
        pending = nil
        if machine.isConnecting(to: host) { failed(.unreachable(failure)) }
    }

    /// The same for what the endpoint's connection has not got.
    func cannotServe(_ failure: NoWebSocket, _ host: EndpointBalancer.HostID) {
        pending = nil
        if machine.isConnecting(to: host) { failed(.noWebSocket(failure)) }
    }

    private func send(on connection: any UpstreamStream) {
        guard let head = target?.head, machine.connected(connection, to: connection.host) else {
            return connection.release()
        }
        record.upstreamLocal = connection.link?.local
        record.isMutual = connection.link?.isTunnel == true
        connection.begin(self)
        let hasBody = self.head.requestBody != .none
        connection.send(head: head, isLast: !hasBody && form != .upgrade)
        if hasBody { sendKeptBody(on: connection) }
        connection.flush()
        // The kernel may have had news of the connection's end: what is kept is for the next one then.
        guard machine.stream === connection else { return }
        if hasBody, !mayTryAgainLater, body.held > 0 { body.drop() }
        resumeRequest()
    }
    private func sendKeptBody(on connection: any UpstreamStream) {
        let isComplete = machine.isRequestComplete
        let endsApart = isComplete && (body.trailers != nil || body.pieces.isEmpty)
        for (index, piece) in body.pieces.enumerated() {
            connection.send(body: piece, isLast: isComplete && !endsApart && index == body.pieces.count - 1)
        }
        if endsApart { connection.endBody(trailers: body.trailers) }
    }

    // MARK: Failures

    /// The route's time for the whole request is over.
    func timedOut() {
        switch machine.exit {
        case .reply:
            reply(
                504, .upstreamTimeout, "response_timeout", "no answer within the time of the route",
                outcome: .connectionFailure)
        case .abort: abort(.upstreamTimeout, "response_timeout", .connectionFailure)
        case .endTunnel, .none: break
        }
    }

    func failed(_ failure: UpstreamFailure) {
        let hasAnswered = machine.stream?.hasAnswered == true
        switch machine.failed(failure, hasAnswered: hasAnswered, canRepeat: body.isWhole && !isMirror) {
        case .ignored: break
        case .tunnelEnded: endpointLeftTunnel(failure)
        case .answerCut: abortAnswer(failure)
        case .unsendable: answer(failure)
        case .tryEnded(let remains, let next):
            // The upstream has let go of it where it has ended by itself.
            let cancels: Bool
            switch failure {
            case .timeout, .violation, .unwanted, .noWebSocket: cancels = true
            case .unreachable, .refused, .leaving, .reset, .closed, .unsendable, .malformed: cancels = false
            }
            giveBack(remains, outcome(of: failure), cancels: cancels)
            switch next {
            case .again: attempt()
            case .retry where mayRetryNow: retry()
            case .retry, .reply:
                markExhausted()
                answer(failure)
            }
        }
    }

    /// What a failed try says of its endpoint.
    private func outcome(of failure: UpstreamFailure) -> RequestOutcome? {
        switch failure {
        case .unwanted(_, let status), .noWebSocket(.ignored(let status)): RequestOutcome(status: status)
        // What it cannot do, or an end in order, is no sign of bad health.
        case .noWebSocket(.notOffered), .leaving: nil
        case .unreachable(let failure) where failure.isDenied: nil
        default: .connectionFailure
        }
    }

    private func answer(_ failure: UpstreamFailure) {
        switch failure {
        case .unreachable(let failure) where failure.isDenied:
            record.failure = failure.reason
            reply(403, [], "rbac_access_denied", "the endpoint's policies do not let this client in")
        case .unreachable(let failure):
            record.failure = failure.reason
            let details =
                "upstream_reset_before_response_started{connection_\(failure.isTimeout ? "timeout" : "failure")}"
            reply(503, .connectFailure, details, "the endpoint cannot be reached")
        case .refused, .leaving:
            let details = "upstream_reset_before_response_started{remote_refused_stream_reset}"
            reply(503, .upstreamReset, details, "the endpoint refused the request")
        case .closed, .reset:
            let details = "upstream_reset_before_response_started{connection_termination}"
            reply(503, .upstreamClosed, details, "the endpoint closed the connection without an answer")
        case .unsendable(let violation):
            record.failure = violation.detail.rawValue
            guard violation.status == 431 else {
                return reply(502, [], "request_not_sendable", "the route makes of it what HTTP/2 cannot say")
            }
            reply(431, [], "request_headers_too_large", "more headers than the endpoint's HTTP/2 takes")
        case .violation(let violation):
            record.failure = violation.detail.rawValue
            reply(502, .upstreamProtocolError, "upstream_protocol_error", "the endpoint's answer is not HTTP")
        case .unwanted(let violation, _):
            record.failure = violation.detail.rawValue
            reply(502, [], "response_headers_too_large", "the answer has more headers than the client takes")
        case .malformed(let fault):
            record.failure = fault.kind.rawValue
            reply(502, .upstreamProtocolError, "upstream_protocol_error", "the endpoint's answer is not HTTP/2")
        case .noWebSocket(let failure): answer(failure)
        case .timeout:
            reply(504, .upstreamTimeout, "upstream_per_try_timeout", "no answer within the time of a try")
        }
    }

    private func abortAnswer(_ failure: UpstreamFailure) {
        switch failure {
        case .violation(let violation):
            record.failure = violation.detail.rawValue
            abort(.upstreamProtocolError, "upstream_protocol_error", .connectionFailure)
        case .malformed(let fault):
            record.failure = fault.kind.rawValue
            abort(.upstreamProtocolError, "upstream_protocol_error", .connectionFailure)
        default: abort(.upstreamReset, "upstream_reset_after_response_started", .connectionFailure)
        }
    }

    private func markExhausted() {
        if plan?.rule.retry != nil, !machine.tries.isAnotherLeft { record.flags.insert(.retriesExhausted) }
    }

    // MARK: Retries

    private var mayRetryNow: Bool { target.map { $0.pool.load.mayRetry($0.pool.policy.retryBudget) } ?? false }

    /// Whether this answer is to be thrown away for another try.
    func shouldRetry(_ status: UInt16) -> Bool {
        guard let policy = plan?.rule.retry, policy.codes.contains(status) else { return false }
        if body.isWhole, machine.tries.mayRetry(isUntouched: false), mayRetryNow { return true }
        markExhausted()
        return false
    }

    func retry() {
        shard.stats.retries += 1
        machine.retry()
        target?.pool.load.retryBegan()
        let pause = retryPolicy.pause(before: machine.tries.count, using: &shard.random)
        // The first retry without a policy goes at once: nothing was sent, so nobody is being overrun.
        guard plan?.rule.retry != nil || machine.tries.count > 1 else { return attempt() }
        timers.pause = schedule(pause) { $0.attempt() }
    }
}
