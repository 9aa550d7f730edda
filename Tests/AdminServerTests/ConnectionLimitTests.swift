// What clients of the small servers cannot do: use them up, hold them, or make them remember.
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import AdminServer

@Suite struct ConnectionLimitTests {
    @Test func aFullServerTurnsOutWhoKeepsItWaiting() async throws {
        var limits = ConnectionLimits()
        limits.connections = 4
        try await serve(limits) { server in
            let idle = try (0..<40).map { _ in try connectTCP(server.port) }
            defer { for descriptor in idle { close(descriptor) } }
            // Whoever asks at once is answered, however many do nothing.
            for _ in 0..<10 {
                #expect(try exchange(try connectTCP(server.port), "GET / HTTP/1.0\r\n\r\n").hasSuffix("ok"))
            }
            #expect(isClosed(idle[0]))
            let shed = server.shed
            #expect(shed.count >= 37 && Set(shed) == [.tooMany], "\(shed)")
        }
    }

    @Test func onePeersConnectionsCostAnotherNone() async throws {
        var limits = ConnectionLimits()
        limits.connections = 4
        try await serve(limits) { server in
            // It waits for longer than all of them.
            let other = try connectTCP(server.port, from: 2)
            let many = try (0..<40).map { _ in try connectTCP(server.port) }
            defer { for descriptor in many { close(descriptor) } }
            try eventually("they make room") { server.shed.count == 37 }
            #expect(try exchange(other, "GET / HTTP/1.0\r\n\r\n").hasSuffix("ok"))
        }
    }

    @Test func whatAllRequestsHoldHasItsBound() async throws {
        var limits = ConnectionLimits()
        limits.heldBytes = 40_000
        try await serve(limits) { server in
            let text =
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12000\r\n\r\n" + String(repeating: "x", count: 9_000)
            let slow = try (0..<10).map { _ in try connectTCP(server.port) }
            defer { for descriptor in slow { close(descriptor) } }
            for descriptor in slow { _ = write(descriptor, text, text.utf8.count) }
            try eventually("those make room that wait the longest") {
                server.shed == Array(repeating: .tooMany, count: 6)
            }
            #expect(try exchange(try connectTCP(server.port), "GET / HTTP/1.0\r\n\r\n").hasSuffix("ok"))
        }
    }

    @Test(arguments: [
        ("", ShedReason.slowRequest), ("GET / HT", .slowRequest), ("GET / HTTP/1.1\r\nHost: a\r\n", .slowRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\nabc", .slowRequest),
        ("GET / HTTP/1.1\r\nX: " + String(repeating: "x", count: 20_000), .largeRequest),
        ("GET /" + String(repeating: "x", count: 20_000), .largeRequest),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n" + String(repeating: "x", count: 20_000),
            .largeRequest
        ), (String(repeating: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", count: 500), .largeRequest),
    ]) func aRequestHasToCome(_ text: String, reason: ShedReason) async throws {
        var limits = ConnectionLimits()
        limits.request = .milliseconds(50)
        try await serve(limits) { server in
            let descriptor = try connectTCP(server.port)
            defer { close(descriptor) }
            _ = write(descriptor, text, text.utf8.count)
            #expect(isClosed(descriptor))
            try eventually("it is counted") { server.shed == [reason] }
        }
    }

    @Test func whoDoesNotReadIsNotToldMore() async throws {
        var limits = ConnectionLimits()
        limits.answer = .milliseconds(50)
        try await serve(limits, bodySize: 64 << 20) { server in
            let descriptor = try connectTCP(server.port)
            defer { close(descriptor) }
            let requests = String(repeating: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", count: 10)
            #expect(write(descriptor, requests, requests.utf8.count) == requests.utf8.count)
            try eventually("it is turned out") { server.shed == [.slowReader] }
            // Asked on the same loop, so after all that the end led to.
            let other = try connectTCP(server.port)
            defer { close(other) }
            let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
            #expect(write(other, request, request.utf8.count) == request.utf8.count)
            try eventually("another is asked") { server.asked > 1 }
            #expect(server.asked == 2)
        }
    }

    @Test func anOldConnectionEndsWithItsNextAnswer() async throws {
        var limits = ConnectionLimits()
        limits.age = .zero
        try await serve(limits) { server in
            let answer = try exchange(try connectTCP(server.port), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(answer.contains("\r\nConnection: close\r\n") && answer.hasSuffix("ok") && server.shed.isEmpty)
        }
    }

    @Test func anIdleConnectionEnds() async throws {
        var limits = ConnectionLimits()
        limits.idle = .milliseconds(50)
        try await serve(limits) { server in
            let answer = try exchange(try connectTCP(server.port), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(answer.hasSuffix("ok") && server.shed.isEmpty)
        }
    }

    private final class Server: Sendable {
        private struct State {
            var port: UInt16 = 0
            var shed: [ShedReason] = []
            var asked = 0
        }
        private let state = Mutex(State())
        var port: UInt16 { state.withLock { $0.port } }
        var shed: [ShedReason] { state.withLock { $0.shed } }
        var asked: Int { state.withLock { $0.asked } }

        func listens(on port: UInt16) { state.withLock { $0.port = port } }
        func turnedOut(_ reason: ShedReason) { state.withLock { $0.shed.append(reason) } }
        func wasAsked() { state.withLock { $0.asked += 1 } }
    }

    private func serve(
        _ limits: ConnectionLimits, bodySize: Int? = nil, _ body: (Server) async throws -> Void
    ) async throws {
        let loop = ServerLoop()
        let server = Server()
        let text = bodySize.map { String(repeating: "x", count: $0) } ?? "ok"
        let listener = HTTPListener(
            .tcp(host: "127.0.0.1", port: 0), on: loop, limits: limits, shed: { server.turnedOut($0) },
            responder: { _, reply in
                server.wasAsked()
                reply(.text(text))
            })
        try await listener.startNow()
        server.listens(on: try #require(listener.boundPort))
        try await body(server)
        listener.stop()
        await loop.shutdown()
    }
}
