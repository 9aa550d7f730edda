// Applications that want to hear of their clients in a PROXY header, where a tunnel leads to them.
import Addressing
import Glibc
import ProxyProtocol
import RouteIR
import Synchronization
import TestSupport
import Testing

@testable import Proxy

@Suite struct TunnelHeaderTests {
    /// Keeps all that comes, and says that it is there before it has read anything.
    private final class Server: Sendable {
        private let listener: TestListener
        private let heard = Mutex([UInt8]())
        var address: SocketAddress { listener.address }
        var bytes: [UInt8] { heard.withLock { $0 } }

        init() throws {
            listener = try TestListener(at: SocketAddress(serverPod, 0))
            try listener.start { descriptor, _ in
                deliver(descriptor, "220 ready")
                var buffer: [UInt8] = []
                repeat { self.heard.withLock { $0 = buffer } } while readMore(descriptor, &buffer)
            }
        }
        func stop() { listener.stop() }
    }

    /// The server's pod, which wants headers on these ports.
    private func pod(_ ports: Set<UInt16>) -> MeshPod {
        MeshPod(namespace: "shop", name: "server-1", uid: "2", serviceAccount: "server", headerPorts: ports)
    }

    @Test func theClientIsToldBeforeItsFirstByte() async throws {
        let server = try Server()
        defer { server.stop() }
        try await TunnelRig.with([server.address]) {
            $0.meshPods[serverPod] = pod([server.address.port])
        } _: { rig in
            try rig.trust()
            let client = try rig.connect()
            #expect(client.bytes(9) == "220 ready")
            let header = ProxyHeader(
                from: client.local, to: server.address, identity: "spiffe://cluster.local/ns/shop/sa/client")
            try eventually("the header is there before the client has sent anything") { server.bytes == header.bytes }
            client.send("hello")
            try eventually("what the client sends follows") { server.bytes == header.bytes + Array("hello".utf8) }
            client.endOutput()
            #expect(client.rest() == "")
            // It is none of the client's bytes.
            try eventually("the record") { rig.farLog.flows.first?.received == 5 }
        }
    }

    @Test func otherPortsGetNone() async throws {
        let server = try Server()
        defer { server.stop() }
        try await TunnelRig.with([server.address]) {
            $0.meshPods[serverPod] = pod([server.address.port &+ 1])
        } _: { rig in
            try rig.trust()
            let client = try rig.connect()
            client.send("hello")
            try eventually("its bytes") { server.bytes == Array("hello".utf8) }
        }
    }

    /// A reader that is not ours takes its client's address from it.
    @Test(.enabled(if: hasHAProxy, "haproxy")) func anHAProxyBelievesIt() async throws {
        let directory = try TemporaryDirectory()
        let (descriptor, address) = try listen(at: SocketAddress(serverPod, 0))
        try writeText(
            """
            defaults
                mode http
                timeout client 60s
            frontend web
                bind fd@3 accept-proxy
                http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]"

            """, to: directory.path + "/conf")
        let haproxy = try ChildProcess(
            ["haproxy", "-db", "-f", directory.path + "/conf"], descriptors: [0, 1, 2, descriptor])
        close(descriptor)
        defer { haproxy.signal(SIGTERM) }
        try await TunnelRig.with([address]) {
            $0.meshPods[serverPod] = pod([address.port])
        } _: { rig in
            try rig.trust()
            for _ in 1...3 {
                let client = try rig.connect()
                client.send("GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
                #expect(client.answer()?.text == "\(client.local) \(address)")
            }
        }
    }
}

private let hasHAProxy =
    getenv("HEDDLE_REQUIRE_KERNEL_TESTS") != nil
    || ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"].contains { (path: String) in access(path, X_OK) == 0 }

extension TestClient {
    /// Our end.
    fileprivate var local: SocketAddress {
        let found = withUnsafeTemporaryAllocation(byteCount: 128, alignment: 8) { (name) -> SocketAddress? in
            var length = socklen_t(name.count)
            _ = name.withMemoryRebound(to: sockaddr.self) { getsockname(descriptor, $0.baseAddress, &length) }
            return SocketAddress(sockaddr: UnsafeRawBufferPointer(name))
        }
        return found ?? SocketAddress(IPAddress(v4: 0), 0)
    }
}
