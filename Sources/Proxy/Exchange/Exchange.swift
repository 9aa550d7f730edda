/// One request on its way: which rule it falls under, where it is sent, what is tried again, what the client gets. It
/// stands between the client's side (`ResponseSink`) and one `Upstream` at a time, all on one event loop.
import Addressing
import Balancing
import HTTPWire
import NIOCore
import RouteIR

final class Exchange {
    let shard: Shard
    /// Until the end; a weak reference would make every use of the client's side slower.
    private(set) var sink: (any ResponseSink)?
    let head: MessageHead
    /// Empty after the end.
    private(set) var bytes: ByteBuffer
    let arrival: Arrival
    let table: RoutingTable
    let source: WorkloadEntry?
    let service: RoutedServiceEntry?
    let isGRPC: Bool
    let speaksHTTP2: Bool
    /// A copy of another request whose answer nobody waits for.
    let isMirror: Bool

    var machine: ExchangeMachine<any UpstreamStream>
    var record: RequestRecord
    /// What was decided.
    var plan: RulePlan?
    var target: Target?
    /// The connection that is being made for it.
    var pending: (any PendingUpstream)?
    private(set) var form: RequestForm
    var mirrors: [Exchange] = []
    var body = KeptBody()
    var timers = Timers()
    var waitsForPodSince: Moment?
    private var messages: (request: GRPCMessageCounter, answer: GRPCMessageCounter)?
    /// What is on the client's account (`account`).
    private var held = 0

    struct Target {
        let pool: UpstreamPool
        /// nil: a copy, which goes where it was told.
        let backend: BackendPlan?
        var hash: UInt64?
        var setCookie: String?
        /// Of a WebSocket between two versions of HTTP: the one that the side of HTTP/1 was sent, or sent itself.
        var webSocketKey: String?
        var head: RequestHead?
    }
    enum RequestForm {
        /// The body with the marks of HTTP/1's chunks, if it has any.
        case asItCame
        /// Without them, because one of its sides has none.
        case plainBody
        case upgrade
    }
    struct Timers {
        var request: Scheduled<Void>?
        var attempt: Scheduled<Void>?
        var pause: Scheduled<Void>?
    }

    var method: HTTPMethod { head.method }

    init(
        _ shard: Shard, sink: any ResponseSink, head: MessageHead, bytes: ByteBuffer, arrival: Arrival,
        mirrorOf original: Exchange? = nil
    ) {
        self.shard = shard
        self.sink = sink
        self.head = head
        self.bytes = bytes
        self.arrival = arrival
        table = shard.table
        (source, service) = arrival.entries(in: table)
        isMirror = original != nil
        machine = ExchangeMachine(hasBody: head.requestBody != .none, keepsConnection: head.keepsAlive)
        isGRPC = !head.wantsUpgrade && bytes.hasPrefix("application/grpc", at: head.value(.contentType))
        speaksHTTP2 = sink.speaksHTTP2
        if speaksHTTP2 {
            form = head.wantsUpgrade ? .upgrade : .plainBody
        } else {
            form = head.wantsUpgrade && !bytes.upgradesToHTTP2(head) ? .upgrade : .asItCame
        }
        let now = shard.now
        record = RequestRecord(began: now, arrival)
        record.isHTTP2 = speaksHTTP2
        record.minorVersion = head.minorVersion
        record.source = source
        record.service = service?.name
        record.isGRPC = isGRPC
        if isGRPC, speaksHTTP2 { messages = (GRPCMessageCounter(), GRPCMessageCounter()) }
        shard.stats.requests += isMirror ? 0 : 1
        shard.stats.active += 1
        account()
    }

    /// Brings the client's account up to date: the head, what is kept for another try, what the endpoint does not take.
    func account() {
        guard !machine.isOver else { return }
        let isAlone = machine.tunnelEnds.contains(.clientLeft)
        let waiting = machine.stream.map { $0.isWritable && !isAlone ? 0 : $0.pendingBytes } ?? 0
        var total = MemoryLimits.request + bytes.storageCapacity + body.held + waiting
        if case .http1(let text)? = target?.head { total += text.storageCapacity }
        shard.hold(total - held, arrival)
        held = total
    }

    // MARK: From the client

    /// Body bytes: as they came, with the marks of the chunked coding, or without them (`form`).
    func requestBody(_ piece: ByteBuffer, isLast: Bool) {
        let destination = machine.requestBytes(isLast: isLast)
        if case .nowhere = destination { return }
        record.bytesReceived += UInt64(piece.readableBytes)
        messages?.request.count(piece)
        for mirror in mirrors { mirror.requestBody(piece, isLast: isLast) }
        if case .endpoint(let stream) = destination, !stream.isClosed {
            stream.send(body: piece, isLast: isLast)
            keep(sent: piece)
            if !stream.isWritable { isMirror ? dropUnreadMirror(stream) : isLast ? account() : pauseRequest() }
        } else {
            body.keep(piece)
            if isMirror, body.held > shard.options.replayLimit {
                overflowMirror()
            } else if isLast {
                account()
            } else {
                pauseRequest()
            }
        }
        if isLast { flushRequest() }
    }

    /// The body ends with fields of its own.
    func requestEnded(trailers: ByteBuffer?) {
        let destination = machine.requestBytes(isLast: true)
        if case .nowhere = destination { return }
        let trailers = trailers.flatMap { allowed(trailer: $0, isRequest: true) }
        body.trailers = trailers
        for mirror in mirrors { mirror.requestEnded(trailers: trailers) }
        if case .endpoint(let stream) = destination, !stream.isClosed { stream.endBody(trailers: trailers) }
        flushRequest()
    }

    /// Called before the first byte of the body: HTTP/2 has no chunks and no upgrades.
    func sendsHTTP2() { form = .plainBody }
    var hasPlainBody: Bool { form == .plainBody }

    /// The request it is a copy of goes on at its own pace; a copy that cannot keep up with it has no value.
    private func dropUnreadMirror(_ stream: any UpstreamStream) {
        stream.flush()
        if !stream.isWritable, stream.pendingBytes > MemoryLimits.mirror { overflowMirror() }
    }
    private func overflowMirror() {
        shard.limited(.mirrorBuffer)
        giveUp(.overflow, "mirror_overflow")
    }

    private func keep(sent piece: ByteBuffer) {
        guard body.isWhole, !machine.hasAnswer else { return }
        body.keep(sent: piece, limit: mayTryAgainLater ? shard.options.replayLimit : 0)
        if body.isWhole { account() }
    }

    func flushRequest() {
        machine.stream?.flush()
        for mirror in mirrors { mirror.flushRequest() }
    }

    func pauseRequest() {
        if machine.pauseRequest() { sink?.pauseRequest() }
        account()
    }
    func resumeRequest() {
        guard machine.isRequestPaused, !awaitsTunnel, machine.resumeRequest() else { return }
        account()
        sink?.resumeRequest()
    }
    func upstreamIsWritable() { machine.isRequestPaused ? resumeRequest() : account() }

    /// The client can take more of the answer.
    func clientIsWritable() { machine.stream?.resume() }

    /// The client is gone.
    func clientClosed() {
        guard machine.isTunnel else { return giveUp(.downstreamClosed, "downstream_remote_disconnect") }
        clientLeftTunnel(isInOrder: false)
    }
    /// The client broke the rules, or neither side has sent anything for too long: answered if that is still possible.
    func refuse(_ status: UInt16, _ flag: ResponseFlags, _ details: String) {
        switch machine.exit {
        case .reply: reply(status, flag, details, nil)
        case .abort: abort(flag, details, nil)
        case .endTunnel:
            guard let remains = machine.tunnelEnded() else { return }
            cutFlag(flag, details)
            endTunnel(remains)
        case .none: break
        }
    }

    // MARK: The end

    /// Nobody is there to be told.
    func giveUp(_ flag: ResponseFlags, _ details: String) {
        guard let remains = machine.aborted() else { return }
        record.flags.insert(flag)
        record.details = details
        end(remains, nil, cancels: true)
    }
    /// The answer is complete.
    func complete(trailers: ByteBuffer?) {
        guard let remains = machine.completed() else { return }
        let sink = sink
        end(remains, outcome, cancels: false)
        sink?.finished(self, keepsAlive: machine.keepsAlive, trailers: trailers)
    }
    /// The answer has begun and cannot be completed.
    func abort(_ flag: ResponseFlags, _ details: String, _ outcome: RequestOutcome?) {
        guard let remains = machine.aborted() else { return }
        record.flags.insert(flag)
        record.details = details
        let sink = sink
        end(remains, outcome, cancels: true)
        sink?.aborted(self)
    }

    /// What the answer says of the endpoint; gRPC says it in a status of its own.
    private var outcome: RequestOutcome {
        let code = isGRPC ? record.grpcStatus : nil
        return RequestOutcome(status: code.map { httpStatus(ofGRPC: Int($0.rawValue)) } ?? record.status)
    }

    /// After the machine has come to its end.
    func end(_ remains: ExchangeMachine<any UpstreamStream>.Remains, _ outcome: RequestOutcome?, cancels: Bool) {
        timers.request?.cancel()
        timers.pause?.cancel()
        giveBack(remains, outcome, cancels: cancels)
        if remains.isQueued { target?.pool.stopWaiting(self) }
        for mirror in mirrors where !mirror.machine.isRequestComplete {
            mirror.giveUp(.downstreamClosed, "request_ended")
        }
        mirrors = []
        body.drop()
        sink = nil
        if isMirror { shard.mirrorEnded(self) }
        shard.hold(-held, arrival)
        held = 0
        record.ended = shard.now
        record.attempts = machine.tries.count
        if let messages {
            record.requestMessages = messages.request.messages
            record.responseMessages = messages.answer.messages
        }
        shard.stats.active -= 1
        if !isMirror {
            if shard.logs != nil || record.trace?.isSampled == true { describe() }
            // Taken out, not copied with all its texts: nobody asks for it any more.
            var finished = RequestRecord(began: record.began, arrival)
            swap(&finished, &record)
            shard.finish(finished)
        }
        giveHeadsBack()
    }

    /// Nobody asks for them any more.
    private func giveHeadsBack() {
        var given = ByteBuffer()
        swap(&given, &bytes)
        shard.buffers.giveBack(given)
        giveOwnHeadBack()
    }
    /// No other try follows.
    func giveOwnHeadBack() {
        if case .http1(let text)? = target?.head { shard.buffers.giveBack(text) }
        target?.head = nil
    }

    private func describe() {
        record.method = bytes.text(head.methodText)
        record.path = bytes.text(head.target)
        record.authority = head.authority.isEmpty ? "" : bytes.text(head.authority)
        record.userAgent = head.value(.userAgent).map(bytes.text)
    }

    /// Gives the endpoint back. The upstream itself is released by its own side when the answer is complete.
    func giveBack(_ remains: ExchangeMachine<any UpstreamStream>.Remains, _ outcome: RequestOutcome?, cancels: Bool) {
        timers.attempt?.cancel()
        timers.attempt = nil
        let pending = pending
        self.pending = nil
        pending?.abandon(self)
        if let pool = target?.pool {
            if remains.isRetry { pool.load.retryEnded() }
            if let host = remains.host { pool.ended(host, outcome) }
        }
        if cancels { remains.stream?.cancel() }
    }

    func count(answer bytes: ByteBuffer) { messages?.answer.count(bytes) }
}

extension ByteBuffer {
    /// Whether the range begins with this text, in any case.
    func hasPrefix(_ text: StaticString, at range: ByteRange?) -> Bool {
        guard let range, range.count >= text.utf8CodeUnitCount else { return false }
        return withUnsafeReadableBytes { bytes in
            for index in 0..<text.utf8CodeUnitCount
            where bytes[Int(range.start) + index] | 0x20 != text.utf8Start[index] {
                guard bytes[Int(range.start) + index] == text.utf8Start[index] else { return false }
            }
            return true
        }
    }
    /// Behind such an upgrade requests would pass every rule by.
    func upgradesToHTTP2(_ head: MessageHead) -> Bool {
        head.headers.contains { line in
            line.known == .upgrade
                && text(line.value).lowercased().split(separator: ",").contains { $0.trimmed == "h2c" }
        }
    }
    /// What lies at a place that was found in these bytes.
    func text(_ range: ByteRange) -> String {
        withUnsafeReadableBytes { String(decoding: $0[range.range], as: UTF8.self) }
    }
    func array(_ range: ByteRange) -> [UInt8] { withUnsafeReadableBytes { Array($0[range.range]) } }
}

extension HeadParser {
    mutating func parse(_ buffer: ByteBuffer) throws(WireViolation) -> Bool {
        let result: Result<Bool, WireViolation> = buffer.withUnsafeReadableBytes { bytes in
            Result { () throws(WireViolation) in try parse(bytes) }
        }
        return try result.get()
    }
}
