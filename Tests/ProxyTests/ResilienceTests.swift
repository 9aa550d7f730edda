/// Retries, timeouts, limits, ejection, draining (spec 6).
import RouteIR
import Testing
import TestSupport

@testable import Proxy

@Suite struct ResilienceTests {
    private func retrying(_ attempts: UInt32, _ codes: [UInt16] = [503], _ classes: RetryPolicy.Classes? = nil)
        -> RouteRule
    {
        rule(to: [("cart", 1)]) {
            $0.retry = RetryPolicy(attempts: attempts, codes: codes, backoff: .milliseconds(1))
            if let classes { $0.retry?.classes = classes }
        }
    }

    @Test func codesAreTriedAgainAsOftenAsTheRouteSays() async throws {
        let backend = try TestBackend("one") { .reply($0.number % 4 == 3 ? 200 : 503) }
        defer { backend.stop() }
        try await ProxyRig.with([retrying(2)], [upstream("cart", [backend])]) { rig in
            #expect(try rig.ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").status == 200)
            #expect(backend.requests.count == 3)
            #expect(backend.requests.allSatisfy { $0.body == Array("body".utf8) })
            // Once more: 503, 503 and, at the seventh, 200; with one retry only that is not reached.
            rig.configure([retrying(1)], [upstream("cart", [backend])])
            #expect(try rig.get("/").status == 503)
            try eventually("the record") { rig.log.records.last?.flags == .retriesExhausted }
        }
    }

    @Test func onlyWhatMayBeRepeatedIs() async throws {
        let backend = try TestBackend("one") { _ in .reply(503) }
        defer { backend.stop() }
        try await ProxyRig.with([retrying(1)], [upstream("cart", [backend])]) { rig in
            let status = try rig.post("").status
            #expect(status == 503)
            #expect(backend.requests.count == 1)
            rig.configure([retrying(1, [503], [.neverSent, .nonIdempotent])], [upstream("cart", [backend])])
            let again = try rig.post("").status
            #expect(again == 503)
            #expect(backend.requests.count == 3)
        }
    }

    @Test func anUnreachableEndpointIsPassedOver() async throws {
        let gone = try TestBackend("gone")
        gone.stop()
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [gone, backend])]) { rig in
            // Without a policy: nothing was sent, so even POST may be tried elsewhere.
            for _ in 0..<20 {
                let status = try rig.post("hi").status
                #expect(status == 200)
            }
            #expect(backend.requests.allSatisfy { $0.body == Array("hi".utf8) })
        }
    }

    @Test func timeoutsEndRequestsAndTries() async throws {
        let silent = try TestBackend("silent") { _ in .silence }
        let late = try TestBackend("late") { $0.number == 1 ? .silence : .reply(200) }
        defer {
            silent.stop()
            late.stop()
        }
        let rules = [
            rule(RouteMatch(path: .exact("/request")), to: [("silent", 1)]) {
                $0.timeouts.request = .milliseconds(50)
            },
            rule(RouteMatch(path: .exact("/try")), to: [("silent", 1)]) {
                $0.timeouts.backendRequest = .milliseconds(50)
            },
            rule(RouteMatch(path: .exact("/again")), to: [("late", 1)]) {
                $0.timeouts.backendRequest = .seconds(1)
                $0.retry = RetryPolicy(attempts: 1, backoff: .milliseconds(1))
            },
        ]
        try await ProxyRig.with(rules, [upstream("silent", [silent]), upstream("late", [late])]) { rig in
            for path in ["/request", "/try"] {
                #expect(try rig.get(path).status == 504)
                try eventually("the record") { rig.log.records.last?.flags == .upstreamTimeout }
            }
            #expect(try rig.get("/again").status == 200)
        }
    }

    @Test func limitsOverflow() async throws {
        let silent = try TestBackend("silent") { _ in .silence }
        defer { silent.stop() }
        let limited = upstream("cart", [silent]) {
            $0.maxConnections = 1
            $0.maxPendingRequests = 1
        }
        try await ProxyRig.with(nil, [limited]) { rig in
            let clients = try (0..<3).map { _ in try rig.connect() }
            clients[0].send("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n")
            try eventually("the first at the backend") { silent.requests.count == 1 }
            clients[1].send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
            try eventually("the second in the proxy") { rig.engine.stats.active == 2 }
            clients[2].send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = try #require(clients[2].answer())
            #expect(answer.status == 503 && answer.header("x-envoy-overloaded") == "true")
            try eventually("the record") { rig.log.records.last?.flags == .overflow }
            // The one that waits is served when the first client gives up.
            clients[0].reset()
            try eventually("the second at the backend") { silent.requests.count == 2 }
        }
    }

    @Test func anEndpointThatFailsIsEjected() async throws {
        let bad = try TestBackend("bad") { _ in .reply(500) }
        let good = try TestBackend("good")
        defer {
            bad.stop()
            good.stop()
        }
        let watched = upstream("cart", [bad, good]) { $0.outlierDetection = UpstreamPolicy.OutlierDetection() }
        try await ProxyRig.with(nil, [watched]) { rig in
            let client = try rig.connect()
            var failures = 0
            for _ in 0..<100 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                failures += client.answer()?.status == 500 ? 1 : 0
            }
            #expect(failures == 5)
            let report = String(decoding: rig.engine.answer("upstreams"), as: UTF8.self)
            #expect(report.components(of: "\"state\":\"ejected\"") == 1)
        }
    }

    @Test func anEndpointThatLeavesFinishesItsWork() async throws {
        let slow = try TestBackend("slow") {
            $0.target == "/slow" ? .raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha") : .reply(200)
        }
        let new = try TestBackend("new")
        defer {
            slow.stop()
            new.stop()
        }
        try await ProxyRig.with(nil, [upstream("cart", [slow])]) { rig in
            let client = try rig.connect()
            client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            try eventually("the request at the backend") { slow.requests.count == 1 }
            rig.configure(nil, [upstream("cart", [new])])
            #expect(try rig.get("/").header("x-backend") == "new")
            #expect(rig.log.records.count == 1)
            client.hangUp()
            try eventually("the end of the slow one") { rig.log.records.count == 2 }
            #expect(rig.log.records.last?.flags == .downstreamClosed)
        }
    }

    @Test func drainingEndsConnectionsBetweenRequests() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        var options = EngineOptions()
        options.drainGrace = .milliseconds(500)
        try await ProxyRig.with(nil, [upstream("cart", [backend])], options: options) { rig in
            let (idle, late, fresh) = (try rig.connect(), try rig.connect(), try rig.connect())
            for client in [idle, late] {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(client.answer()?.status == 200)
            }
            try eventually("all are accepted") { rig.engine.connectionCount == 3 }
            rig.engine.drain()
            // What may be on its way is answered, and that is the last of it.
            for client in [late, fresh] {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(client.answer()?.header("connection") == "close")
                #expect(client.rest() == "")
                client.hangUp()
            }
            #expect(idle.rest() == "")
            idle.hangUp()
            try eventually("nobody connected") { rig.engine.connectionCount == 0 }
            #expect(throws: TestFailure.self) { try rig.connect() }
        }
    }
}
