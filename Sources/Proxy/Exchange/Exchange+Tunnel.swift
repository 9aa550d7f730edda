/// Bytes in both directions, once the endpoint has agreed to an upgrade: WebSockets, whatever version of HTTP each side
/// speaks (RFC 6455, RFC 8441), and on HTTP/1 everything else.
import Balancing
import HTTP2Wire
import HTTPWire
import NIOCore
import RouteIR

extension Exchange {
    // MARK: WebSockets between versions

    /// Over HTTP/2 an upgrade is a tunnel that is not there yet: what the client sends meanwhile waits.
    var awaitsTunnel: Bool { form == .upgrade && speaksHTTP2 && !machine.isTunnel }

    /// Before the head is written: the endpoint speaks HTTP/2, which has no chunks, and of all upgrades this one.
    func sendsHTTP2ToEndpoint() {
        if form == .upgrade, speaksHTTP2 { return }
        let key = form == .upgrade ? bytes.withUnsafeReadableBytes { WebSocketHandshake.key(of: head, $0) } : nil
        target?.webSocketKey = key
        if key == nil { sendsHTTP2() }
    }

    /// Into `shard.edit`, behind the route's filters: HTTP/2 has no keys, so the proxy makes the one for an endpoint of
    /// HTTP/1.
    func editHandshake(for wire: Upstream.Wire) {
        bytes.withUnsafeReadableBytes { shard.edit.drop("http2-settings", in: head, $0) }
        guard wire == .h2c || speaksHTTP2 else { return }
        // What comes after it is no body.
        shard.edit.drop(.contentLength, in: head)
        bytes.withUnsafeReadableBytes { raw in
            shard.edit.drop("sec-websocket-key", in: head, raw)
            shard.edit.drop("sec-websocket-accept", in: head, raw)
        }
        guard wire == .http1 else { return }
        let key = WebSocketHandshake.key(using: &shard.random)
        target?.webSocketKey = key
        shard.edit.add("sec-websocket-key", key.utf8)
    }

    /// The same for the 101.
    func editHandshakeAnswer(_ answer: MessageHead, _ raw: UnsafeRawBufferPointer) {
        guard speaksHTTP2 || target?.head?.wire == .h2c else { return }
        shard.edit.drop("sec-websocket-accept", in: answer, raw)
        shard.edit.drop(.contentLength, in: answer)
        guard !speaksHTTP2, let key = target?.webSocketKey else { return }
        shard.edit.add("sec-websocket-accept", WebSocketHandshake.accept(for: key).utf8)
    }

    /// What is wrong with an endpoint's answer to the proxy's own key; nil: nothing, or it has not got one. To a client
    /// of HTTP/2 every 2xx says that the tunnel is there.
    func handshakeFault(_ answer: MessageHead, _ bytes: ByteBuffer) -> NoWebSocket? {
        guard speaksHTTP2, answer.status < 300, let key = target?.webSocketKey else { return nil }
        guard answer.status == 101 else { return .ignored(status: answer.status) }
        let isAccepted = bytes.withUnsafeReadableBytes { WebSocketHandshake.isAccepted(answer, $0, key: key) }
        return isAccepted ? nil : .badAnswer
    }

    func answer(_ failure: NoWebSocket) {
        record.failure = failure.reason
        reply(502, .upstreamProtocolError, "no_websocket{\(failure.reason)}", failure.sentence)
    }

    // MARK: The tunnel

    /// The client has the head.
    func openTunnel() {
        // The route's time is for an answer, and this was it.
        timers.request?.cancel()
        let early = body.pieces
        body.drop()
        machine.becameTunnel()
        for piece in early { machine.stream?.send(body: piece, isLast: false) }
        machine.stream?.flush()
        sink?.becameTunnel()
        if machine.stream?.isWritable == true { resumeRequest() } else { account() }
    }

    func tunnelBytes(_ piece: ByteBuffer) {
        record.bytesReceived += UInt64(piece.readableBytes)
        guard machine.isTunnel, let stream = machine.stream else {
            body.join(piece)
            return pauseRequest()
        }
        stream.send(body: piece, isLast: false)
        if !stream.isWritable { pauseRequest() }
    }

    /// The client sends no more.
    func clientEndedTunnel() {
        if machine.tunnelHalfEnded(.client) { machine.stream?.closeOutput() }
    }
    /// The endpoint sends no more.
    func upstreamEnded() {
        if machine.tunnelHalfEnded(.endpoint) { sink?.tunnelEnded() }
    }

    /// In order: it has sent and taken everything, and what it sent last may be on its way to the endpoint. Until that
    /// has left, too, the client's side keeps the exchange, and the account.
    func clientLeftTunnel(
        isInOrder: Bool = true, _ flag: ResponseFlags = .downstreamClosed,
        _ details: String = "downstream_remote_disconnect"
    ) {
        let remains = machine.tunnelLeft(.clientLeft) ?? (isInOrder ? nil : machine.tunnelEnded())
        guard let remains else { return account() }
        cutFlag(flag, details)
        endTunnel(remains)
    }
    func endpointLeftTunnel(_ failure: UpstreamFailure) {
        guard let remains = machine.tunnelLeft(.endpointLeft) else { return }
        switch failure {
        case .malformed(let fault):
            record.failure = fault.kind.rawValue
            cutFlag(.upstreamProtocolError, "upstream_protocol_error")
        default: cutFlag(.upstreamReset, "upstream_reset_after_response_started")
        }
        endTunnel(remains)
    }
    func cutFlag(_ flag: ResponseFlags, _ details: String) {
        guard machine.wasTunnelCut else { return }
        record.flags.insert(flag)
        record.details = details
    }

    func endTunnel(_ remains: ExchangeMachine<any UpstreamStream>.Remains) {
        let sink = sink
        end(remains, .success, cancels: true)
        if machine.wasTunnelCut {
            sink?.aborted(self)
        } else {
            sink?.finished(self, keepsAlive: false, trailers: nil)
        }
    }
}

extension NoWebSocket {
    /// For logs.
    var reason: String {
        switch self {
        case .notOffered: "extended_connect_not_offered"
        case .ignored: "upgrade_ignored"
        case .badAnswer: "bad_websocket_answer"
        }
    }
    fileprivate var sentence: String {
        switch self {
        case .notOffered: "the endpoint's HTTP/2 has no WebSockets (SETTINGS_ENABLE_CONNECT_PROTOCOL)"
        case .ignored(let status): "the endpoint answered \(status) and opened no WebSocket"
        case .badAnswer: "the endpoint's answer opens no WebSocket: Upgrade or Sec-WebSocket-Accept is wrong"
        }
    }
}
