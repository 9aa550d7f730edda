/// Tries: choosing an endpoint, getting a connection, and what happens when it comes to nothing (spec 6.3).
import Addressing
import Balancing
import HTTPWire
import NIOCore
import RouteIR

extension Exchange {
    /// Without a policy of the route only what no backend can have seen is tried again.
    private static let defaultRetry = RetryPolicy(attempts: 2, classes: .neverSent)
    private var retryPolicy: RetryPolicy { plan?.rule.retry ?? Self.defaultRetry }

    /// Whether bytes of the body need to be kept.
    var mayTryAgainLater: Bool {
        // An endpoint that speaks HTTP/2 may say after the fact that it did nothing with a request.
        let mayBeRefused = cluster?.cluster.wire == .h2c
        return !isMirror && !isUpgrade && (plan?.rule.retry != nil || mayBeRefused)
            && record.attempts <= retryPolicy.attempts
    }

    /// `isFirst`: it has waited, and its turn has come.
    func attempt(isFirst: Bool = false) {
        guard let cluster, !isFinished else { return }
        guard cluster.load.mayRequest(cluster.policy) else { return overflow() }
        guard let host = cluster.pick(hash: hash, tried: tried) else {
            return reply(503, .noHealthyUpstream, "no_healthy_upstream", "\(cluster.id) has no ready endpoint")
        }
        guard isFirst || !cluster.hasWaiting else {
            if !cluster.wait(self) { overflow() }
            return
        }
        if cluster.cluster.wire == .h2c { return openStream(host, cluster, isFirst) }
        // Where one idle connection was closed under a request, the others are likely to go as well.
        if !hasRetriedReuse, let connection = cluster.takeIdle(host) {
            begin(host)
            isReused = true
            send(on: connection)
        } else if cluster.load.mayConnect(cluster.policy) {
            begin(host)
            isReused = false
            cluster.connect(host, for: self)
        } else if let other = cluster.anyIdleHost(), let connection = cluster.takeIdle(other) {
            begin(other)
            isReused = true
            send(on: connection)
        } else if !cluster.wait(self, isFirst: isFirst) {
            overflow()
        }
    }

    /// On a connection that has room, else on a new one, else when there is room again.
    private func openStream(_ host: ClusterBalancer.HostID, _ cluster: ClusterState, _ isFirst: Bool) {
        if let connection = cluster.http2(host) ?? cluster.connectHTTP2(host) ?? cluster.anyHTTP2() {
            begin(connection.host)
            isReused = connection.served > 0
            connection.serve(self)
        } else if !cluster.wait(self, isFirst: isFirst) {
            overflow()
        }
    }

    /// The cluster has room for a connection again.
    func connectionIsFree() { attempt(isFirst: true) }

    private func overflow() {
        shard.stats.overflows += 1
        reply(503, .overflow, "overflow", nil, headers: [("x-envoy-overloaded", "true")])
    }

    private func begin(_ host: ClusterBalancer.HostID) {
        guard let cluster else { return }
        self.host = host
        tried.append(host)
        record.attempts += 1
        attemptBegan = shard.now
        let address = cluster.balancer.hosts[host].endpoint.address
        record.upstream = address
        record.destination = table.workload(at: address.address)
        cluster.began(host)
        if let timeout = plan?.rule.timeouts.backendRequest {
            attemptTimer = schedule(timeout) { $0.timedOut(isAttempt: true) }
        }
    }

    // MARK: The connection

    func connected(_ connection: any UpstreamStream) {
        // While it was being made the request may have ended, or timed out and gone elsewhere.
        guard !isFinished, let host, host == connection.host, upstream == nil,
            cluster?.balancer.hosts[host].endpoint.address == connection.address
        else {
            connection.release()
            return
        }
        send(on: connection)
    }

    func connectFailed(_ failure: Connector.Failure, _ host: ClusterBalancer.HostID) {
        guard !isFinished, upstream == nil, self.host == host else { return }
        failed(.unreachable(failure))
    }

    private func send(on connection: any UpstreamStream) {
        upstream = connection
        record.upstreamLocal = connection.link?.local
        connection.begin(self)
        let hasBody = head.requestBody != .none
        connection.send(head: upstreamHead, isLast: !hasBody)
        let endsApart = hasBody && isRequestComplete && (requestTrailers != nil || replay.isEmpty)
        for (index, piece) in replay.enumerated() {
            let isLast = isRequestComplete && !endsApart && index == replay.count - 1
            connection.send(body: piece, isLast: isLast)
        }
        if endsApart { connection.endBody(trailers: requestTrailers) }
        connection.flush()
        if !mayTryAgainLater, !replay.isEmpty { dropReplay() }
        resumeRequest()
    }

    // MARK: Failures

    func upstreamFailed(_ failure: UpstreamFailure) {
        guard !isFinished else { return }
        failed(failure)
    }

    func timedOut(isAttempt: Bool) {
        if isAttempt, !hasResponse { return failed(.timeout) }
        record.flags.insert(.upstreamTimeout)
        if hasResponse { return abort(.upstreamTimeout, "response_timeout", .connectionFailure) }
        endAttempt(.connectionFailure, cancels: true)
        reply(504, .upstreamTimeout, "response_timeout", "no answer within the time of the route")
    }

    private func failed(_ failure: UpstreamFailure) {
        if isTunnel { return endTunnel() }
        if hasResponse { return abortAnswer(failure) }
        if case .unsendable(let violation) = failure {
            record.failure = violation.detail.rawValue
            return reply(431, [], "request_headers_too_large", "more headers than the endpoint's HTTP/2 takes")
        }
        let hasAnswered = upstream?.hasAnswered == true
        // Nobody has seen it: no connection came to be, or the endpoint says so itself and has not shown otherwise.
        let isUntouched: Bool
        switch failure {
        case .unreachable: isUntouched = true
        case .refused: isUntouched = !hasAnswered
        default: isUntouched = false
        }
        // The upstream has let go of it where it has ended by itself.
        let cancels: Bool
        switch failure {
        case .timeout, .violation: cancels = true
        default: cancels = false
        }
        endAttempt(.connectionFailure, cancels: cancels)
        // A server may close an idle connection while a request is on its way. It may as well have read it, so this is
        // for what may be done twice (RFC 9110, 9.2.2), and a try like any other.
        if case .closed = failure, isReused, !hasAnswered, !hasRetriedReuse, method.isIdempotent, mayTryAgain {
            hasRetriedReuse = true
            tried.removeLast()
            return attempt()
        }
        if mayRetry(isUntouched: isUntouched) { return retry() }
        markExhausted()
        answer(failure)
    }

    private func answer(_ failure: UpstreamFailure) {
        switch failure {
        case .unreachable(let failure):
            record.failure = failure.reason
            let details =
                "upstream_reset_before_response_started{connection_\(failure.isTimeout ? "timeout" : "failure")}"
            reply(503, .connectFailure, details, "the endpoint cannot be reached")
        case .refused:
            let details = "upstream_reset_before_response_started{remote_refused_stream_reset}"
            reply(503, .upstreamReset, details, "the endpoint refused the request")
        case .closed, .reset:
            let details = "upstream_reset_before_response_started{connection_termination}"
            reply(503, .upstreamClosed, details, "the endpoint closed the connection without an answer")
        case .violation(let violation), .unsendable(let violation):
            record.failure = violation.detail.rawValue
            reply(502, .upstreamProtocolError, "upstream_protocol_error", "the endpoint's answer is not HTTP")
        case .timeout:
            reply(504, .upstreamTimeout, "upstream_per_try_timeout", "no answer within the time of a try")
        }
    }

    private func abortAnswer(_ failure: UpstreamFailure) {
        switch failure {
        case .violation(let violation):
            record.failure = violation.detail.rawValue
            abort(.upstreamProtocolError, "upstream_protocol_error", .connectionFailure)
        default: abort(.upstreamReset, "upstream_reset_after_response_started", .connectionFailure)
        }
    }

    private func markExhausted() {
        if plan?.rule.retry != nil, record.attempts > retryPolicy.attempts { record.flags.insert(.retriesExhausted) }
    }

    // MARK: Retries

    /// There is a try left, and everything to send again.
    private var mayTryAgain: Bool { !isMirror && canReplay && record.attempts <= retryPolicy.attempts }

    private func mayRetry(isUntouched: Bool) -> Bool {
        let policy = retryPolicy
        guard mayTryAgain, let cluster, sink != nil, cluster.load.mayRetry(cluster.policy.retryBudget) else {
            return false
        }
        if isUntouched, policy.classes.contains(.neverSent) { return true }
        return policy.classes.contains(method.isIdempotent ? .idempotent : .nonIdempotent)
    }

    /// Whether this answer is to be thrown away for another try.
    func shouldRetry(_ status: UInt16) -> Bool {
        guard let policy = plan?.rule.retry, policy.codes.contains(status), !isTunnel else { return false }
        if mayRetry(isUntouched: false) { return true }
        markExhausted()
        return false
    }

    func retry() {
        shard.stats.retries += 1
        isRetryCounted = true
        cluster?.load.retryBegan()
        let pause = retryPolicy.pause(before: record.attempts, using: &shard.random)
        // The first retry without a policy goes at once: nothing was sent, so nobody is being overrun.
        guard plan?.rule.retry != nil || record.attempts > 1 else { return attempt() }
        retryTimer = schedule(pause) { $0.attempt() }
    }
}
