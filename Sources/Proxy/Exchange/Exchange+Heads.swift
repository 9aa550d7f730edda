/// What is changed in the heads that pass: the route's filters, hop-by-hop fields, and what a proxy adds.
import Addressing
import HTTPWire
import NIOCore
import RouteIR

extension Exchange {
    // MARK: The request

    /// Into `shard.edit`: what the backend gets otherwise than it came.
    func edit(_ plan: RulePlan, _ backend: BackendPlan) {
        shard.edit.reset()
        let rewrite = backend.filters.rewrite ?? plan.filters.rewrite
        bytes.withUnsafeReadableBytes { raw in
            shard.edit.dropHopByHop(head, raw, keepsUpgrade: form == .upgrade)
            nameHost()
            addForwarding()
            addTrace()
            for edit in plan.filters.requestHeaders { apply(edit, to: head, raw) }
            for edit in backend.filters.requestHeaders { apply(edit, to: head, raw) }
            if let hostname = rewrite?.hostname {
                shard.edit.drop("host", in: head, raw)
                shard.edit.add("host", hostname.utf8)
            }
        }
        if form == .upgrade, let target { editHandshake(for: target.pool.upstream.wire) }
        editTarget(rewrite?.path)
    }

    /// With the changes in `shard.edit`, written once in the endpoint's form.
    func editedHead(for wire: Upstream.Wire) -> RequestHead {
        switch wire {
        case .http1: return .http1(shard.edited(head, bytes))
        case .h2c:
            let isWebSocket = form == .upgrade
            return .http2(shard.heads.request(head, bytes, shard.edit, scheme: "http", isWebSocket: isWebSocket))
        }
    }

    /// `set`, `add`, `remove`, in that order. What frames the message is not the route's to change.
    private func apply(_ edit: RouteIR.HeaderEdit, to head: MessageHead, _ raw: UnsafeRawBufferPointer) {
        for field in edit.set where isEditable(field.name) {
            shard.edit.drop(field.name, in: head, raw)
            shard.edit.add(field.name, field.value)
        }
        for field in edit.add where isEditable(field.name) {
            // One request has one Host.
            if field.name.lowercased() == "host" { shard.edit.drop("host", in: head, raw) }
            shard.edit.add(field.name, field.value)
        }
        for name in edit.remove where isEditable(name) && name.lowercased() != "host" {
            shard.edit.drop(name, in: head, raw)
        }
    }
    private func isEditable(_ name: String) -> Bool {
        !["content-length", "transfer-encoding", "connection", "upgrade"].contains(name.lowercased())
    }

    /// What the record says of it is only made where somebody reads it.
    private func addForwarding() {
        if head.has(.xForwardedFor) {
            let earlier = head.headers.filter { $0.known == .xForwardedFor }.map { bytes.text($0.value) }
            let chain = (earlier + [arrival.peer.host]).joined(separator: ", ")
            shard.edit.drop(.xForwardedFor, in: head)
            shard.edit.add("x-forwarded-for", chain.utf8)
            record.forwardedFor = chain
        } else {
            shard.edit.add("x-forwarded-for", arrival.peer.host.utf8)
            if shard.isObserved { record.forwardedFor = arrival.peer.host }
        }
        if !head.has(.xForwardedProto) { shard.edit.add("x-forwarded-proto", arrival.scheme.utf8) }
        if let given = head.value(.xRequestID), !given.isEmpty {
            if shard.isObserved { record.requestID = bytes.text(given) }
        } else {
            let id = uuid(using: &shard.random)
            shard.edit.drop(.xRequestID, in: head)
            shard.edit.add("x-request-id", id.span)
            if shard.isObserved { record.requestID = id.span.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } }
        }
    }

    /// Joins the caller's trace or begins one. Without an exporter the headers pass as they are: a span that nobody
    /// records would tear the trace.
    private func addTrace() {
        guard shard.spans != nil else { return }
        let isChosen = UInt64.random(in: 0..<1_000_000, using: &shard.random) < shard.options.sampling
        let context = callersTrace ?? TraceContext(sampled: isChosen, using: &shard.random)
        record.trace = context
        switch context.form {
        case .w3c: shard.edit.drop(.traceparent, in: head)
        case .b3Single: shard.edit.drop(.b3, in: head)
        case .b3:
            for name in [HeaderName.b3TraceID, .b3SpanID, .b3ParentSpanID, .b3Sampled] {
                shard.edit.drop(name, in: head)
            }
        }
        for header in context.headers { shard.edit.add(header.name, header.value) }
    }

    /// What the request's headers say, with a span of ours; nil: nothing that makes sense.
    var callersTrace: TraceContext? {
        let text = { (name: HeaderName) in self.head.value(name).map(self.bytes.text) }
        var trace: TraceContext?
        if let value = text(.traceparent) { trace = TraceContext(traceparent: value, using: &shard.random) }
        if trace == nil, let value = text(.b3) { trace = TraceContext(b3: value, using: &shard.random) }
        if trace == nil, let id = text(.b3TraceID), let span = text(.b3SpanID) {
            let sampled = text(.b3Flags) == "1" ? "1" : text(.b3Sampled)
            trace = TraceContext(b3TraceID: id, spanID: span, sampled: sampled, using: &shard.random)
        }
        return trace
    }

    /// Before the filters, which may name another.
    private func nameHost() {
        guard !head.has(.host) || head.isAbsoluteTarget else { return }
        shard.edit.drop(.host, in: head)
        let host = head.isAbsoluteTarget ? bytes.text(head.authority) : service?.service.id.hostname ?? "unknown"
        shard.edit.add("host", host.utf8)
    }

    /// A new target where the path changes, the target was absolute or the client speaks HTTP/1.0.
    private func editTarget(_ edit: PathEdit?) {
        guard edit != nil || head.isAbsoluteTarget || head.minorVersion == 0 else { return }
        // Without a path OPTIONS asks about the server (RFC 9112, 3.2.4).
        let isAboutServer = head.path.isEmpty && head.query == nil && method == .options
        let path = head.path.isEmpty ? [UInt8(ascii: isAboutServer ? "*" : "/")] : bytes.array(head.path)
        var target = edit?.applied(to: path) ?? path
        if let query = head.query { target += [UInt8(ascii: "?")] + bytes.array(query) }
        shard.edit.replaceTarget(target)
    }

    // MARK: The answer

    func editInterim(_ interim: MessageHead, _ bytes: ByteBuffer) {
        shard.edit.reset()
        bytes.withUnsafeReadableBytes { raw in
            sayOwnVersion(interim, raw)
            shard.edit.dropHopByHop(interim, raw, keepsUpgrade: false)
        }
    }

    /// `form` nil: a tunnel.
    func editAnswer(
        _ answer: MessageHead, _ bytes: ByteBuffer, _ form: ExchangeMachine<any UpstreamStream>.Answer?
    ) {
        shard.edit.reset()
        bytes.withUnsafeReadableBytes { raw in
            sayOwnVersion(answer, raw)
            shard.edit.dropHopByHop(answer, raw, keepsUpgrade: form == nil)
            for edit in target?.backend?.filters.responseHeaders ?? [] { apply(edit, to: answer, raw) }
            for edit in plan?.filters.responseHeaders ?? [] { apply(edit, to: answer, raw) }
            if let cors = plan?.filters.cors { addCORS(cors, to: answer, raw) }
            if let setCookie = target?.setCookie { shard.edit.add("set-cookie", setCookie.utf8) }
            if form?.chunks == .removed || answer.status == 204 { shard.edit.drop(.transferEncoding, in: answer) }
            if form == nil { editHandshakeAnswer(answer, raw) }
            // HTTP/2 has no such field.
            guard form != nil, !speaksHTTP2 else { return }
            if !machine.keepsAlive {
                shard.edit.add("connection", "close".utf8)
            } else if head.minorVersion == 0 {
                shard.edit.add("connection", "keep-alive".utf8)
            }
        }
    }

    /// A version is of the hop (RFC 9112, 2.3): an HTTP/1.0 passed on costs clients their connection.
    private func sayOwnVersion(_ answer: MessageHead, _ raw: UnsafeRawBufferPointer) {
        guard answer.minorVersion == 0 else { return }
        var line = Array(raw[answer.start..<answer.startLineEnd])
        line[7] = UInt8(ascii: "1")
        shard.edit.replaceStartLine(line)
    }

    /// Where there is a policy it decides, whatever the backend says.
    private func addCORS(_ cors: CORSPolicy, to answer: MessageHead, _ raw: UnsafeRawBufferPointer) {
        for name in [
            "allow-origin", "allow-credentials", "allow-methods", "allow-headers", "expose-headers", "max-age",
        ] {
            shard.edit.drop("access-control-" + name, in: answer, raw)
        }
        for header in corsHeaders(cors) { shard.edit.add(header.0, header.1) }
    }
}

extension Shard {
    /// In HTTP/1's form, as `edit` changes it.
    func edited(_ head: MessageHead, _ bytes: ByteBuffer, room: Int = 0) -> ByteBuffer {
        scratch.removeAll(keepingCapacity: true)
        bytes.withUnsafeReadableBytes { edit.write(head, $0, to: &scratch) }
        var buffer = buffers.take(scratch.count + room)
        buffer.writeBytes(scratch)
        return buffer
    }
}
