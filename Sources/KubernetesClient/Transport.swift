/// Requests to one API server: AsyncHTTPClient on one event loop of its own, HTTP/1.1, one connection for each watch.
/// HTTP/2 would carry all watches over one connection, and without pings of its own a dead one would go unnoticed.
import AsyncHTTPClient
import Glibc
import NIOCore
import NIOHTTP1
import NIOHTTPCompression
import NIOPosix

struct Transport: Sendable {
    let access: ClusterAccess
    private let credentials: Credentials
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let client: HTTPClient
    private let timing: KubernetesSource.Timing
    private let program: String

    /// `program`: as the server's audit log calls us.
    init(_ access: ClusterAccess, timing: KubernetesSource.Timing, program: String = "heddle-agent") {
        self.program = program
        self.access = access
        self.timing = timing
        credentials = Credentials(access, backoff: timing.backoff)
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow,
            timeout: .init(connect: .nanoseconds(timing.connect), read: .nanoseconds(timing.silence)),
            // Lists shrink to a tenth. They are cut up as they come, so that their size needs no limit.
            decompression: .enabled(limit: .none))
        configuration.httpVersion = .http1Only
        configuration.connectionPool.idleTimeout = .seconds(30)
        // Each watch keeps one; past the limit requests would wait until a watch ends.
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 64
        // A failure is told at once, and how long to wait then is decided elsewhere.
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.proxy = access.proxy.map(Self.proxy)
        if let name = access.tlsServerName {
            // The certificate is checked for the name in the URL; this is where that name really is.
            configuration.dnsOverride = [name: access.server.host]
        }
        configuration.http1_1ConnectionDebugInitializer = { channel in watchOverPath(of: channel) }
        client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
    }

    /// Does not wait: a TLS connection takes five seconds to close when the server does not say goodbye, and the agent
    /// has no more than that to end. The loop's thread ends once all are closed.
    func shutdown() {
        let group = group
        client.shutdown { _ in group.shutdownGracefully { _ in } }
    }

    /// Sends a GET and returns as soon as the answer begins.
    func get(_ path: String, query: [(name: String, value: String)] = []) async throws -> HTTPClientResponse {
        try await send(.GET, path, query: query)
    }

    /// Creates an object, given as JSON, in a collection.
    func post(_ path: String, json: String) async throws -> HTTPClientResponse {
        try await send(.POST, path, body: ByteBuffer(string: json))
    }

    /// The body is not sent any more.
    struct NotAllowed: Error {}

    /// `isAllowed` is asked when the connection waits for the body: without it the server does nothing.
    func send(
        _ method: HTTPMethod, _ path: String, query: [(name: String, value: String)] = [], body: ByteBuffer? = nil,
        contentType: String = "application/json", while isAllowed: (@Sendable () -> Bool)? = nil
    ) async throws -> HTTPClientResponse {
        let credential = try await credentials.current()
        let server = access.server
        let text = query.map { "\($0.name)=\(percentEncoded($0.value))" }.joined(separator: "&")
        let host = server.authority(host: access.tlsServerName)
        let end = text.isEmpty ? "" : "?" + text
        var request = HTTPClientRequest(url: "\(server.scheme)://\(host)\(server.path)\(path)\(end)")
        request.method = method
        if let body {
            request.headers.add(name: "Content-Type", value: contentType)
            request.body =
                if let isAllowed {
                    .stream(FencedBody(bytes: body, isAllowed: isAllowed), length: .known(Int64(body.readableBytes)))
                } else {
                    .bytes(body)
                }
        }
        request.headers.add(name: "Host", value: server.authority())
        request.headers.add(name: "Accept", value: "application/json")
        request.headers.add(name: "Accept-Encoding", value: "gzip")
        request.headers.add(name: "User-Agent", value: program)
        if let authorization = credential.authorization {
            request.headers.add(name: "Authorization", value: authorization)
        }
        request.tlsConfiguration = credential.tls
        let response = try await client.execute(request, deadline: .now() + .nanoseconds(timing.answer))
        if response.status == .unauthorized { await credentials.refused(credential) }
        return response
    }

    /// One piece, which is looked at once more before it goes.
    private struct FencedBody: AsyncSequence, AsyncIteratorProtocol, Sendable {
        var bytes: ByteBuffer?
        let isAllowed: @Sendable () -> Bool
        func makeAsyncIterator() -> FencedBody { self }
        mutating func next() async throws -> ByteBuffer? {
            guard let bytes = bytes.take() else { return nil }
            guard isAllowed() else { throw NotAllowed() }
            return bytes
        }
    }

    private static func proxy(_ address: ServerAddress) -> HTTPClient.Configuration.Proxy {
        if address.scheme == "socks5" { return .socksServer(host: address.host, port: address.port) }
        let parts = address.userInfo?.split(separator: ":", maxSplits: 1).map(String.init)
        let authorization = parts.map {
            HTTPClient.Authorization.basic(username: $0.first ?? "", password: $0.count > 1 ? $0[1] : "")
        }
        return .server(host: address.host, port: address.port, authorization: authorization)
    }
}

/// Lets the kernel find out within half a minute that nobody is there any more, although nothing is being sent.
@Sendable
private func watchOverPath(of channel: any Channel) -> EventLoopFuture<Void> {
    func set(_ level: NIOBSDSocket.OptionLevel, _ name: Int32, _ value: Int) -> EventLoopFuture<Void> {
        let option = ChannelOptions.Types.SocketOption(level: level, name: NIOBSDSocket.Option(rawValue: name))
        // Not every channel is a TCP socket (a proxy's tunnel is): then there is nothing to watch over.
        return channel.setOption(option, value: value).recover { _ in }
    }
    let settings = [
        set(.socket, SO_KEEPALIVE, 1), set(.tcp, TCP_KEEPIDLE, 15), set(.tcp, TCP_KEEPINTVL, 5),
        set(.tcp, TCP_KEEPCNT, 3), set(.tcp, TCP_USER_TIMEOUT, 30_000),
    ]
    return EventLoopFuture.andAllComplete(settings, on: channel.eventLoop)
}

extension TimeAmount {
    fileprivate static func nanoseconds(_ duration: Duration) -> TimeAmount {
        let (seconds, attoseconds) = duration.components
        return .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}

/// A value in a query (RFC 3986: only unreserved characters stay).
private func percentEncoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            result.unicodeScalars.append(Unicode.Scalar(byte))
        default:
            let digits = String(byte, radix: 16, uppercase: true)
            result += digits.count == 1 ? "%0\(digits)" : "%\(digits)"
        }
    }
    return result
}
