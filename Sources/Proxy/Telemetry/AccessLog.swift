/// The access log, one line a request, in the text format of Istio or as JSON with the same names (spec 5.4). Loops put
/// lines into a bounded buffer, a thread of its own writes them: a pipe that nobody reads costs lines, not traffic.
import Balancing
import Glibc
package import Posix
package import RouteIR
import Synchronization
import Telemetry

package final class AccessLog: AccessLogSink {
    package enum Format: String, Sendable, CaseIterable {
        case text, json
    }
    private static let limit = 4 << 20
    /// Lines are collected for so long, in microseconds, because writing each by itself costs more than the request.
    private static let pause: UInt32 = 100_000

    private struct State {
        var buffer: [UInt8] = []
        var lost: UInt64 = 0
        var tail = LogTail()
        var isStopped = false
    }
    private let format: Format
    private let descriptor: Int32
    private let state = Mutex(State())
    private let work = Semaphore()
    private let ended = Semaphore()

    package init(_ format: Format, descriptor: Int32 = STDOUT_FILENO) throws(PosixError) {
        self.format = format
        self.descriptor = descriptor
        try startThread { self.run() }
    }

    /// Lines that were thrown away because nobody read them in time, or because writing them failed.
    package var lostLines: UInt64 { state.withLock(\.lost) }

    /// For `agentctl logs`: JSON with the lines from an offset on.
    package func answer(from offset: UInt64) -> [UInt8] {
        let (text, next, missed) = state.withLock { $0.tail.read(from: offset) }
        return Array("{\"next\":\(next),\"missed\":\(missed),\"text\":\(jsonString(text))}".utf8)
    }

    package func log(_ record: RequestRecord, node: ProxyNode) {
        var wall = timespec()
        clock_gettime(CLOCK_REALTIME, &wall)
        add(accessLine(record, format, started: before(wall, record.ended.nanosecondsSince(record.began))))
    }
    package func log(_ flow: FlowRecord, node: ProxyNode) {
        var wall = timespec()
        clock_gettime(CLOCK_REALTIME, &wall)
        add(flowLine(flow, format, node, ended: wall))
    }

    private func add(_ line: [UInt8]) {
        let isFirst = state.withLock { state in
            // Here and not where it is written: who asks for the log gets it also when nobody reads the output.
            state.tail.append(line)
            guard state.buffer.count < Self.limit else {
                state.lost += 1
                return false
            }
            defer { state.buffer += line }
            return state.buffer.isEmpty
        }
        if isFirst { work.signal() }
    }

    /// Writes what is left, for a second at most: an output that nobody reads keeps nothing from ending.
    package func stop() {
        state.withLock { $0.isStopped = true }
        work.signal()
        ended.wait(atMost: 1)
    }

    private func run() {
        while true {
            work.wait()
            // Asked before the last lines are taken: who stops while they are written is heard in the next round.
            let isLast = state.withLock(\.isStopped)
            if !isLast { usleep(Self.pause) }
            write()
            if isLast { return ended.signal() }
        }
    }

    private func write() {
        let bytes = state.withLock { state in
            defer { state.buffer = [] }
            return state.buffer
        }
        let outcome = writeAll(bytes, to: descriptor)
        guard outcome.code != 0 else { return }
        let lines = bytes[outcome.count...].count { $0 == UInt8(ascii: "\n") }
        state.withLock { $0.lost += UInt64(lines) }
    }
}

private func before(_ time: timespec, _ duration: UInt64) -> timespec {
    let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec - Int(clamping: duration)
    return timespec(tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000)
}
