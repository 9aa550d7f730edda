/// gRPC through the proxy, seen from the wire: statuses, trailers, messages, deadlines, cancellation.
import Addressing
import struct NIOCore.ByteBuffer
import HTTP2TestSupport
import RouteIR
import Testing
import TestSupport

@testable import Proxy

@Suite struct GRPCTests {
    static let headers = [("content-type", "application/grpc"), ("te", "trailers")]
    /// A message with its prefix.
    static func message(_ text: String) -> String { "\0\0\0\0" + String(UnicodeScalar(UInt8(text.utf8.count))) + text }

    @Test func callsAreCountedWithTheirStatus() async throws {
        let backend = try HTTP2TestBackend("one") { request in
            switch request.target {
            case "/shop.Cart/Get":
                .reply(
                    200, [("content-type", "application/grpc")], body: Self.message("a") + Self.message("bc"),
                    trailers: [("grpc-status", "0"), ("x-end", "1")])
            default: .reply(200, [("content-type", "application/grpc"), ("grpc-status", "5")])
            }
        }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            let answer = try client.ask("/shop.Cart/Get", method: "POST", Self.headers, body: Self.message("x"))
            #expect(answer.trailer("grpc-status") == "0" && answer.trailer("x-end") == "1")
            #expect(answer.text == Self.message("a") + Self.message("bc"))
            #expect(backend.requests.first?.header("te") == "trailers")
            // An answer of trailers only.
            let only = try client.ask("/shop.Cart/None", method: "POST", Self.headers, body: Self.message("x"))
            #expect(only.header("grpc-status") == "5" && only.body.isEmpty && only.header("content-length") == nil)
            try eventually("the records") { rig.log.records.count == 2 }
            let records = rig.log.records
            #expect(records.map { $0.grpcStatus?.rawValue } == [0, 5] && records.allSatisfy(\.isGRPC))
            #expect(records[0].requestMessages == 1 && records[0].responseMessages == 2)
            #expect(records[1].responseMessages == 0)
            let text = prometheusText(rig.engine.stats, rig.engine.series, node: ProxyNode(name: "n"), generation: 1)
            let sums = text.split(separator: "\n").filter { $0.hasPrefix("istio_response_messages_total{") }
            #expect(sums.count == 2 && sums.allSatisfy { $0.contains("request_protocol=\"grpc\"") })
            #expect(sums.contains { $0.hasSuffix("} 2") })
        }
    }

    @Test func theProxysOwnAnswersAreInGRPCsTerms() async throws {
        let rules = [
            rule(RouteMatch(path: .exact("/a.B/Empty")), to: [("empty", 1)]) { $0.kind = .grpc },
            rule(RouteMatch(path: .exact("/a.B/Bad"))) {
                $0.kind = .grpc
                $0.backends = [WeightedBackend(.invalid("Service shop/gone does not exist"))]
            },
        ]
        try await ProxyRig.with(rules, [upstream("empty", [] as [HTTP2TestBackend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            for (path, code) in [("/a.B/Empty", "14"), ("/a.B/Bad", "14"), ("/a.B/Unknown", "12")] {
                let answer = try client.ask(path, method: "POST", Self.headers, body: Self.message("x"))
                #expect(answer.status == 200 && answer.header("grpc-status") == code, "\(path) \(answer.headers)")
                #expect(answer.header("content-type") == "application/grpc" && answer.body.isEmpty)
            }
        }
    }

    @Test func deadlinesEndCalls() async throws {
        let backend = try HTTP2TestBackend("one") { _ in .silence }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            let answer = try client.ask(
                "/a.B/C", method: "POST", Self.headers + [("grpc-timeout", "50m")], body: Self.message("x"))
            #expect(answer.header("grpc-status") == "4")
            // The backend hears of it, and of a call that its client gives up.
            try eventually("the reset") { backend.resets == [8] }
            let stream = client.begin("/a.B/C", method: "POST", Self.headers, end: false)
            client.peer.sendData(stream, Array(Self.message("y").utf8))
            try eventually("the message") { backend.received == 12 }
            client.peer.sendReset(stream, 8)
            try eventually("the cancellation") { backend.resets == [8, 8] }
            try eventually("the record") { rig.log.records.last?.flags == .downstreamClosed }
        }
    }

    @Test func statusesCountAgainstEndpoints() async throws {
        let failing = try HTTP2TestBackend("failing") { _ in
            .reply(200, [("content-type", "application/grpc"), ("grpc-status", "14")])
        }
        let serving = try HTTP2TestBackend("serving") { _ in
            .reply(200, [("content-type", "application/grpc"), ("grpc-status", "0")])
        }
        defer {
            failing.stop()
            serving.stop()
        }
        let ejecting = upstream("cart", [failing, serving]) {
            $0.loadBalancing = .roundRobin
            var detection = UpstreamPolicy.OutlierDetection()
            detection.consecutive5xx = 3
            $0.outlierDetection = detection
        }
        try await ProxyRig.with(nil, [ejecting]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            for _ in 0..<20 {
                _ = try client.ask("/a.B/C", method: "POST", Self.headers, body: Self.message("x"))
            }
            #expect(failing.requests.count == 3 && serving.requests.count == 17)
            #expect(rig.engine.stats.ejections == 1)
        }
    }

    @Test func timeoutsAreReadAsWritten() {
        #expect(grpcTimeout("1H") == .seconds(3600) && grpcTimeout("2M") == .seconds(120))
        #expect(grpcTimeout("3S") == .seconds(3) && grpcTimeout("4m") == .milliseconds(4))
        #expect(grpcTimeout("5u") == .microseconds(5) && grpcTimeout("99999999n") == .nanoseconds(99_999_999))
        for text in ["", "1", "S", "1.5S", "-1S", "+1S", "123456789S", "1s", "1 S"] {
            #expect(grpcTimeout(text) == nil, "\(text)")
        }
    }

    @Test func messagesAreCountedHoweverTheyAreCut() {
        let bytes = Array((Self.message("abc") + Self.message("") + Self.message("de")).utf8)
        for size in 1...bytes.count {
            var counter = GRPCMessageCounter()
            for start in stride(from: 0, to: bytes.count, by: size) {
                counter.count(ByteBuffer(bytes: bytes[start..<min(start + size, bytes.count)]))
            }
            #expect(counter.messages == 3)
        }
    }
}
