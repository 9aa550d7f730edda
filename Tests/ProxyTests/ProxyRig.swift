/// A proxy with one event loop between a client and backends, all on loopback.
import Addressing
import Glibc
import Proxy
import RouteIR
import Synchronization
import TestSupport

let serviceID = RoutedServiceID(namespace: "shop", name: "cart", port: 80)

func upstreamID(_ name: String) -> UpstreamID { UpstreamID(RoutedServiceID(namespace: "shop", name: name, port: 80)) }

/// An upstream with this name over these backends.
func upstream(
    _ name: String, _ backends: [TestBackend], _ change: (inout UpstreamPolicy) -> Void = { _ in }
) -> Upstream {
    var upstream = Upstream(id: upstreamID(name), endpoints: backends.map { Endpoint($0.address) })
    change(&upstream.policy)
    return upstream
}

func rule(
    _ match: RouteMatch = RouteMatch(), to upstreams: [(String, UInt32)] = [], filters: [RouteFilter] = [],
    _ change: (inout RouteRule) -> Void = { _ in }
) -> RouteRule {
    var rule = RouteRule(name: "shop/cart rule 0", matches: [match])
    rule.backends = upstreams.map { WeightedBackend(.upstream(upstreamID($0.0)), weight: $0.1) }
    rule.filters = filters
    change(&rule)
    return rule
}

/// Keeps what was logged.
final class RecordedLog: AccessLogSink {
    private let state = Mutex((records: [RequestRecord](), flows: [FlowRecord]()))
    var records: [RequestRecord] { state.withLock(\.records) }
    var flows: [FlowRecord] { state.withLock(\.flows) }
    func log(_ record: RequestRecord, node: ProxyNode) { state.withLock { $0.records.append(record) } }
    func log(_ flow: FlowRecord, node: ProxyNode) { state.withLock { $0.flows.append(flow) } }
}

final class ProxyRig: Sendable {
    let engine: ProxyEngine
    let address: SocketAddress
    let log = RecordedLog()

    init(
        _ rules: [RouteRule]?, _ upstreams: [Upstream], options: EngineOptions = EngineOptions(),
        spans: (any SpanSink)? = nil
    ) async throws {
        var options = options
        options.targets.allowsLoopback = true
        engine = ProxyEngine(
            options: options, snapshot: ProxySnapshot(node: ProxyNode(name: "node-1")), logs: log, spans: spans)
        address = try await engine.listen(SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        configure(rules, upstreams)
    }

    func configure(_ rules: [RouteRule]?, _ upstreams: [Upstream]) {
        var service = RoutedService(id: serviceID, portName: "http", clientSpeaks: .http1)
        service.frontends = [address]
        service.producerRoutes = rules
        var snapshot = engine.snapshot
        snapshot.generation += 1
        snapshot.services = [serviceID: service]
        snapshot.upstreams = [:]
        for upstream in upstreams { snapshot.upstreams[upstream.id] = upstream }
        snapshot.workloads[IPAddress(v4: 0x7f00_0001)] = Workload(
            namespace: "shop", pod: "client-1", name: "client", app: "client", version: "v1",
            canonicalService: "client")
        engine.adopt(snapshot)
    }

    /// With a proxy in front of these backends for the time of `body`.
    static func with(
        _ rules: [RouteRule]?, _ upstreams: [Upstream], options: EngineOptions = EngineOptions(),
        _ body: (ProxyRig) async throws -> Void
    ) async throws {
        let rig = try await ProxyRig(rules, upstreams, options: options)
        do { try await body(rig) } catch {
            await rig.engine.shutdown()
            throw error
        }
        await rig.engine.shutdown()
    }

    func connect(from: IPAddress? = nil) throws -> TestClient { try TestClient(address, from: from) }

    /// Answer to one request on a connection of its own.
    func ask(_ request: String) throws -> TestClient.Answer {
        let client = try connect()
        defer { client.hangUp() }
        client.send(request)
        guard let answer = client.answer(isHead: request.hasPrefix("HEAD")) else {
            throw TestFailure("no answer to \(request)")
        }
        return answer
    }
    func post(_ body: String) throws -> TestClient.Answer {
        try ask("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: \(body.utf8.count)\r\n\r\n" + body)
    }
    func get(_ path: String, _ headers: String = "") throws -> TestClient.Answer {
        try ask("GET \(path) HTTP/1.1\r\nHost: cart\r\n\(headers)\r\n")
    }
}

/// A client's connection; reading blocks until there is an answer or the end.
final class TestClient {
    struct Answer {
        let head: String
        let body: [UInt8]
        var status: Int { Int(head.split(separator: " ")[1]) ?? 0 }
        var text: String { String(decoding: body, as: UTF8.self) }
        func header(_ name: String) -> String? {
            head.split(separator: "\r\n").first { $0.lowercased().hasPrefix(name + ":") }.map {
                String($0.dropFirst(name.count + 1).trimmed)
            }
        }
    }
    let descriptor: Int32
    private var buffer: [UInt8] = []
    private var isClosed = false

    /// `isTight`: the kernel keeps some ten KB for it on either side, not megabytes.
    init(_ to: SocketAddress, from: IPAddress? = nil, isTight: Bool = false) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        if isTight {
            var (segment, room) = (Int32(536), Int32(4096))
            setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_MAXSEG, &segment, socklen_t(MemoryLayout<Int32>.size))
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &room, socklen_t(MemoryLayout<Int32>.size))
        }
        if let from, SocketAddress(from, 0).withSockaddr({ bind(descriptor, $0, $1) }) != 0 {
            throw TestFailure.errno("bind to \(from)")
        }
        let result = to.withSockaddr { Glibc.connect(descriptor, $0, $1) }
        guard result == 0 else { throw TestFailure.errno("connect to \(to)") }
        // A test that would wait for ever fails instead.
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
    deinit { hangUp() }

    func send(_ text: String) { deliver(descriptor, text) }
    func endOutput() { shutdown(descriptor, Int32(SHUT_WR)) }
    /// Ends the connection with a reset: a mere close looks like the end of the client's output.
    func reset() {
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        hangUp()
    }
    func hangUp() {
        if !isClosed { close(descriptor) }
        isClosed = true
    }

    /// The next answer; nil: the connection ended before it was whole.
    func answer(isHead: Bool = false) -> Answer? {
        readMessage(descriptor, &buffer, hasBody: !isHead).map { Answer(head: $0.0, body: $0.1) }
    }
    /// Everything until the end of the connection.
    func rest() -> String {
        while readMore(descriptor, &buffer) {}
        return String(decoding: buffer, as: UTF8.self)
    }
    /// Whether the proxy still has the connection.
    var isOpen: Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT))
        return count > 0 || count < 0 && errno == EAGAIN
    }
    func bytes(_ count: Int) -> String? {
        while buffer.count < count { guard readMore(descriptor, &buffer) else { return nil } }
        defer { buffer.removeFirst(count) }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }
}
