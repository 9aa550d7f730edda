/// Traffic of one kind to one target, as one client makes it: an operation after the other, each timed.
import Addressing
import Glibc

enum Traffic: String, CaseIterable {
    /// connect(2) alone; what follows is not timed.
    case connect
    /// A connection for each request: connect, send, receive, close.
    case crr
    /// The same, closed in order by both ends.
    case whole
    /// Requests over one connection.
    case rr
    /// Megabytes over one connection.
    case stream
    /// A socket for each datagram and its answer, as a resolver does.
    case udp
}

/// `cgroup` holds the client and the server, so that its CPU time is that of both ends and of the kernel between them.
func benchTraffic(_ kind: Traffic, target: SocketAddress, count: Int, cgroup: String) throws {
    let connection = kind == .rr || kind == .stream ? try Connection(to: target) : nil
    if kind == .stream { try connection?.send([ServerRole.sink.rawValue]) }
    var payload = [UInt8](repeating: 0, count: kind == .stream ? 1 << 20 : 64)
    payload[0] = ServerRole.echo.rawValue
    let once: () throws -> UInt64 = {
        let start = monotonicNanoseconds()
        switch kind {
        case .connect: return try Connection(to: target).connectTime
        case .crr: try Connection(to: target).exchange(payload)
        case .whole:
            let connection = try Connection(to: target)
            try connection.exchange(payload)
            try connection.endInOrder()
        case .rr: try connection?.exchange(payload)
        case .stream: try connection?.send(payload)
        case .udp: try exchangeDatagram(payload, with: target)
        }
        return monotonicNanoseconds() - start
    }
    // The first find cold caches and, on a connection, a small window.
    for _ in 0..<max(1, count / 10) { _ = try once() }
    var samples = Samples()
    let (before, start) = (try cpuMicroseconds(cgroup), monotonicNanoseconds())
    for _ in 0..<count { samples.add(try once()) }
    if kind == .stream { try connection?.awaitEnd() }
    let seconds = Double(monotonicNanoseconds() - start) / 1e9
    let used = try cpuMicroseconds(cgroup) - before
    printResult([
        ("ops", count), ("p50_us", samples.percentile(0.5)), ("p99_us", samples.percentile(0.99)),
        ("per_s", Double(count) / seconds), ("cpu_us", Double(used) / Double(count)),
    ])
}

/// Requests, each over a connection of its own, until standard input ends; counts those that fail.
func benchSteadily(_ target: SocketAddress, rate: Int) throws {
    let payload: [UInt8] = [ServerRole.echo.rawValue]
    var (requests, failures) = (0, 0)
    let begin = monotonicNanoseconds()
    var input = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
    while true {
        let due = begin + UInt64(requests) * 1_000_000_000 / UInt64(rate)
        let now = monotonicNanoseconds()
        guard poll(&input, 1, due > now ? Int32((due - now) / 1_000_000) : 0) == 0 else { break }
        requests += 1
        do {
            try Connection(to: target, limitMilliseconds: 500).exchange(payload)
        } catch {
            failures += 1
        }
    }
    printResult([("requests", requests), ("failed", failures)])
}

/// CPU time of all processes that have been in a cgroup.
private func cpuMicroseconds(_ cgroup: String) throws -> Int {
    guard let file = fopen(cgroup + "/cpu.stat", "r") else { throw SocketFailure("open \(cgroup)/cpu.stat") }
    defer { fclose(file) }
    var value: Int = 0
    let found = withUnsafeMutablePointer(to: &value) { pointer in
        withVaList([pointer]) { vfscanf(file, "usage_usec %ld", $0) }
    }
    guard found == 1 else { throw SocketFailure("read \(cgroup)/cpu.stat", EINVAL) }
    return value
}
