/// What connections and bodies cost in memory, and what happens when descriptors run out.
import Addressing
import Glibc
import HTTP2TestSupport
import Posix
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite(.serialized) struct ResourceTests {
    /// An endpoint that answers one request, with so many bytes: as fast as they are taken, and in no memory.
    private func serveOnce(_ size: Int) throws -> (listener: Int32, address: SocketAddress) {
        let (listener, address) = try listen(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        try startThread {
            let descriptor = accept(listener, nil, nil)
            var buffer: [UInt8] = []
            _ = readMessage(descriptor, &buffer)
            deliver(descriptor, "HTTP/1.1 200 OK\r\ncontent-length: \(size)\r\n\r\n")
            let piece = [UInt8](repeating: 0x78, count: 1 << 20)
            for _ in 0..<(size >> 20) { deliver(descriptor, piece) }
            close(descriptor)
        }
        return (listener, address)
    }

    /// `HEDDLE_BODY_GIB` makes it longer than the one that every run can afford.
    @Test func aLongBodyTakesNoMemory() async throws {
        let gigabytes = ProcessEnvironment.number("HEDDLE_BODY_GIB") ?? 1
        let size = gigabytes << 30
        let (listener, address) = try serveOnce(size)
        defer { close(listener) }
        var backend = Upstream(id: upstreamID("cart"), endpoints: [Endpoint(address)])
        backend.policy.connectTimeout = .seconds(5)
        try await ProxyRig.with(nil, [backend]) { rig in
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            var chunk = [UInt8](repeating: 0, count: 1 << 20)
            var (received, early, peak) = (0, 0, 0)
            while received < size {
                let count = read(client.descriptor, &chunk, chunk.count)
                guard count > 0 else { break }
                received += count
                // When all buffers have grown to what they need.
                if early == 0, received > 64 << 20 { early = residentBytes() }
                if received % 7 == 0 { peak = max(peak, residentBytes()) }
            }
            #expect(received >= size)
            #expect(peak - early < 16 << 20, "\((peak - early) >> 20) MiB more after \(received >> 20) MiB")
        }
    }

    /// The queue of such a stream never gets empty; what is out of it must go all the same.
    @Test func aLongBodyReadInSmallStepsTakesNoMemory() async throws {
        let size = 40 << 20
        let (listener, address) = try serveOnce(size)
        defer { close(listener) }
        let backend = Upstream(id: upstreamID("cart"), endpoints: [Endpoint(address)])
        try await ProxyRig.with(nil, [backend]) { rig in
            let client = try rig.connectHTTP2()
            defer { client.hangUp() }
            client.peer.acknowledges = false
            let stream = client.begin("/")
            var (received, owed, early, peak) = (0, 0, 0, 0)
            while received < size, let frame = client.peer.next() {
                guard frame.type == HTTP2Peer.data else { continue }
                received += frame.payload.count
                owed += frame.payload.count
                guard owed >= 20_000 else { continue }
                let increment = client.peer.word(UInt32(owed))
                client.peer.send(HTTP2Peer.windowUpdate, increment)
                client.peer.send(HTTP2Peer.windowUpdate, stream: stream, increment)
                owed = 0
                if early == 0, received > 8 << 20 { early = residentBytes() }
                peak = max(peak, residentBytes())
            }
            #expect(received == size)
            #expect(peak - early < 12 << 20, "\((peak - early) >> 20) MiB more")
        }
    }

    @Test func tenThousandIdleConnectionsAreCheap() async throws {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        try #require(limit.rlim_cur > 11_000, "the hard limit of open files is \(limit.rlim_cur)")
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            #expect(try rig.get("/").status == 200)
            let before = residentBytes()
            // The clients live in another process, so that what is counted is the proxy's.
            let clients = try ChildProcess(
                [
                    "bash", "-c",
                    "for i in $(seq 10000); do exec {fd}<>/dev/tcp/127.0.0.1/\(rig.address.port); done; exec sleep 600",
                ], descriptors: [0, 1, 2])
            defer { clients.signal(SIGKILL) }
            try eventually("all are accepted", within: .seconds(60)) { rig.engine.connectionCount == 10_000 }
            let each = (residentBytes() - before) / 10_000
            #expect(each < 16_384, "\(each) bytes a connection")
            #expect(try rig.get("/").status == 200)
            clients.signal(SIGKILL)
            _ = try clients.wait()
            try eventually("all are gone") { rig.engine.connectionCount == 0 }
        }
    }
}

func residentBytes() -> Int {
    let pages = readText("/proc/self/statm").split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
}

private enum ProcessEnvironment {
    static func number(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }
}
