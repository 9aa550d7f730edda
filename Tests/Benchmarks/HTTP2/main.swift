/// HTTP2Wire beside swift-nio-http2 in one process, in turns: the same header blocks, the same connection. Run by
/// `scripts/bench http2`; prints one line of JSON, nanoseconds for one head or one call, a value for each round.
import Glibc
import HTTP2Wire

func nanoseconds(_ body: () throws -> Void) rethrows -> Double {
    var (begin, end) = (timespec(), timespec())
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin)
    try body()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end)
    return Double(end.tv_sec - begin.tv_sec) * 1e9 + Double(end.tv_nsec - begin.tv_nsec)
}

guard let rounds = CommandLine.arguments.dropFirst().first.flatMap({ Int($0) }) else {
    print("usage: bench-http2 ROUNDS")
    exit(2)
}
let heads = sampleHeads(1000)
let codec = try CodecBench(heads)
let calls = try CallScript(1000)
let pairs: [(name: String, count: Int, ours: () throws -> Void, theirs: () throws -> Void)] = [
    ("encode", heads.count, codec.encodeOurs, codec.encodeTheirs),
    ("decode", heads.count, codec.decodeOurs, codec.decodeTheirs),
    ("connection", calls.count, calls.runOurs, calls.runTheirs),
]
var results: [String] = []
for (name, count, ours, theirs) in pairs {
    var times: [[Double]] = [[], []]
    for round in 0...rounds {
        let pair = [try nanoseconds(ours), try nanoseconds(theirs)]
        // The first fills caches.
        if round > 0 { for side in 0...1 { times[side].append((pair[side] / Double(count)).rounded()) } }
    }
    results.append("\"\(name)\": {\"ours\": \(times[0]), \"theirs\": \(times[1])}")
}
print("{\(results.joined(separator: ", "))}")
