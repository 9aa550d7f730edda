/// Tunnels under pressure and at their end: who does not read, who leaves, who is not known yet.
import Addressing
import Balancing
import CertificateAuthority
import Glibc
import Posix
import RouteIR
import Synchronization
import TestSupport
import Testing

@testable import Proxy

private func unsentBytes(_ descriptor: Int32) -> Int32 {
    var count: Int32 = 0
    return ioctl(descriptor, UInt(TIOCOUTQ), &count) == 0 ? count : -1
}

@Suite struct TunnelEndTests {
    /// What nobody takes stays with who sends it.
    @Test func whoDoesNotReadMakesTheOtherWait() async throws {
        let mayRead = Semaphore()
        let total = Mutex(0)
        let server = try TestListener(at: SocketAddress(serverPod, 0))
        try server.start { descriptor, _ in
            mayRead.wait()
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {
                let count = buffer.count
                total.withLock { $0 += count }
                buffer = []
            }
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address]) { rig in
            try rig.trust()
            let client = try rig.connect()
            let piece = [UInt8](repeating: 1, count: 64 << 10)
            var sent = 0
            // As long as any of it goes.
            try eventually("nothing more is taken") {
                var pause = pollfd(fd: client.descriptor, events: Int16(POLLOUT), revents: 0)
                guard poll(&pause, 1, 500) > 0 else { return true }
                let count = send(client.descriptor, piece, piece.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
                if count > 0 { sent += count }
                return false
            }
            #expect(sent < 64 << 20)
            #expect(rig.near.stats.held < 8 << 20 && rig.far.stats.held < 16 << 20)
            mayRead.signal()
            client.endOutput()
            #expect(client.rest() == "")
            let all = sent
            try eventually("all has come") { total.withLock { $0 } == all }
            try eventually("nothing is held") { rig.near.stats.held + rig.far.stats.held < 1 << 20 }
        }
    }

    /// A proxy that ends serves what it has, and takes nothing new.
    @Test func aNodeThatLeavesFinishesItsStreams() async throws {
        let server = try TestListener(at: SocketAddress(serverPod, 0))
        try server.start { descriptor, _ in
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {
                deliver(descriptor, buffer)
                buffer = []
            }
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address]) { rig in
            try rig.trust()
            let client = try rig.connect()
            client.send("one")
            #expect(client.bytes(3) == "one")
            rig.far.drain()
            try eventually("the client's node knows") {
                rig.near.collect { $0.tunnels.hasRoom }.allSatisfy { !$0 }
            }
            client.send("two")
            #expect(client.bytes(3) == "two")
            client.endOutput()
            #expect(client.rest() == "")
            try eventually("the tunnel goes with its last stream") { rig.tunnels == 0 && rig.far.connectionCount == 0 }
        }
    }

    /// The kernel may know of a pod before the proxy does: it is waited for, and then its connection is a tunnel.
    @Test func whoIsNotKnownYetIsNotSentInTheClear() async throws {
        let server = try TestListener(at: SocketAddress(serverPod, 0))
        try server.start { descriptor, _ in deliver(descriptor, "hello") }
        defer { server.stop() }
        let unknown: (inout ProxySnapshot) -> Void = { snapshot in
            snapshot.workloads[clientPod] = nil
            snapshot.meshPods[clientPod] = nil
        }
        let patient: (inout EngineOptions) -> Void = { options in
            options.clientPatience = .seconds(60)
            options.isOwnAddress = { _ in false }
        }
        let rig = try await TunnelRig([server.address], options: patient, unknown)
        try rig.trust()
        let client = try rig.connect()
        try eventually("it waits") { rig.near.stats.heldClients == 1 }
        #expect(server.connections == 0)
        var snapshot = rig.near.snapshot
        snapshot.generation += 1
        snapshot.workloads[clientPod] = Workload(
            namespace: "shop", pod: "client-1", name: "client", canonicalService: "client", serviceAccount: "client")
        snapshot.meshPods[clientPod] = MeshPod(namespace: "shop", name: "client-1", uid: "1", serviceAccount: "client")
        rig.near.adopt(snapshot)
        #expect(client.rest() == "hello" && rig.tunnels == 1)
        await rig.end()
    }

    /// As `echo question | nc -N` does: all is said before there is anybody to hear it.
    @Test func whoHasSaidAllBeforeTheTunnelIsThereIsHeard() async throws {
        let server = try TestListener(at: SocketAddress(serverPod, 0))
        try server.start { descriptor, _ in
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {}
            deliver(descriptor, "\(buffer.count)")
        }
        defer { server.stop() }
        try await TunnelRig.with([server.address]) { rig in
            let client = try rig.connect()
            client.send("hello")
            client.endOutput()
            try eventually("it waits for a certificate") { rig.near.connectionCount == 1 }
            // Both have arrived, whenever the proxy reads them.
            try eventually("what it sent was taken") { unsentBytes(client.descriptor) == 0 }
            try rig.trust()
            #expect(client.rest() == "5")
        }
    }

    /// The server's node may hear first that its pod has left the mesh, and last that it has joined.
    @Test(arguments: [true, false]) func nodesNeedNotKnowTheSameAtOnce(leaves: Bool) async throws {
        let server = try TestListener(at: SocketAddress(serverPod, 0))
        try server.start { descriptor, _ in deliver(descriptor, "hello") }
        defer { server.stop() }
        let rig = try await TunnelRig([server.address], options: { $0.newsPatience = .seconds(60) })
        try rig.trust()
        var snapshot = rig.far.snapshot
        let mesh = snapshot.mesh
        snapshot.generation += 1
        snapshot.mesh = nil
        rig.far.adopt(snapshot)
        let client = try rig.connect()
        try eventually("it is tried again") { rig.near.stats.tunnelRefusals.values.reduce(0, +) >= 2 }
        #expect(server.connections == 0)
        if leaves {
            snapshot = rig.near.snapshot
            snapshot.workloads[serverPod]?.isEnrolled = false
        } else {
            snapshot.mesh = mesh
        }
        snapshot.generation += 1
        (leaves ? rig.near : rig.far).adopt(snapshot)
        #expect(client.rest() == "hello")
        try eventually("the record") { rig.nearLog.records.count == 1 || rig.tunnels == (leaves ? 0 : 1) }
        await rig.end()
    }

    @Test func silenceIsAskedAboutAndThenTheEnd() {
        let start = Moment(nanoseconds: 1_000_000_000)
        var pulse = Pulse(start)
        #expect(pulse.tick(start + .seconds(9)) == .alive)
        #expect(pulse.tick(start + .seconds(10)) == .ask)
        #expect(pulse.tick(start + .seconds(20)) == .alive)
        #expect(pulse.tick(start + .seconds(21)) == .dead)
        pulse.heard(start + .seconds(15))
        #expect(pulse.tick(start + .seconds(24)) == .alive)
        #expect(pulse.tick(start + .seconds(25)) == .ask)
    }
}
