/// Requests at a fixed rate, each sent when it is due whatever became of those before: an open loop, which a
/// slow server cannot slow down. A latency counts from when the request was due to the last byte of its answer.
import Addressing
import Glibc

struct RateGenerator {
    /// The last byte of every answer, which occurs nowhere else in it: then answers need no parser.
    static let endMark = UInt8(ascii: "~")

    /// What an echo gives back as it is.
    static let echoed = [UInt8](repeating: UInt8(ascii: "e"), count: 99) + [endMark]
    static let http = Array("GET /small HTTP/1.1\r\nHost: web.shop\r\nUser-Agent: heddle-bench\r\n\r\n".utf8)

    private let request: [UInt8]
    private var descriptors: [Int32] = []
    /// When the request under way on a connection was due.
    private var due: [UInt64?] = []
    /// Due, but no connection was free.
    private var waiting: [UInt64] = []
    private var samples = Samples()
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)

    init(_ request: [UInt8], to target: SocketAddress, connections: Int) throws {
        self.request = request
        for _ in 0..<connections {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            guard descriptor >= 0, withAddress(target, { connect(descriptor, $0, $1) }) == 0 else {
                throw SocketFailure("connect \(target)")
            }
            var one: Int32 = 1
            setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
            descriptors.append(descriptor)
            due.append(nil)
        }
    }

    /// The latencies of `count` requests, one every `interval` nanoseconds.
    mutating func run(count: Int, interval: UInt64) throws -> Samples {
        samples = Samples()
        let begin = monotonicNanoseconds()
        var sent = 0
        while samples.count < count {
            let next = begin + UInt64(sent) * interval
            let now = monotonicNanoseconds()
            if sent < count, now >= next {
                sent += 1
                try send(dueAt: next)
                continue
            }
            guard now < begin + UInt64(count) * interval + 10_000_000_000 else {
                throw SocketFailure("\(count - samples.count) requests have no answer", ETIMEDOUT)
            }
            try wait(sent < count ? next - now : 1_000_000_000)
        }
        return samples
    }

    private mutating func send(dueAt moment: UInt64) throws {
        guard let free = due.firstIndex(of: nil) else { return waiting.append(moment) }
        due[free] = moment
        let count = request.withUnsafeBytes {
            Glibc.send(descriptors[free], $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard count == request.count else { throw SocketFailure("send") }
    }

    private mutating func wait(_ nanoseconds: UInt64) throws {
        var limit = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        // There are so few descriptors that all lie in the first word of the set.
        var ready = fd_set()
        for descriptor in descriptors { ready.__fds_bits.0 |= 1 << Int(descriptor) }
        guard pselect(64, &ready, nil, nil, &limit, nil) > 0 else { return }
        for (index, descriptor) in descriptors.enumerated() where ready.__fds_bits.0 >> Int(descriptor) & 1 != 0 {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { throw SocketFailure("the server ended a connection", count == 0 ? EPIPE : errno) }
            guard buffer[count - 1] == Self.endMark, let since = due[index] else { continue }
            samples.add(monotonicNanoseconds() - since)
            due[index] = nil
            if !waiting.isEmpty { try send(dueAt: waiting.removeFirst()) }
        }
    }
}

func benchRate(_ request: [UInt8], to target: SocketAddress, rate: Int, seconds: Int) throws {
    // The kernel would let us sleep 50 µs too long.
    guard let slack = fopen("/proc/self/timerslack_ns", "w") else { throw SocketFailure("set the timer slack") }
    fputs("1", slack)
    fclose(slack)
    var generator = try RateGenerator(request, to: target, connections: 16)
    let interval = UInt64(1_000_000_000 / rate)
    _ = try generator.run(count: max(32, rate / 2), interval: interval)
    let samples = try generator.run(count: rate * seconds, interval: interval)
    printResult([
        ("requests", samples.count), ("p50_us", samples.percentile(0.5)), ("p99_us", samples.percentile(0.99)),
        ("p999_us", samples.percentile(0.999)),
    ])
}
