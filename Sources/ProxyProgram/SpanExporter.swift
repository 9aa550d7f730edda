/// Sends spans to an OpenTelemetry collector as OTLP/HTTP JSON. Loops put spans into a bounded queue, a thread of its
/// own sends them once a second: a collector that is slow or away costs spans, not traffic.
import Addressing
import Balancing
import Glibc
import Posix
import Proxy
import RouteIR
import Synchronization
import Telemetry

final class SpanExporter: SpanSink {
    private static let limit = 4096
    private struct State {
        /// By service name: the spans as JSON.
        var spans: [String: [String]] = [:]
        var count = 0
        var lost: UInt64 = 0
        var isStopped = false
    }
    private let endpoint: SocketAddress
    private let state = Mutex(State())
    private let work = Semaphore()
    private let ended = Semaphore()

    /// Spans that were thrown away because the collector is slow or away.
    var lostSpans: UInt64 { state.withLock(\.lost) }

    init(_ endpoint: SocketAddress) throws(PosixError) {
        self.endpoint = endpoint
        try startThread { self.run() }
    }

    func export(_ record: RequestRecord, node: ProxyNode) {
        guard let trace = record.trace else { return }
        var wall = timespec()
        clock_gettime(CLOCK_REALTIME, &wall)
        let end = UInt64(wall.tv_sec) * 1_000_000_000 + UInt64(wall.tv_nsec)
        let span = spanJSON(record, trace, node, end: end)
        let service = record.source?.workload.canonicalService ?? "unknown"
        let isFirst = state.withLock { state in
            guard state.count < Self.limit else {
                state.lost += 1
                return false
            }
            state.spans[service, default: []].append(span)
            state.count += 1
            return state.count == 1
        }
        if isFirst { work.signal() }
    }

    /// Sends what is left, for two seconds at most.
    func stop() {
        state.withLock { $0.isStopped = true }
        work.signal()
        ended.wait(atMost: 2)
    }

    private func run() {
        while true {
            work.wait()
            // Asked before the last spans are taken: who stops while they are sent is heard in the next round.
            let isLast = state.withLock(\.isStopped)
            if !isLast { usleep(1_000_000) }
            flush()
            if isLast { return ended.signal() }
        }
    }

    private func flush() {
        let (spans, count) = state.withLock { state in
            defer { (state.spans, state.count) = ([:], 0) }
            return (state.spans, state.count)
        }
        guard !spans.isEmpty else { return }
        let resources = spans.sorted { $0.key < $1.key }.map { service, spans in
            #"{"resource":{"attributes":[\#(attribute("service.name", service))]},"scopeSpans":[{"scope":{"#
                + #""name":"heddle-proxy"},"spans":[\#(spans.joined(separator: ","))]}]}"#
        }
        if !post(#"{"resourceSpans":[\#(resources.joined(separator: ","))]}"#) {
            state.withLock { $0.lost += UInt64(count) }
        }
    }

    /// Whether all of it was sent.
    private func post(_ body: String) -> Bool {
        let family = endpoint.address.isIPv4 ? AF_INET : AF_INET6
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        guard endpoint.withSockaddr({ connect(descriptor, $0, $1) }) == 0 else { return false }
        let head =
            "POST /v1/traces HTTP/1.1\r\nhost: \(endpoint)\r\ncontent-type: application/json\r\n"
            + "content-length: \(body.utf8.count)\r\nconnection: close\r\n\r\n"
        let isSent = sendAll(Array((head + body).utf8), to: descriptor).code == 0
        // The answer says nothing that could be acted on, but closing before it would reset the connection. It is
        // short; a collector that goes on and on is not listened to.
        var chunk = [UInt8](repeating: 0, count: 4096)
        for _ in 0..<16 { guard isSent, read(descriptor, &chunk, chunk.count) > 0 else { break } }
        return isSent
    }
}

/// One span in OTLP's JSON form, with Istio's tags (spec 5.5).
func spanJSON(_ record: RequestRecord, _ trace: TraceContext, _ node: ProxyNode, end: UInt64) -> String {
    let start = end - min(end, record.duration.wholeNanoseconds)
    let name = (record.upstreamID ?? record.service)?.service.hostname ?? "unknown"
    let port = record.upstreamID?.service.port ?? 0
    let source = record.source?.workload
    let attributes = [
        ("http.method", record.method), ("http.url", "\(record.scheme)://\(record.authority)\(record.path)"),
        ("http.status_code", "\(record.status)"), ("response_flags", "\(record.flags)"),
        ("request_size", "\(record.bytesReceived)"), ("response_size", "\(record.bytesSent)"),
        ("peer.address", record.client.address.description),
        ("upstream_cluster", record.upstreamID.map { "outbound|\($0.service.port)||\($0.service.hostname)" } ?? "-"),
        ("istio.canonical_service", source?.canonicalService ?? "unknown"),
        ("istio.canonical_revision", source?.canonicalRevision ?? "unknown"),
        ("istio.namespace", source?.namespace ?? "unknown"), ("istio.mesh_id", node.clusterName),
        ("guid:x-request-id", record.requestID ?? "-"),
    ]
    let traceID = String(repeating: "0", count: 32 - trace.traceID.count) + trace.traceID
    return #"{"traceId":"\#(traceID)","spanId":"\#(trace.spanID)","#
        + (trace.parentID.map { #""parentSpanId":"\#($0)","# } ?? "")
        + #""name":\#(jsonString("\(name):\(port)/*")),"kind":3,"startTimeUnixNano":"\#(start)","#
        + #""endTimeUnixNano":"\#(end)","#
        + #""attributes":[\#(attributes.map { attribute($0.0, $0.1) }.joined(separator: ","))],"#
        + #""status":{"code":\#(record.status >= 500 ? 2 : 0)}}"#
}

private func attribute(_ key: String, _ value: String) -> String {
    #"{"key":\#(jsonString(key)),"value":{"stringValue":\#(jsonString(value))}}"#
}
