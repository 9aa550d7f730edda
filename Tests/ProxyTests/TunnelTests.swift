/// Connections through tunnels, of which the applications notice nothing.
import Addressing
import CertificateAuthority
import Glibc
import Posix
import RouteIR
import Synchronization
import TestSupport
import Testing

@testable import Proxy

@Suite struct TunnelTests {
    /// Sends back what comes until its end, and then ends itself.
    private func echo() throws -> TestListener {
        let listener = try TestListener(at: SocketAddress(serverPod, 0))
        try listener.start { descriptor, _ in
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {
                deliver(descriptor, String(decoding: buffer, as: UTF8.self))
                buffer = []
            }
        }
        return listener
    }

    @Test func bytesPassBothWaysAndSoDoEnds() async throws {
        let server = try echo()
        defer { server.stop() }
        try await TunnelRig.with([server.address]) { rig in
            try rig.trust()
            for _ in 1...3 {
                let client = try rig.connect()
                client.send("hello")
                #expect(client.bytes(5) == "hello")
                client.send(String(repeating: "x", count: 300_000))
                #expect(client.bytes(300_000)?.utf8.count == 300_000)
                client.endOutput()
                #expect(client.rest() == "")
            }
            #expect(rig.tunnels == 1)
            try eventually("both records") { rig.nearLog.flows.count == 3 && rig.farLog.flows.count == 3 }
            for flow in rig.nearLog.flows + rig.farLog.flows {
                #expect(flow.failure == nil && flow.received == 300_005 && flow.sent == 300_005 && flow.isTunnelled)
                #expect(flow.sourceIdentity?.description == "spiffe://cluster.local/ns/shop/sa/client")
                #expect(flow.destinationIdentity?.description == "spiffe://cluster.local/ns/shop/sa/server")
                #expect(flow.source?.workload.name == "client" && flow.destination?.workload.name == "server")
                #expect(flow.client.address == clientPod)
            }
            #expect(rig.farLog.flows.first?.serviceHost == "cart.shop.svc.cluster.local")
        }
    }

    @Test func whatIsSentAtOnceArrivesAtOnce() async throws {
        let server = try TestListener(at: SocketAddress(serverPod, 0))
        let first = Mutex(0)
        try server.start { descriptor, _ in
            var buffer: [UInt8] = []
            _ = readMore(descriptor, &buffer)
            first.withLock { $0 = buffer.count }
            deliver(descriptor, "ok")
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address]) { rig in
            try rig.trust()
            let client = try rig.connect()
            client.send(String(repeating: "x", count: 500))
            #expect(client.bytes(2) == "ok")
            #expect(first.withLock { $0 } == 500, "a connection's first read is short, and went its way alone")
        }
    }

    @Test func serversMaySpeakFirstAndEndFirst() async throws {
        let server = try TestListener(at: SocketAddress(serverPod, 0))
        let heard = Mutex("")
        try server.start { descriptor, _ in
            deliver(descriptor, "220 ready")
            shutdown(descriptor, Int32(SHUT_WR))
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {}
            heard.withLock { $0 = String(decoding: buffer, as: UTF8.self) }
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address]) { rig in
            try rig.trust()
            let client = try rig.connect()
            #expect(client.rest() == "220 ready")
            client.send("goodbye")
            client.endOutput()
            try eventually("the server hears what comes after its own end") { heard.withLock { $0 } == "goodbye" }
            try eventually("the record") { rig.nearLog.flows.first.map { $0.failure == nil } ?? false }
        }
    }

    @Test func aResetIsAReset() async throws {
        let endings = Mutex<[Int32]>([])
        let server = try TestListener(at: SocketAddress(serverPod, 0))
        try server.start { descriptor, number in
            deliver(descriptor, "hello")
            if number == 1 {
                var byte: UInt8 = 0
                let count = recv(descriptor, &byte, 1, 0)
                let code = errno
                endings.withLock { $0.append(count < 0 ? code : 0) }
            } else {
                var now = linger(l_onoff: 1, l_linger: 0)
                setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
            }
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address]) { rig in
            try rig.trust()
            let client = try rig.connect()
            #expect(client.bytes(5) == "hello")
            client.reset()
            try eventually("the server notices") { endings.withLock { $0 } == [ECONNRESET] }

            let other = try rig.connect()
            var byte: UInt8 = 0
            var count = 1
            while count > 0 { count = recv(other.descriptor, &byte, 1, 0) }
            #expect(count < 0 && errno == ECONNRESET)
        }
    }

    @Test func plaintextGoesOnlyWhereNobodyIsEnrolled() async throws {
        let server = try echo()
        defer { server.stop() }
        try await TunnelRig.with([server.address], { $0.workloads[serverPod]?.isEnrolled = false }) { rig in
            let client = try rig.connect()
            client.send("hello")
            #expect(client.bytes(5) == "hello" && rig.tunnels == 0)
        }
        // The kernel brings only pods of the mesh here: one that is not known (yet) is not let out in the clear.
        let before = server.connections
        try await TunnelRig.with([server.address]) { rig in
            let client = try rig.connect(from: IPAddress(v4: 0x7f01_0009))
            client.send("hello")
            #expect(client.rest() == "" && rig.tunnels == 0)
        }
        #expect(server.connections == before)
    }

    /// An enrolled endpoint is reached by a tunnel or not at all.
    @Test func withoutAnIdentityNothingIsSent() async throws {
        let server = try echo()
        defer { server.stop() }
        for side in [clientPod, serverPod] {
            let change: (inout ProxySnapshot) -> Void = { snapshot in
                snapshot.meshPods[side]?.serviceAccount = ""
                snapshot.workloads[side]?.serviceAccount = ""
            }
            try await TunnelRig.with([server.address], change) { rig in
                try rig.trust()
                let client = try rig.connect()
                #expect(client.rest() == "")
                try eventually("the reason") {
                    rig.nearLog.flows.first?.failure?.contains("names no service account") == true
                }
            }
        }
        #expect(server.connections == 0)
    }

    @Test func aConnectionWaitsForItsCertificate() async throws {
        let server = try echo()
        defer { server.stop() }
        try await TunnelRig.with([server.address]) { rig in
            let client = try rig.connect()
            client.send("hello")
            let waits = { rig.near.connectionCount == 1 && server.connections == 0 }
            try eventually("it waits", waits)
            try rig.trust()
            #expect(client.bytes(5) == "hello")
        }
    }

    /// The agent makes them as fast as it can, and a pod that refuses plaintext lets nobody else in.
    @Test func aSocketOfThePodIsWaitedFor() async throws {
        let server = try echo()
        defer { server.stop() }
        let asked = Atomic(0)
        let slow: (inout EngineOptions) -> Void = { options in
            let make = options.makeInnerSocket
            options.connectsInside = { true }
            options.makeInnerSocket = { asked.add(1, ordering: .relaxed).newValue < 4 ? nil : make($0, $1) }
        }
        let rig = try await TunnelRig([server.address], options: slow)
        try rig.trust()
        let client = try rig.connect()
        client.send("hello")
        #expect(client.bytes(5) == "hello" && asked.load(ordering: .relaxed) == 4)
        await rig.end()
    }
}
