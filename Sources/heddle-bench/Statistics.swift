/// Percentiles of measured durations, and the one line of JSON each measurement prints.
import Glibc
import Posix

func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

struct Samples {
    private var nanoseconds: [UInt64] = []

    mutating func add(_ value: UInt64) { nanoseconds.append(value) }
    var count: Int { nanoseconds.count }

    /// In microseconds; `fraction` 0.5 is the median.
    func percentile(_ fraction: Double) -> Double {
        guard !nanoseconds.isEmpty else { return 0 }
        let sorted = nanoseconds.sorted()
        return Double(sorted[min(sorted.count - 1, Int(Double(sorted.count) * fraction))]) / 1000
    }
}

/// Runs `body` and gives its result and how long it took, in milliseconds.
func timed<T>(_ body: () throws -> T) rethrows -> (T, Double) {
    let start = monotonicNanoseconds()
    let result = try body()
    return (result, Double(monotonicNanoseconds() - start) / 1e6)
}

/// Resident memory of this process in MB, from /proc/self/statm.
func residentMegabytes() -> Double {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
    let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let fields = text.split(separator: " ")
    return fields.count > 1 ? Double(Int(fields[1]) ?? 0) * Double(sysconf(Int32(_SC_PAGESIZE))) / 1_048_576 : 0
}

/// Prints `{"name": value, ...}`, numbers rounded to a thousandth.
func printResult(_ fields: [(String, any CustomStringConvertible)]) {
    let text = fields.map { name, value in
        switch value {
        case let number as Double: "\"\(name)\": \((number * 1000).rounded() / 1000)"
        case let number as Int: "\"\(name)\": \(number)"
        default: "\"\(name)\": \"\(value)\""
        }
    }
    let line = "{" + text.joined(separator: ", ") + "}\n"
    _ = writeAll(Array(line.utf8), to: STDOUT_FILENO)
}
