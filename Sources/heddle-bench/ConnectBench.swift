/// connect() through a service address divided by connect() to the endpoint itself, interleaved so that a change of the
/// machine's speed hits both alike.
import Addressing

func benchConnect(virtual: [SocketAddress], direct: SocketAddress, count: Int) throws {
    var through = Samples()
    var plain = Samples()
    for round in 0..<(count + count / 10) {
        let target = virtual[round % virtual.count]
        // Take turns at going first: the second of a pair finds warmer caches.
        let (a, b): (UInt64, UInt64)
        if round % 2 == 0 {
            a = try timedConnect(to: target)
            b = try timedConnect(to: direct)
        } else {
            b = try timedConnect(to: direct)
            a = try timedConnect(to: target)
        }
        guard round >= count / 10 else { continue }
        through.add(a)
        plain.add(b)
    }
    printResult([
        ("connects", through.count),
        ("service_p50_us", through.percentile(0.5)), ("direct_p50_us", plain.percentile(0.5)),
        ("service_p99_us", through.percentile(0.99)), ("direct_p99_us", plain.percentile(0.99)),
        ("ratio_p50", through.percentile(0.5) / plain.percentile(0.5)),
        ("ratio_p99", through.percentile(0.99) / plain.percentile(0.99)),
    ])
}
