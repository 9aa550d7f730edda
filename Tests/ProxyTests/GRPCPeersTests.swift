/// A gRPC client and gRPC servers that are not ours, with the proxy between them: all four kinds of calls, trailers,
/// deadlines, cancellation, windows.
import Addressing
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import RouteIR
import Synchronization
import TestSupport
import Testing

@testable import Proxy

/// Messages as they are.
private struct Raw: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
        bytes.withUnsafeBytes { [UInt8]($0) }
    }
}

private func method(_ name: String) -> MethodDescriptor {
    MethodDescriptor(fullyQualifiedService: "test.Echo", method: name)
}

/// What the server was asked and how calls ended there.
private final class EchoService: RegistrableRPCService {
    private struct State {
        var calls = 0
        var cancelled = 0
        var written = 0
    }
    private let state = Mutex(State())
    var calls: Int { state.withLock(\.calls) }
    var cancelled: Int { state.withLock(\.cancelled) }
    var written: Int { state.withLock(\.written) }

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        // Each message back as it comes; the caller's `x-name` returns in the trailers.
        add("Echo", &router) { request, writer in
            for try await message in request.messages { try await writer.write(message) }
        }
        add("Sum", &router) { request, writer in
            var sum = 0
            for try await message in request.messages { sum += message.count }
            try await writer.write(Array("\(sum)".utf8))
        }
        // As many messages of 16 KiB as the first message has bytes.
        add("Many", &router) { request, writer in
            for try await message in request.messages {
                for number in 0..<message.count {
                    try await writer.write([UInt8](repeating: UInt8(number & 0xff), count: 16384))
                    self.state.withLock { $0.written += 1 }
                }
            }
        }
        add("Fail", &router) { _, _ in throw RPCError(code: .notFound, message: "no such cart: 100 %") }
        // Until the call is cancelled.
        add("Wait", &router) { _, _ in
            let (end, continuation) = AsyncStream.makeStream(of: Void.self)
            await withRPCCancellationHandler {
                for await _ in end {}
            } onCancelRPC: {
                self.state.withLock { $0.cancelled += 1 }
                continuation.finish()
            }
        }
    }

    private func add<Transport: ServerTransport>(
        _ name: String, _ router: inout RPCRouter<Transport>,
        _ body: @escaping @Sendable (StreamingServerRequest<[UInt8]>, RPCWriter<[UInt8]>) async throws -> Void
    ) {
        router.registerHandler(forMethod: method(name), deserializer: Raw(), serializer: Raw()) { request, _ in
            self.state.withLock { $0.calls += 1 }
            return StreamingServerResponse { writer in
                try await body(request, writer)
                var trailers: Metadata = [:]
                for value in request.metadata[stringValues: "x-name"] { trailers.addString(value, forKey: "x-end") }
                return trailers
            }
        }
    }
}

private typealias Client = GRPCClient<HTTP2ClientTransport.Posix>

@Suite struct GRPCPeersTests {
    /// With as many servers, a proxy before them, and a client of the proxy.
    private func withPeers(
        _ count: Int = 1, _ body: @Sendable @escaping (Client, ProxyRig, [EchoService]) async throws -> Void
    ) async throws {
        let services = (0..<count).map { _ in EchoService() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            var servers: [GRPCServer<HTTP2ServerTransport.Posix>] = []
            var endpoints: [RouteIR.Endpoint] = []
            for service in services {
                let transport = HTTP2ServerTransport.Posix(
                    address: .ipv4(host: "127.0.0.1", port: 0), transportSecurity: .plaintext)
                let server = GRPCServer(transport: transport, services: [service])
                group.addTask { try await server.serve() }
                servers.append(server)
                let port = try await transport.listeningAddress.ipv4?.port ?? 0
                endpoints.append(RouteIR.Endpoint(Addressing.SocketAddress(IPAddress(v4: 0x7f00_0001), UInt16(port))))
            }
            var upstream = Upstream(id: upstreamID("cart"), wire: .h2c, endpoints: endpoints)
            upstream.policy.loadBalancing = .roundRobin
            let rig = try await ProxyRig(nil, [upstream])
            try await withGRPCClient(
                transport: .http2NIOPosix(
                    target: .ipv4(address: "127.0.0.1", port: Int(rig.address.port)), transportSecurity: .plaintext)
            ) { client in try await body(client, rig, services) }
            await rig.engine.shutdown()
            for server in servers { server.beginGracefulShutdown() }
            try await group.waitForAll()
        }
    }

    private static func ask(
        _ client: Client, _ name: String, _ message: [UInt8], metadata: Metadata = [:],
        options: CallOptions = .defaults
    ) async throws -> ([UInt8], Metadata) {
        try await client.unary(
            request: ClientRequest(message: message, metadata: metadata), descriptor: method(name), serializer: Raw(),
            deserializer: Raw(), options: options
        ) { response in (try response.message, response.trailingMetadata) }
    }

    @Test func unaryCallsCarryMetadataAndTrailers() async throws {
        try await withPeers { client, rig, _ in
            let (message, trailers) = try await Self.ask(client, "Echo", [1, 2, 3], metadata: ["x-name": "cart-7"])
            #expect(message == [1, 2, 3])
            #expect(Array(trailers[stringValues: "x-end"]) == ["cart-7"])
            try eventually("the record") { rig.log.records.count == 1 }
            let record = try #require(rig.log.records.first)
            #expect(record.grpcStatus?.rawValue == 0 && record.requestMessages == 1 && record.responseMessages == 1)
        }
    }

    @Test func errorsKeepTheirStatusAndMessage() async throws {
        try await withPeers { client, _, _ in
            let error = await #expect(throws: RPCError.self) { _ = try await Self.ask(client, "Fail", []) }
            #expect(error?.code == .notFound && error?.message == "no such cart: 100 %")
            let missing = await #expect(throws: RPCError.self) { _ = try await Self.ask(client, "Absent", []) }
            #expect(missing?.code == .unimplemented)
        }
    }

    @Test func clientsStream() async throws {
        try await withPeers { client, rig, _ in
            let request = StreamingClientRequest<[UInt8]> { writer in
                for _ in 0..<500 { try await writer.write([UInt8](repeating: 1, count: 4096)) }
            }
            let sum = try await client.clientStreaming(
                request: request, descriptor: method("Sum"), serializer: Raw(), deserializer: Raw(),
                options: .defaults
            ) { try $0.message }
            #expect(sum == Array("2048000".utf8))
            try eventually("the record") { rig.log.records.count == 1 }
            let record = try #require(rig.log.records.first)
            #expect(record.requestMessages == 500 && record.bytesReceived == 500 * (4096 + 5))
        }
    }

    @Test func serversStreamNoFasterThanClientsRead() async throws {
        try await withPeers { client, _, services in
            // 1,000 messages of 16 KiB, many times what all windows and buffers on the way can hold.
            try await client.serverStreaming(
                request: ClientRequest(message: [UInt8](repeating: 0, count: 1000)), descriptor: method("Many"),
                serializer: Raw(), deserializer: Raw(), options: .defaults
            ) { response in
                var count = 0
                for try await message in response.messages {
                    if count == 0 { #expect(services[0].written < 1000) }
                    #expect(message.count == 16384 && message[0] == UInt8(count & 0xff))
                    count += 1
                }
                #expect(count == 1000)
            }
        }
    }

    @Test func bothSidesStreamInTurn() async throws {
        try await withPeers { client, rig, _ in
            // The next question is asked only when the last is answered: nothing may wait in a buffer.
            let (answers, continuation) = AsyncStream.makeStream(of: Void.self)
            let request = StreamingClientRequest<[UInt8]> { writer in
                var turn = answers.makeAsyncIterator()
                for number in 0..<100 {
                    try await writer.write([UInt8(number)])
                    await turn.next()
                }
            }
            try await client.bidirectionalStreaming(
                request: request, descriptor: method("Echo"), serializer: Raw(), deserializer: Raw(),
                options: .defaults
            ) { response in
                var number: UInt8 = 0
                for try await message in response.messages {
                    #expect(message == [number])
                    number += 1
                    continuation.yield()
                }
                #expect(number == 100)
            }
            try eventually("the record") { rig.log.records.count == 1 }
            let record = try #require(rig.log.records.first)
            #expect(record.requestMessages == 100 && record.responseMessages == 100)
        }
    }

    @Test func deadlinesAndCancellationReachTheServer() async throws {
        try await withPeers { client, rig, services in
            var options = CallOptions.defaults
            // Long enough for the call to arrive on a busy machine.
            options.timeout = .seconds(2)
            let limited = options
            let error = await #expect(throws: RPCError.self) {
                _ = try await Self.ask(client, "Wait", [1], options: limited)
            }
            #expect(error?.code == .deadlineExceeded)
            try eventually("the server hears of it") { services[0].cancelled == 1 }
            let call = Task { try await Self.ask(client, "Wait", [1]) }
            try eventually("the second call") { services[0].calls == 2 }
            call.cancel()
            _ = await call.result
            try eventually("the server hears of that, too") { services[0].cancelled == 2 }
            try eventually("nothing is left") { rig.engine.stats.active == 0 }
        }
    }

    @Test func callsOfOneClientAreSpread() async throws {
        try await withPeers(3) { client, _, services in
            for number in 0..<30 { _ = try await Self.ask(client, "Echo", [UInt8(number)]) }
            #expect(services.map(\.calls) == [10, 10, 10])
        }
    }
}
