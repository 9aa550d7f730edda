/// How fast a list of EndpointSlices, read from standard input as it comes from an API server, becomes objects, and how
/// much memory that takes: what arrives is never held as a whole.
import Cluster
import Glibc
import PullJSON

func benchDecode() throws {
    var framer = ListFramer()
    var decoder = ObjectDecoder()
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    var (bytes, objects) = (0, 0)
    var nanoseconds: UInt64 = 0
    let before = residentMegabytes()
    while true {
        let count = read(STDIN_FILENO, &chunk, chunk.count)
        guard count >= 0 else { throw SocketFailure("read") }
        if count == 0 { break }
        let start = monotonicNanoseconds()
        try framer.push(chunk.span.extracting(0..<count)) { piece, text in
            guard piece == .item else { return }
            var reader = JSONReader(text)
            _ = try decoder.decode(.endpointSlice, json: &reader)
            objects += 1
        }
        nanoseconds += monotonicNanoseconds() - start
        bytes += count
    }
    guard framer.isComplete else { throw SocketFailure("the list has no end", EINVAL) }
    printResult([
        ("slices", objects), ("mb", Double(bytes) / 1e6), ("mb_per_s", Double(bytes) * 1000 / Double(nanoseconds)),
        ("us_per_slice", Double(nanoseconds) / 1000 / Double(max(objects, 1))),
        ("memory_mb", residentMegabytes() - before),
    ])
}
