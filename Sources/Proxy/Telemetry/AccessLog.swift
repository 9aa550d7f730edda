/// The access log, one line a request, in the text format of Istio or as JSON with the same names (spec 5.4). Loops put
/// lines into a bounded buffer, a thread of its own writes them: a pipe that nobody reads costs lines, not traffic.
import Balancing
import Glibc
package import RouteIR
import Synchronization

package final class AccessLog: AccessLogSink {
    package enum Format: String, Sendable, CaseIterable {
        case text, json
    }
    private static let limit = 4 << 20

    private struct State {
        var buffer: [UInt8] = []
        var lost: UInt64 = 0
        var tail = LogTail()
        var isStopped = false
    }
    private let format: Format
    private let descriptor: Int32
    private let state = Mutex(State())

    package init(_ format: Format, descriptor: Int32 = STDOUT_FILENO) throws(ProxyError) {
        self.format = format
        self.descriptor = descriptor
        try startThread { self.run() }
    }

    /// Lines that were thrown away because writing them took too long.
    package var lostLines: UInt64 { state.withLock(\.lost) }

    /// For `agentctl logs`: JSON with the lines from an offset on.
    package func answer(from offset: UInt64) -> [UInt8] {
        let (text, next, missed) = state.withLock { $0.tail.read(from: offset) }
        return Array("{\"next\":\(next),\"missed\":\(missed),\"text\":\(jsonString(text))}".utf8)
    }

    package func log(_ record: RequestRecord, node: ProxyNode) {
        var wall = timespec()
        clock_gettime(CLOCK_REALTIME, &wall)
        let line = accessLine(record, format, started: before(wall, record.ended.nanosecondsSince(record.began)))
        state.withLock { state in
            guard state.buffer.count < Self.limit else {
                state.lost += 1
                return
            }
            state.buffer += line
        }
    }

    /// Writes what is left and ends the thread.
    package func stop() {
        state.withLock { $0.isStopped = true }
        write()
    }

    private func run() {
        while !state.withLock(\.isStopped) {
            usleep(100_000)
            write()
        }
    }

    private func write() {
        let bytes = state.withLock { state in
            defer { state.buffer = [] }
            state.tail.append(state.buffer)
            return state.buffer
        }
        bytes.withUnsafeBytes { raw in
            var written = 0
            while written < raw.count {
                let count = Glibc.write(descriptor, raw.baseAddress.map { $0 + written }, raw.count - written)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                written += count
            }
        }
    }
}

private func before(_ time: timespec, _ duration: UInt64) -> timespec {
    let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec - Int(clamping: duration)
    return timespec(tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000)
}
