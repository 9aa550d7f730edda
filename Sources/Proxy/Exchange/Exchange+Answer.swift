/// The answer on its way back, and answers of the proxy's own.
import Addressing
import Balancing
import HTTPWire
import NIOCore
import RouteIR

extension Exchange {
    // MARK: From the upstream

    /// 100 or 103: passed on, unless the client is too old to know them.
    func interimHead(_ interim: MessageHead, _ bytes: ByteBuffer) throws(WireViolation) {
        guard let isAllowed = machine.interimHead(bytes: bytes.readableBytes) else { return }
        guard isAllowed else {
            shard.limited(.interimAnswers)
            throw WireViolation(502, .tooManyInterimAnswers)
        }
        guard head.minorVersion >= 1, let sink else { return }
        editInterim(interim, bytes)
        // One that the client does not take is left out.
        do throws(WireViolation) { try sink.forwardHead(interim, bytes, isLast: false) } catch { return }
        sink.flush()
        if !sink.isWritable { machine.stream?.pause() }
    }

    func responseHead(_ answer: MessageHead, _ bytes: ByteBuffer, _ body: BodyReader) {
        guard machine.awaitsAnswer, let sink else { return }
        if shouldRetry(answer.status), let remains = machine.discardAnswer() {
            giveBack(remains, .init(status: answer.status), cancels: true)
            return retry()
        }
        if self.form == .upgrade, let fault = handshakeFault(answer, bytes) { return failed(.noWebSocket(fault)) }
        timers.attempt?.cancel()
        let form = self.form(of: answer, body)
        if form?.endsWithConnection == true || !machine.isRequestComplete { machine.closesConnection() }
        editAnswer(answer, bytes, form)
        do throws(WireViolation) {
            try sink.forwardHead(answer, bytes, isLast: body.isComplete && form != nil)
        } catch { return failed(.unwanted(error, status: answer.status)) }
        if let began = machine.began { record.upstreamTime = shard.now.since(began) }
        record.status = answer.status
        if isGRPC { record.grpcStatus = answer.value(.grpcStatus).map { GRPCStatus(bytes.array($0)) } }
        giveOwnHeadBack()
        guard let form else { return openTunnel() }
        self.body.drop()
        machine.answered(form)
    }

    /// nil: a tunnel.
    private func form(of answer: MessageHead, _ body: BodyReader) -> ExchangeMachine<any UpstreamStream>.Answer? {
        guard answer.status != 101 else { return nil }
        var form = ExchangeMachine<any UpstreamStream>.Answer(endsWithConnection: body.endsWithConnection)
        guard answer.isChunked else { return form }
        // HTTP/1.0 has no chunks, and without a length only the end of the connection ends a body.
        if head.minorVersion == 0 || speaksHTTP2 {
            form.chunks = .removed
            form.endsWithConnection = true
        } else if target?.head?.wire == .h2c, !body.isComplete {
            form.chunks = .added
        }
        return form
    }

    func responseBytes(_ bytes: ByteBuffer, payload: Int, isLast: Bool = false) {
        guard machine.hasAnswer, let sink else { return }
        record.bytesSent += UInt64(payload)
        count(answer: bytes)
        if machine.answer?.chunks == .added {
            sink.writeBody(ByteBuffer(string: String(bytes.readableBytes, radix: 16) + "\r\n"), isLast: false)
            sink.writeBody(bytes, isLast: false)
            sink.writeBody(ByteBuffer(staticString: "\r\n"), isLast: false)
        } else {
            sink.writeBody(bytes, isLast: isLast)
        }
        guard !sink.isWritable else { return }
        sink.flush()
        // The flush may have made room at once; then nobody would wake up a paused upstream.
        if !sink.isWritable { machine.stream?.pause() }
    }

    /// `trailers`: lines with their CRLFs and the empty one.
    func responseComplete(trailers: ByteBuffer? = nil) {
        guard let answer = machine.answer else { return }
        if isGRPC, record.grpcStatus == nil, let trailers { record.grpcStatus = trailingStatus(in: trailers) }
        let trailers = trailers.flatMap { allowed(trailer: $0, isRequest: false) }
        if answer.chunks == .added {
            sink?.writeBody(ByteBuffer(staticString: "0\r\n"), isLast: false)
            sink?.writeBody(trailers ?? ByteBuffer(staticString: "\r\n"), isLast: true)
        }
        complete(trailers: trailers)
    }
    private func trailingStatus(in trailers: ByteBuffer) -> GRPCStatus? {
        trailers.withUnsafeReadableBytes { trailerValue(of: .grpcStatus, in: $0).map { GRPCStatus($0) } }
    }
    func flushResponse() { sink?.flush() }

    // MARK: Of our own

    /// Answers the client itself. gRPC clients get a status in their own terms.
    func reply(
        _ status: UInt16, _ flag: ResponseFlags, _ details: String, _ reason: String?,
        headers: [(String, String)] = [], outcome: RequestOutcome? = nil
    ) {
        guard let remains = machine.replied() else { return }
        record.flags.formUnion(flag)
        record.details = details
        record.failure = record.failure ?? reason
        record.status = status
        // To who asks for a tunnel every 2xx says that it is there.
        let isGRPC = form != .upgrade && (isGRPC || plan?.rule.kind == .grpc)
        var text: String
        var body = reason.map { $0 + "\n" } ?? ""
        if isGRPC {
            let code = grpcStatus(of: status)
            record.status = 200
            record.grpcStatus = GRPCStatus(rawValue: UInt8(code))
            body = ""
            text = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: \(code)\r\n"
            if let reason { text += "grpc-message: \(percentEncoded(reason))\r\n" }
        } else {
            text = "HTTP/1.1 \(status) \(reasonPhrase(status))\r\n"
            if !body.isEmpty { text += "content-type: text/plain\r\n" }
        }
        let corsHeaders = plan?.filters.cors.map(corsHeaders) ?? []
        for header in headers + corsHeaders { text += "\(header.0): \(header.1)\r\n" }
        let keeps = machine.keepsAlive
        if status != 204, !(isGRPC && speaksHTTP2) { text += "content-length: \(body.utf8.count)\r\n" }
        // Of GET, as the length that was just said (RFC 9110, 8.6).
        if method == .head { body = "" }
        text += keeps ? (head.minorVersion == 0 ? "connection: keep-alive\r\n" : "") : "connection: close\r\n"
        record.bytesSent = UInt64(body.utf8.count)
        let sink = sink
        end(remains, outcome, cancels: true)
        do throws(WireViolation) { try sink?.writeHead(ByteBuffer(string: text + "\r\n"), isLast: body.isEmpty) } catch
        {
            sink?.aborted(self)
            return
        }
        if !body.isEmpty { sink?.writeBody(ByteBuffer(string: body), isLast: true) }
        sink?.flush()
        sink?.finished(self, keepsAlive: keeps, trailers: nil)
    }
}

/// As grpc-message wants it: everything but printable ASCII, and the percent sign itself, by its bytes.
func percentEncoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        if (0x20..<0x7f).contains(byte), byte != UInt8(ascii: "%") {
            result.unicodeScalars.append(UnicodeScalar(byte))
        } else {
            result += "%" + hex(UInt64(byte), 2).uppercased()
        }
    }
    return result
}
