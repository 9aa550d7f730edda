/// The answer on its way back, and answers of the proxy's own.
import Balancing
import HTTPWire
import NIOCore
import RouteIR

extension Exchange {
    // MARK: From the upstream

    /// 100 or 103: passed on, unless the client is too old to know them.
    func interimHead(_ interim: MessageHead, _ bytes: ByteBuffer) {
        guard head.minorVersion >= 1, !isFinished else { return }
        sink?.write(editedInterim(interim, bytes))
        sink?.flush()
    }

    func responseHead(_ answer: MessageHead, _ bytes: ByteBuffer, _ body: BodyReader) {
        guard !isFinished else { return }
        if shouldRetry(answer.status) {
            endAttempt(.init(status: answer.status), cancels: true)
            return retry()
        }
        attemptTimer?.cancel()
        hasResponse = true
        replay = []
        record.status = answer.status
        record.upstreamTime = shard.now.since(attemptBegan)
        if isGRPC { record.grpcStatus = answer.value(.grpcStatus).map(bytes.text) }
        if answer.status == 101 { isTunnel = true }
        // HTTP/1.0 has no chunks, and without a length only the end of the connection ends a body.
        dechunks = head.minorVersion == 0 && answer.isChunked
        if dechunks || body.endsWithConnection { keepsAlive = false }
        if !isRequestComplete { keepsAlive = false }
        sink?.write(editedAnswer(answer, bytes))
        if isTunnel { sink?.becameTunnel() }
    }

    func responseBytes(_ bytes: ByteBuffer, payload: Int) {
        guard !isFinished, let sink else { return }
        record.bytesSent += UInt64(payload)
        sink.write(bytes)
        guard !sink.isWritable else { return }
        sink.flush()
        // The flush may have made room at once; then nobody would wake up a paused upstream.
        if !sink.isWritable { upstream?.pause() }
    }

    func responseComplete() { complete() }
    func flushResponse() { sink?.flush() }
    func upstreamEnded() { sink?.tunnelEnded() }

    // MARK: Of our own

    /// Answers the client itself. gRPC clients get a status in their own terms.
    func reply(
        _ status: UInt16, _ flag: ResponseFlags, _ details: String, _ reason: String?,
        headers: [(String, String)] = []
    ) {
        guard !isFinished else { return }
        record.flags.formUnion(flag)
        record.details = details
        record.failure = record.failure ?? reason
        record.status = status
        let isGRPC = isGRPC || plan?.rule.kind == .grpc
        var text: String
        var body = reason.map { method == .head ? "" : $0 + "\n" } ?? ""
        if isGRPC {
            let code = grpcStatus(of: status)
            record.status = 200
            record.grpcStatus = "\(code)"
            body = ""
            text = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: \(code)\r\n"
            if let reason { text += "grpc-message: \(percentEncoded(reason))\r\n" }
        } else {
            text = "HTTP/1.1 \(status) \(reasonPhrase(status))\r\n"
            if !body.isEmpty { text += "content-type: text/plain\r\n" }
        }
        for header in headers { text += "\(header.0): \(header.1)\r\n" }
        let keeps = keepsAlive && isRequestComplete
        if status != 204 { text += "content-length: \(body.utf8.count)\r\n" }
        text += keeps ? (head.minorVersion == 0 ? "connection: keep-alive\r\n" : "") : "connection: close\r\n"
        record.bytesSent = UInt64(body.utf8.count)
        keepsAlive = keeps
        let sink = sink
        end(outcome: nil, cancels: true)
        sink?.write(ByteBuffer(string: text + "\r\n" + body))
        sink?.flush()
        sink?.finished(self, keepsAlive: keeps)
    }
}

/// gRPC's mapping, with UNIMPLEMENTED for what no route knows (spec 1.9).
func grpcStatus(of status: UInt16) -> Int {
    switch status {
    case 400: 13
    case 401: 16
    case 403: 7
    case 404, 405: 12
    case 429, 500, 502, 503: 14
    case 504: 4
    default: 2
    }
}

private func percentEncoded(_ text: String) -> String {
    String(
        text.unicodeScalars.map { $0.isASCII && $0.value >= 0x20 && $0 != "%" && $0.value < 0x7f ? Character($0) : "?" }
    )
}

func reasonPhrase(_ status: UInt16) -> String {
    switch status {
    case 204: "No Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 414: "URI Too Long"
    case 417: "Expectation Failed"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: "Status \(status)"
    }
}
