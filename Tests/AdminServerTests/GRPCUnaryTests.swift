// Calls of one message each way: what a client of gRPC's own gets, and what is no call.
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import Synchronization
import TestSupport
import Testing

@testable import AdminServer

/// Messages as they are.
private struct Raw: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
        bytes.withUnsafeBytes { [UInt8]($0) }
    }
}

@Suite struct GRPCUnaryTests {
    @Test func aClientOfGRPCIsAnswered() async throws {
        try await serve { client, _ in
            let large = [UInt8](repeating: 7, count: 4000)
            for message in [[], [1, 2, 3], large] {
                let answer = try await Self.ask(client, message)
                #expect(answer == message)
            }
        }
    }

    @Test func failuresHaveACodeAndASentence() async throws {
        try await serve { client, _ in
            for (message, code, sentence) in [
                ([UInt8](repeating: 0, count: 5000), RPCError.Code.resourceExhausted, "has 5000 bytes; 4096 are taken"),
                ([0], .permissionDenied, "100 % of „no“\n"),
            ] {
                let error = await Self.error(client, message)
                #expect(
                    error?.code == code && error?.message.contains(sentence) == true, "\(String(describing: error))")
            }
        }
    }

    @Test func callsAtOnceHaveTheirBound() async throws {
        try await serve { client, gate in
            try await withThrowingTaskGroup(of: [UInt8].self) { group in
                for _ in 0..<2 { group.addTask { try await Self.ask(client, [9]) } }
                try eventually("two are being answered") { gate.waiting == 2 }
                let error = await Self.error(client, [1])
                #expect(error?.code == .unavailable)
                gate.open()
                for try await answer in group { #expect(answer == [9]) }
            }
            let answer = try await Self.ask(client, [1])
            #expect(answer == [1])
        }
    }

    @Test func whatIsNoCallIsRefused() {
        let (one, many) = (framed([1, 2]), framed([1]) + framed([2]))
        #expect(unaryMessage(one, limit: 2) == .success([1, 2]))
        for (body, code) in [
            ([], GRPCCode.invalidArgument), ([0, 0, 0, 0], .invalidArgument), ([1] + one.dropFirst(), .unimplemented),
            ([2] + one.dropFirst(), .internal), ([0, 255, 255, 255, 255], .resourceExhausted),
            (one.dropLast(), .invalidArgument), (many, .invalidArgument),
        ] as [([UInt8], GRPCCode)] {
            #expect(throws: GRPCFailure.self) { try unaryMessage(body, limit: 2).get() }
            #expect(code == Self.failure(body)?.code, "\(body)")
        }
        let calls = GRPCCalls()
        for (method, type, status) in [
            ("GET", "application/grpc", 405), ("POST", "application/json", 415), ("POST", "application/grpc-web", 415),
        ] {
            let answered = Mutex(0)
            calls.answerUnary(
                HTTPRequest(method: method, target: "/a.B/C", headers: [("content-type", type)], body: one),
                reply: { answer in answered.withLock { $0 = answer.status } }, answer: { .success($0) })
            #expect(answered.withLock { $0 } == status)
        }
    }

    @Test func anyBytesAreAMessageOrAFailure() {
        var generator = SeededGenerator(seed: 14)
        for _ in 0..<20_000 {
            var body = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            // Most of them with a head that could be one.
            for at in body.indices.prefix(4) where Int.random(in: 0..<8, using: &generator) > 0 { body[at] = 0 }
            if case .success(let message) = unaryMessage(body, limit: 30) {
                #expect(message.count <= 30 && framed(message) == body)
            }
        }
    }

    @Test func messagesAreASCIIAndShort() {
        #expect(percentEncoded("a b%c\u{e9}\r\n\u{0}") == "a b%25c%C3%A9%0D%0A%00")
        #expect(percentEncoded(String(repeating: "x", count: 5000)).utf8.count == 1024)
        let response = GRPCFailure(code: .unauthenticated, message: "no\n").response
        #expect(response.status == 200 && response.body.isEmpty && response.trailers.isEmpty)
        #expect(response.headers.map { "\($0.name): \($0.value)" }.contains("grpc-status: 16"))
    }

    private static func failure(_ body: [UInt8]) -> GRPCFailure? {
        if case .failure(let failure) = unaryMessage(body, limit: 2) { failure } else { nil }
    }

    // MARK: Peers

    private typealias Client = GRPCClient<HTTP2ClientTransport.Posix>

    private static func ask(_ client: Client, _ message: [UInt8]) async throws -> [UInt8] {
        try await client.unary(
            request: ClientRequest(message: message),
            descriptor: MethodDescriptor(fullyQualifiedService: "a.B", method: "C"), serializer: Raw(),
            deserializer: Raw(), options: .defaults
        ) { try $0.message }
    }

    private static func error(_ client: Client, _ message: [UInt8]) async -> RPCError? {
        do {
            _ = try await ask(client, message)
            return nil
        } catch { return error as? RPCError }
    }

    /// `[0]` is refused, `[9]` waits for the gate, all else comes back.
    private func serve(_ body: @Sendable @escaping (Client, Gate) async throws -> Void) async throws {
        let certificate = try DoorCertificate()
        let (loop, served, gate) = (ServerLoop(), ServedCertificate(), Gate())
        try served.set(chain: certificate.chain, key: certificate.key)
        let calls = GRPCCalls(atOnce: 2, messageBytes: 4096)
        let listener = HTTPListener(
            .tcp(host: "127.0.0.1", port: 0), on: loop, tls: served,
            responder: { request, reply in
                calls.answerUnary(request, reply: reply) { message in
                    if message == [0] {
                        return .failure(GRPCFailure(code: .permissionDenied, message: "100 % of „no“\n"))
                    }
                    if message == [9] { await gate.pass() }
                    return .success(message)
                }
            })
        try await listener.startNow()
        let port = try #require(listener.boundPort)
        let security = HTTP2ClientTransport.Posix.TransportSecurity.tls {
            $0.trustRoots = .certificates([.file(path: certificate.path, format: .pem)])
        }
        var configuration = HTTP2ClientTransport.Posix.Config.defaults
        configuration.http2.authority = "localhost"
        try await withThrowingTaskGroup(of: Void.self) { [configuration] group in
            group.addTask { await calls.run() }
            try await withGRPCClient(
                transport: .http2NIOPosix(
                    target: .ipv4(address: "127.0.0.1", port: Int(port)), transportSecurity: security,
                    config: configuration)
            ) { client in try await body(client, gate) }
            group.cancelAll()
        }
        listener.stop()
        await loop.shutdown()
    }
}

/// Where calls wait until it is opened.
private final class Gate: Sendable {
    private let held = Mutex<(isOpen: Bool, waiting: [CheckedContinuation<Void, Never>])>((false, []))
    var waiting: Int { held.withLock { $0.waiting.count } }

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = held.withLock { held in
                if !held.isOpen { held.waiting.append(continuation) }
                return held.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }
    func open() {
        let waiting = held.withLock { held in
            defer { held = (true, []) }
            return held.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}
