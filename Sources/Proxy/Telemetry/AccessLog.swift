/// The access log, one line a request, in the text format of Istio or as JSON with the same names (spec 5.4). Loops put
/// lines into a bounded buffer, a thread of its own writes them: a pipe that nobody reads costs lines, not traffic.
import Addressing
import Balancing
import Glibc
package import RouteIR
import Synchronization
import Telemetry

package final class AccessLog: AccessLogSink {
    package enum Format: String, Sendable, CaseIterable {
        case text, json
    }
    private static let limit = 4 << 20

    private struct State {
        var buffer: [UInt8] = []
        var lost: UInt64 = 0
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

    package func log(_ record: RequestRecord, node: ProxyNode) {
        var wall = timespec()
        clock_gettime(CLOCK_REALTIME, &wall)
        let line = accessLine(record, format, started: before(wall, record.duration))
        state.withLock { state in
            guard state.buffer.count < Self.limit else {
                state.lost += 1
                return
            }
            state.buffer += line.utf8
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

private func before(_ time: timespec, _ duration: Duration) -> timespec {
    let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec - Int(clamping: duration.wholeNanoseconds)
    return timespec(tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000)
}

/// The line with its newline.
func accessLine(_ record: RequestRecord, _ format: AccessLog.Format, started: timespec) -> String {
    let milliseconds = { (duration: Duration) in "\(duration.wholeNanoseconds / 1_000_000)" }
    let proto = record.isHTTP2 ? "HTTP/2" : "HTTP/1.\(record.minorVersion)"
    let outbound = record.cluster.map { "outbound|\($0.port)||\($0.hostname)" }
    let dialled = record.dialled.description
    switch format {
    case .text:
        let orDash = { (text: String?) in text.map { $0.isEmpty ? "-" : clean($0) } ?? "-" }
        return "[\(timestamp(started))] \"\(orDash(record.method)) \(orDash(record.path)) \(proto)\" \(record.status) "
            + "\(record.flags) \(record.details) - \"\(orDash(record.failure))\" "
            + "\(record.bytesReceived) \(record.bytesSent) \(milliseconds(record.duration)) "
            + "\(record.upstreamTime.map(milliseconds) ?? "-") \"\(orDash(record.forwardedFor))\" "
            + "\"\(orDash(record.userAgent))\" \"\(orDash(record.requestID))\" \"\(orDash(record.authority))\" "
            + "\"\(orDash(record.upstream?.description))\" \(outbound ?? "-") "
            + "\(orDash(record.upstreamLocal?.description)) \(dialled) \(record.client) - "
            + "\(record.rule.map { $0.contains(" ") ? "\"\(clean($0))\"" : $0 } ?? "-")\n"
    case .json:
        let fields: [(String, String?)] = [
            ("start_time", jsonString(timestamp(started))), ("method", jsonString(record.method)),
            ("path", jsonString(record.path)), ("protocol", jsonString(proto)), ("response_code", "\(record.status)"),
            ("response_flags", jsonString("\(record.flags)")), ("response_code_details", jsonString(record.details)),
            ("connection_termination_details", nil),
            ("upstream_transport_failure_reason", record.failure.map(jsonString)),
            ("bytes_received", "\(record.bytesReceived)"), ("bytes_sent", "\(record.bytesSent)"),
            ("duration", milliseconds(record.duration)),
            ("upstream_service_time", record.upstreamTime.map(milliseconds)),
            ("x_forwarded_for", record.forwardedFor.map(jsonString)), ("user_agent", record.userAgent.map(jsonString)),
            ("request_id", record.requestID.map(jsonString)), ("authority", jsonString(record.authority)),
            ("upstream_host", record.upstream.map { jsonString($0.description) }),
            ("upstream_cluster", outbound.map(jsonString)),
            ("upstream_local_address", record.upstreamLocal.map { jsonString($0.description) }),
            ("downstream_local_address", jsonString(dialled)),
            ("downstream_remote_address", jsonString(record.client.description)), ("requested_server_name", nil),
            ("route_name", record.rule.map(jsonString)), ("attempts", "\(record.attempts)"),
            ("trace_id", record.trace.map { jsonString($0.traceID) }),
        ]
        return "{" + fields.map { "\"\($0.0)\":\($0.1 ?? "null")" }.joined(separator: ",") + "}\n"
    }
}

/// What clients send must not look like the end of a field.
private func clean(_ text: String) -> String {
    text.utf8.contains { $0 == 0x22 || $0 < 0x20 }
        ? String(text.map { $0 == "\"" ? "'" : $0.isNewline ? " " : $0 }) : text
}
