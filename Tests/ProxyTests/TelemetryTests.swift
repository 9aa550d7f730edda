/// Metrics, log lines and trace headers, letter by letter.
import Addressing
import Balancing
import Glibc
import RouteIR
import Telemetry
import Testing
import TestSupport

@testable import Proxy

@Suite struct TelemetryTests {
    private func record(_ change: (inout RequestRecord) -> Void = { _ in }) -> RequestRecord {
        var record = RequestRecord(
            began: Moment(nanoseconds: 0), ended: Moment(nanoseconds: 12_000_000), scheme: "http",
            client: SocketAddress(IPAddress(v4: 0x0a01_0001), 4000),
            dialled: SocketAddress(IPAddress(v4: 0x0a60_0001), 80))
        record.method = "GET"
        record.path = "/a"
        record.authority = "cart"
        record.status = 200
        record.rule = "shop/cart rule 0"
        record.service = UpstreamID(serviceID)
        record.upstreamID = upstreamID("cart-v2")
        record.upstream = SocketAddress(IPAddress(v4: 0x0a01_0002), 8080)
        record.upstreamTime = .milliseconds(11)
        change(&record)
        return record
    }

    private func accessLine(_ record: RequestRecord, _ format: AccessLog.Format, started: timespec) -> String {
        String(decoding: Proxy.accessLine(record, format, started: started), as: UTF8.self)
    }

    @Test func theTextLineIsIstios() {
        let line = accessLine(record(), .text, started: timespec(tv_sec: 0, tv_nsec: 0))
        #expect(
            line == "[1970-01-01T00:00:00.000Z] \"GET /a HTTP/1.1\" 200 - via_upstream - \"-\" 0 0 12 11 \"-\" \"-\" "
                + "\"-\" \"cart\" \"10.1.0.2:8080\" outbound|80||cart-v2.shop.svc.cluster.local - 10.96.0.1:80 "
                + "10.1.0.1:4000 - \"shop/cart rule 0\"\n")
        let failed = accessLine(
            record {
                $0.flags = [.connectFailure, .retriesExhausted]
                $0.userAgent = "a\"b"
            }, .text, started: timespec())
        #expect(failed.contains(" UF,URX ") && failed.contains("\"a'b\""))
    }

    @Test func theJSONLineHasTheSameNames() {
        let line = accessLine(record { $0.userAgent = "a\"\n" }, .json, started: timespec())
        for part in [
            #""start_time":"1970-01-01T00:00:00.000Z""#, #""response_code":200"#, #""response_flags":"-""#,
            #""duration":12"#, #""upstream_host":"10.1.0.2:8080""#, #""user_agent":"a\"\n""#,
            #""route_name":"shop/cart rule 0""#, #""x_forwarded_for":null"#,
        ] { #expect(line.contains(part), "\(part)") }
    }

    @Test func noFieldOfALineReachesATerminal() {
        let danger = "\u{1b}[2J\u{9b}2J\u{202e}\u{7f}\u{85}ü"
        let line = record {
            ($0.path, $0.authority, $0.userAgent, $0.rule, $0.method) = (danger, danger, danger, danger, danger)
            ($0.forwardedFor, $0.requestID, $0.failure) = (danger, danger, danger)
        }
        for format in AccessLog.Format.allCases {
            let shown = accessLine(line, format, started: timespec()).dropLast()
            #expect(!shown.unicodeScalars.contains { $0.isTerminalControl }, "\(shown.debugDescription)")
            #expect(shown.contains("ü"))
        }
    }

    @Test func messagesOfGRPCAreEncodedByTheByte() {
        #expect(percentEncoded("50% ü\n") == "50%25 %C3%BC%0A")
    }

    @Test func everySeriesHasEveryLabel() {
        let workload = WorkloadEntry(
            Workload(
                namespace: "shop", pod: "web-1", name: "web", app: "web", version: "v1", canonicalService: "web",
                canonicalRevision: "v1"))
        var table = SeriesTable()
        for record in [record { $0.source = workload }, record()] { _ = table.add(record) }
        let text = prometheusText(
            ShardStats(), table.entries + table.entries, node: ProxyNode(name: "n"), generation: 3)
        let lines = text.split(separator: "\n").filter { $0.hasPrefix("istio_requests_total{") }
        #expect(lines.count == 2)
        let names = [
            "reporter", "source_workload", "source_workload_namespace", "source_principal", "source_app",
            "source_version", "source_canonical_service", "source_canonical_revision", "source_cluster",
            "destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
            "destination_version", "destination_service", "destination_service_name", "destination_service_namespace",
            "destination_canonical_service", "destination_canonical_revision", "destination_cluster",
            "request_protocol", "response_code", "grpc_response_status", "response_flags",
            "connection_security_policy",
        ]
        for line in lines {
            for name in names { #expect(line.contains("\(name)=\"") && !line.contains("\(name)=\"\""), "\(name)") }
            #expect(line.hasSuffix("} 2"))
        }
        #expect(lines.contains { $0.contains("source_workload=\"web\"") })
        #expect(text.contains("istio_request_duration_milliseconds_bucket{") && text.contains("le=\"25\"} 2"))
        #expect(text.contains("heddle_proxy_config_generation 3"))
    }

    @Test func tracesGoOnInTheFormTheyCameIn() throws {
        var generator = FastGenerator(seed: 1)
        let id = "4bf92f3577b34da6a3ce929d0e0e4736"
        let w3c = try #require(TraceContext(traceparent: "00-\(id)-00f067aa0ba902b7-01", using: &generator))
        #expect(w3c.isSampled && w3c.parentID == "00f067aa0ba902b7" && w3c.spanID != w3c.parentID)
        #expect(w3c.headers.first?.value == "00-\(id)-\(w3c.spanID)-01")
        let single = try #require(TraceContext(b3: "\(id)-00f067aa0ba902b7-0", using: &generator))
        #expect(!single.isSampled && single.headers.first?.value == "\(id)-\(single.spanID)-0-00f067aa0ba902b7")
        let multi = try #require(
            TraceContext(b3TraceID: id, spanID: "00f067aa0ba902b7", sampled: "1", using: &generator))
        #expect(multi.headers.map(\.name) == ["x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-parentspanid"])
        for bad in [
            "", "00-\(id)-00f067aa0ba902b7", "ff-\(id)-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-\(id)-0000000000000000-01",
            "00-\(id)x-00f067aa0ba902b7-01",
        ] { #expect(TraceContext(traceparent: bad, using: &generator) == nil, "\(bad)") }
    }

    @Test func requestsCarryTheirTraceOn() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        let spans = RecordedSpans()
        var options = EngineOptions()
        options.sampling = 1_000_000
        let rig = try await ProxyRig(nil, [upstream("cart", [backend])], options: options, spans: spans)
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        _ = try rig.get("/", "traceparent: \(parent)\r\ntracestate: a=b\r\n")
        _ = try rig.get("/")
        try eventually("the spans") { spans.records.count == 2 }
        let seen = backend.requests.map { $0.header("traceparent") ?? "" }
        #expect(seen[0].hasPrefix("00-4bf92f3577b34da6a3ce929d0e0e4736-") && seen[0] != parent)
        #expect(backend.requests[0].header("tracestate") == "a=b")
        #expect(seen[1].count == 55 && seen[1].hasSuffix("-01"))
        await rig.engine.shutdown()
    }
}

final class RecordedSpans: SpanSink {
    private let log = RecordedLog()
    var records: [RequestRecord] { log.records }
    func export(_ record: RequestRecord, node: ProxyNode) { log.log(record, node: node) }
}
