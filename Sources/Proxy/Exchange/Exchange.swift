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
    let bytes: ByteBuffer
    let arrival: Arrival
    let table: RoutingTable
    let source: WorkloadEntry?
    let service: RoutedServiceEntry?
    var record: RequestRecord
    /// A copy of another request whose answer nobody waits for.
    let isMirror: Bool
    let isGRPC: Bool
    private(set) var isUpgrade: Bool
    let speaksHTTP2: Bool

    // What was decided:
    var plan: RulePlan?
    var backend: BackendPlan?
    var cluster: ClusterState?
    var hash: UInt64?
    var setCookie: String?
    var mirrors: [Exchange] = []

    // The attempt under way:
    var upstream: (any UpstreamStream)?
    var host: ClusterBalancer.HostID?
    var tried: [ClusterBalancer.HostID] = []
    var isWaiting = false
    var isReused = false
    var hasRetriedReuse = false
    var isRetryCounted = false
    var attemptBegan = Moment.start
    var requestTimer: Scheduled<Void>?
    var attemptTimer: Scheduled<Void>?
    var retryTimer: Scheduled<Void>?

    // The request's bytes:
    var upstreamHead = ByteBuffer()
    var replay: [ByteBuffer] = []
    var replayBytes = 0
    var canReplay = true
    private(set) var isRequestComplete: Bool
    private(set) var requestTrailers: ByteBuffer?
    /// The request's body comes without the marks of HTTP/1's chunks, because one of its sides has none.
    private(set) var hasPlainBody: Bool
    private(set) var isRequestPaused = false
    /// What of it is on the client's account (`account`).
    private var held = 0

    // The answer:
    var hasResponse = false
    private var requestMessages: GRPCMessageCounter?
    var responseMessages: GRPCMessageCounter?
    /// The answer's chunks are taken off, or put on.
    var dechunks = false
    var enchunks = false
    var keepsAlive: Bool
    /// Only the end of the client's connection ends the answer.
    var endsWithConnection = false
    var isTunnel = false
    var interimAnswers = 0
    var interimBytes = 0
    private(set) var isFinished = false

    var method: HTTPMethod { head.method }
    /// Everything the client had to send went to the upstream.
    var requestWasSent: Bool { isRequestComplete }

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
        isRequestComplete = head.requestBody == .none
        keepsAlive = head.keepsAlive
        isGRPC = bytes.hasPrefix("application/grpc", at: head.value(.contentType))
        speaksHTTP2 = sink.speaksHTTP2
        hasPlainBody = speaksHTTP2
        isUpgrade = head.wantsUpgrade && !bytes.hasPrefix("h2c", at: head.value(.upgrade))
        let now = shard.now
        record = RequestRecord(began: now, ended: now, client: arrival.peer.address, dialled: arrival.dialled)
        record.isHTTP2 = speaksHTTP2
        record.minorVersion = head.minorVersion
        record.source = source
        record.service = service?.service.id
        record.isGRPC = isGRPC
        if isGRPC, hasPlainBody {
            requestMessages = GRPCMessageCounter()
            responseMessages = GRPCMessageCounter()
        }
        shard.stats.requests += isMirror ? 0 : 1
        shard.stats.active += 1
        account()
    }

    /// Brings the client's account up to date: the head, what is kept for another try, what the endpoint does not take.
    private func account() {
        guard !isFinished else { return }
        let waiting = upstream.map { $0.isWritable ? 0 : $0.pendingBytes } ?? 0
        let total = MemoryLimits.request + bytes.storageCapacity + (replay.isEmpty ? 0 : replayBytes) + waiting
        shard.hold(total - held, arrival)
        held = total
    }

    // MARK: From the client

    /// Body bytes: as they came, with the marks of the chunked coding, or without them if `hasPlainBody`.
    func requestBody(_ piece: ByteBuffer, isLast: Bool) {
        guard !isFinished, !isRequestComplete else { return }
        record.bytesReceived += UInt64(piece.readableBytes)
        requestMessages?.count(piece)
        isRequestComplete = isLast
        for mirror in mirrors { mirror.requestBody(piece, isLast: isLast) }
        if let upstream, !upstream.isClosed {
            upstream.send(body: piece, isLast: isLast)
            keepForReplay(piece)
            if !upstream.isWritable { isMirror ? dropUnreadMirror() : isLast ? account() : pauseRequest() }
        } else {
            replay.append(piece)
            replayBytes += piece.readableBytes
            if isMirror, replayBytes > shard.options.replayLimit {
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
        guard !isFinished, !isRequestComplete else { return }
        let trailers = trailers.flatMap { allowed(trailer: $0, isRequest: true) }
        isRequestComplete = true
        requestTrailers = trailers
        for mirror in mirrors { mirror.requestEnded(trailers: trailers) }
        if let upstream, !upstream.isClosed { upstream.endBody(trailers: trailers) }
        flushRequest()
    }

    /// Called before the first byte of the body: HTTP/2 has no chunks and no upgrades.
    func sendsHTTP2() {
        hasPlainBody = true
        isUpgrade = false
    }

    /// The request it is a copy of goes on at its own pace; a copy that cannot keep up with it has no value.
    private func dropUnreadMirror() {
        upstream?.flush()
        if let upstream, !upstream.isWritable, upstream.pendingBytes > MemoryLimits.mirror { overflowMirror() }
    }
    private func overflowMirror() {
        shard.limited(.mirrorBuffer)
        giveUp(.overflow, "mirror_overflow")
    }

    private func keepForReplay(_ piece: ByteBuffer) {
        guard canReplay, !hasResponse else { return }
        replayBytes += piece.readableBytes
        if replayBytes > shard.options.replayLimit || !mayTryAgainLater {
            dropReplay()
        } else {
            replay.append(piece)
            account()
        }
    }
    func dropReplay() {
        if replayBytes > 0 { canReplay = false }
        replay = []
    }

    func flushRequest() {
        upstream?.flush()
        for mirror in mirrors { mirror.flushRequest() }
    }

    private func pauseRequest() {
        if !isRequestPaused {
            isRequestPaused = true
            sink?.pauseRequest()
        }
        account()
    }
    func resumeRequest() {
        guard isRequestPaused else { return }
        isRequestPaused = false
        account()
        sink?.resumeRequest()
    }
    func upstreamIsWritable() { isRequestPaused ? resumeRequest() : account() }

    /// The client can take more of the answer.
    func clientIsWritable() { upstream?.resume() }

    /// Bytes of a tunnel.
    func tunnelBytes(_ piece: ByteBuffer) {
        record.bytesReceived += UInt64(piece.readableBytes)
        upstream?.send(body: piece, isLast: false)
        if upstream?.isWritable == false { pauseRequest() }
    }
    func clientEndedTunnel() { upstream?.closeOutput() }

    /// The client is gone.
    func clientClosed() {
        if isTunnel { endTunnel() } else { giveUp(.downstreamClosed, "downstream_remote_disconnect") }
    }
    /// One of its sides is closed; that is how tunnels end.
    func endTunnel() {
        guard !isFinished else { return }
        let sink = sink
        end(outcome: .success, cancels: true)
        sink?.aborted(self)
    }
    func giveUp(_ flag: ResponseFlags, _ details: String) {
        guard !isFinished else { return }
        record.flags.insert(flag)
        record.details = details
        end(outcome: nil, cancels: true)
    }

    // MARK: The end

    /// The answer is complete.
    func complete(trailers: ByteBuffer?) {
        guard !isFinished else { return }
        let sink = sink
        let keeps = keepsAlive && isRequestComplete
        end(outcome: outcome, cancels: false)
        sink?.finished(self, keepsAlive: keeps, trailers: trailers)
    }

    /// What the answer says of the endpoint; gRPC says it in a status of its own.
    private var outcome: RequestOutcome {
        let code = isGRPC ? record.grpcStatus : nil
        return RequestOutcome(status: code.map { httpStatus(ofGRPC: Int($0.rawValue)) } ?? record.status)
    }

    /// The answer has begun and cannot be completed.
    func abort(_ flag: ResponseFlags, _ details: String, _ outcome: RequestOutcome?) {
        guard !isFinished else { return }
        record.flags.insert(flag)
        record.details = details
        let sink = sink
        end(outcome: outcome, cancels: true)
        sink?.aborted(self)
    }

    func end(outcome: RequestOutcome?, cancels: Bool) {
        isFinished = true
        requestTimer?.cancel()
        retryTimer?.cancel()
        endAttempt(outcome, cancels: cancels)
        cluster?.stopWaiting(self)
        for mirror in mirrors where !mirror.isRequestComplete { mirror.giveUp(.downstreamClosed, "request_ended") }
        mirrors = []
        replay = []
        sink = nil
        if isMirror { shard.mirrorEnded(self) }
        shard.hold(-held, arrival)
        held = 0
        record.ended = shard.now
        record.requestMessages = requestMessages?.messages ?? 0
        record.responseMessages = responseMessages?.messages ?? 0
        shard.stats.active -= 1
        if !isMirror {
            if shard.logs != nil || record.trace?.isSampled == true { describe() }
            // Taken out, not copied with all its texts: nobody asks for it any more.
            var finished = RequestRecord(
                began: record.began, ended: record.ended, client: arrival.peer.address, dialled: arrival.dialled)
            swap(&finished, &record)
            shard.finish(finished)
        }
    }

    private func describe() {
        record.method = bytes.text(head.methodText)
        record.path = bytes.text(head.target)
        record.authority = head.authority.isEmpty ? "" : bytes.text(head.authority)
        record.userAgent = head.value(.userAgent).map(bytes.text)
    }

    /// Gives the endpoint back. The upstream itself is released by its own side when the answer is complete.
    func endAttempt(_ outcome: RequestOutcome?, cancels: Bool) {
        attemptTimer?.cancel()
        attemptTimer = nil
        if isRetryCounted {
            isRetryCounted = false
            cluster?.load.retryEnded()
        }
        if let host {
            cluster?.ended(host, outcome)
            self.host = nil
        }
        if cancels { upstream?.cancel() }
        upstream = nil
    }
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
