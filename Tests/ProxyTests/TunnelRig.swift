/// Two proxies as two nodes: a client's pod here, a server's pod there, mutual TLS in between, all on loopback.
import Addressing
import CertificateAuthority
import FoundationEssentials
import Glibc
import RouteIR
import Signing
import TestSupport

@testable import Proxy

/// Makes what the proxies show each other.
struct TestAuthority {
    let authority: Authority
    static let now = time(nil)

    init(_ name: String = "root") throws {
        authority = try Authority.root(name: name, notBefore: Self.now - 86_400, notAfter: Self.now + 86_400)
    }

    func credential(
        _ account: String, domain: String = "cluster.local", from: Int = now - 60, until: Int = now + 3600
    ) throws -> WorkloadCredential {
        let (chain, key) = try texts(account, domain: domain, from: from, until: until)
        return WorkloadCredential(
            identity: try identity(account, domain: domain), chain: [try der(chain)], key: try der(key), notAfter: until
        )
    }
    /// The certificate and its key in PEM.
    func texts(
        _ account: String, domain: String = "cluster.local", from: Int = now - 60, until: Int = now + 3600
    ) throws -> (chain: String, key: String) {
        let identity = try identity(account, domain: domain)
        let key = SigningKey.generate()
        let request = try SigningRequest(pem: key.request(uris: [identity.description]))
        let leaf = try authority.issue(request, to: identity, notBefore: from, notAfter: until)
        return (leaf.pem, String(decoding: key.pem, as: UTF8.self))
    }
    func roots() throws -> [[UInt8]] { try authority.chain.suffix(1).map(der) }

    func credentials(_ own: [WorkloadCredential], roots: [TestAuthority]? = nil) throws -> WorkloadCredentials {
        WorkloadCredentials(
            byIdentity: Dictionary(uniqueKeysWithValues: own.map { ($0.identity, $0) }),
            roots: try (roots ?? [self]).flatMap { try $0.roots() })
    }
}

func identity(_ account: String, domain: String = "cluster.local") throws -> WorkloadIdentity {
    guard let identity = WorkloadIdentity("spiffe://\(domain)/ns/shop/sa/\(account)") else {
        throw TestFailure("no identity of \(account)")
    }
    return identity
}

private func der(_ pem: String) throws -> [UInt8] {
    let text = pem.split(separator: "\n").filter { !$0.hasPrefix("-----") }.joined()
    guard let data = Data(base64Encoded: text) else { throw TestFailure("no PEM: \(pem)") }
    return Array(data)
}

/// The pods.
let clientPod = IPAddress(v4: 0x7f01_0002)
let serverPod = IPAddress(v4: 0x7f01_0003)

final class TunnelRig: Sendable {
    let near: ProxyEngine
    let far: ProxyEngine
    /// Where the service `shop/cart` is dialled.
    let address: SocketAddress
    let nearLog = RecordedLog()
    let farLog = RecordedLog()

    /// Backends listen on the server's pod. `tunnelPort`: where somebody else is the server's node.
    init(
        _ backends: [SocketAddress], clientProtocol: RoutedProtocol = .tcp, wire: Upstream.Wire = .http1,
        tunnelPort: UInt16? = nil, spans: (any SpanSink)? = nil, options set: (inout EngineOptions) -> Void = { _ in },
        _ change: (inout ProxySnapshot) -> Void = { _ in }
    ) async throws {
        // The tunnels' port is the same at all pods.
        let (descriptor, tunnels) = try listen(at: SocketAddress(serverPod, 0))
        var options = EngineOptions()
        options.targets.allowsLoopback = true
        options.tunnelPort = tunnelPort ?? tunnels.port
        options.newsPatience = .zero
        options.makeInnerSocket = { _, _ in
            Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
        options.leadsToRoot = { leadsToRoot($0, through: $1, to: $2) }
        set(&options)
        far = ProxyEngine(
            options: options, snapshot: ProxySnapshot(node: ProxyNode(name: "far")), logs: farLog, spans: nil)
        options.makeSocket = { pod in
            let descriptor = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            _ = SocketAddress(pod, 0).withSockaddr { Glibc.bind(descriptor, $0, $1) }
            return descriptor
        }
        near = ProxyEngine(
            options: options, snapshot: ProxySnapshot(node: ProxyNode(name: "near")), logs: nearLog, spans: spans)
        address = try await near.listen(SocketAddress(IPAddress(v4: 0x7f00_0001), 0))

        var snapshot = ProxySnapshot(generation: 1, node: ProxyNode(name: "near"))
        snapshot.mesh = ProxyMesh()
        for (pod, name) in [(clientPod, "client"), (serverPod, "server")] {
            var workload = Workload(
                namespace: "shop", pod: name + "-1", name: name, app: name, canonicalService: name, serviceAccount: name
            )
            workload.isEnrolled = true
            snapshot.workloads[pod] = workload
        }
        var service = RoutedService(id: serviceID, portName: "tcp", clientSpeaks: clientProtocol)
        service.frontends = [address]
        snapshot.services = [serviceID: service]
        var upstream = Upstream(id: UpstreamID(serviceID), endpoints: backends.map { Endpoint($0) })
        upstream.wire = wire
        snapshot.upstreams = [upstream.id: upstream]
        snapshot.meshPods[clientPod] = MeshPod(namespace: "shop", name: "client-1", uid: "1", serviceAccount: "client")
        change(&snapshot)
        near.adopt(snapshot)
        snapshot.meshPods = [
            serverPod: snapshot.meshPods[serverPod]
                ?? MeshPod(namespace: "shop", name: "server-1", uid: "2", serviceAccount: "server")
        ]
        snapshot.services = [:]
        far.adopt(snapshot)
        try await far.listen(tunnels: descriptor, of: serverPod)
    }

    /// Both know each other.
    func trust(_ authority: TestAuthority? = nil) throws {
        let authority = try authority ?? TestAuthority()
        near.adopt(try authority.credentials([authority.credential("client")]))
        far.adopt(try authority.credentials([authority.credential("server")]))
    }

    static func with(
        _ backends: [SocketAddress], clientProtocol: RoutedProtocol = .tcp, wire: Upstream.Wire = .http1,
        _ change: (inout ProxySnapshot) -> Void = { _ in }, _ body: (TunnelRig) async throws -> Void
    ) async throws {
        let rig = try await TunnelRig(backends, clientProtocol: clientProtocol, wire: wire, change)
        do { try await body(rig) } catch {
            await rig.end()
            throw error
        }
        await rig.end()
    }
    func end() async {
        await near.shutdown()
        await far.shutdown()
    }

    func connect(from: IPAddress = clientPod) throws -> TestClient { try TestClient(address, from: from) }

    var tunnels: Int { near.collect { $0.tunnels.count }.reduce(0, +) }
}

/// At the server's pod; says back whatever comes.
func echo() throws -> TestListener {
    let listener = try TestListener(at: SocketAddress(serverPod, 0))
    try listener.start { descriptor, _ in
        var buffer: [UInt8] = []
        while readMore(descriptor, &buffer) {
            deliver(descriptor, buffer)
            buffer = []
        }
    }
    return listener
}
func goesOn(_ client: TestClient, _ word: String = "hello") -> Bool {
    client.send(word)
    return client.bytes(word.utf8.count) == word
}
