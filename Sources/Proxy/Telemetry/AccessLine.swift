/// One line of the access log, put together byte by byte: strings joined from strings cost as much as the request.
import Addressing
import Balancing
import Glibc
import RouteIR
import Telemetry

/// The line with its newline.
func accessLine(_ record: RequestRecord, _ format: AccessLog.Format, started: timespec) -> [UInt8] {
    var line = LineWriter()
    switch format {
    case .text: line.writeText(record, started)
    case .json: line.writeJSON(record, started)
    }
    return line.bytes
}

struct LineWriter {
    var bytes: [UInt8] = []

    init() { bytes.reserveCapacity(512) }

    // MARK: Istio's text format

    mutating func writeText(_ record: RequestRecord, _ started: timespec) {
        plain("[")
        time(started)
        plain("] \"")
        orDash(record.method)
        plain(" ")
        orDash(record.path)
        plain(" ")
        proto(record)
        plain("\" ")
        number(UInt64(record.status))
        plain(" ")
        string(record.flags.description)
        plain(" ")
        string(record.details)
        plain(" - \"")
        orDash(record.failure)
        plain("\" ")
        number(record.bytesReceived)
        plain(" ")
        number(record.bytesSent)
        plain(" ")
        number(record.ended.nanosecondsSince(record.began) / 1_000_000)
        plain(" ")
        if let time = record.upstreamTime { number(time.wholeNanoseconds / 1_000_000) } else { plain("-") }
        for text in [record.forwardedFor, record.userAgent, record.requestID, record.authority] {
            plain(" \"")
            orDash(text)
            plain("\"")
        }
        plain(" \"")
        orDash(record.upstream)
        plain("\" ")
        if let upstream = record.upstreamID { outbound(upstream) } else { plain("-") }
        plain(" ")
        orDash(record.upstreamLocal)
        plain(" ")
        address(record.dialled)
        plain(" ")
        address(record.client)
        plain(" - ")
        let isQuoted = record.rule?.utf8.contains(0x20) == true
        if isQuoted { plain("\"") }
        orDash(record.rule)
        plain(isQuoted ? "\"\n" : "\n")
    }

    private mutating func orDash(_ value: String?) {
        guard let value, !value.isEmpty else { return plain("-") }
        // What clients send must not look like the end of a field, and not do anything to a terminal.
        guard value.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f && $0 != 0x22 }) else {
            for scalar in value.unicodeScalars {
                bytes += (scalar == "\"" ? "'" : scalar.isTerminalControl ? " " : scalar).utf8
            }
            return
        }
        string(value)
    }
    private mutating func orDash(_ value: SocketAddress?) { if let value { address(value) } else { plain("-") } }

    // MARK: JSON with the same names

    mutating func writeJSON(_ record: RequestRecord, _ started: timespec) {
        plain("{\"start_time\":\"")
        time(started)
        plain("\"")
        field("method", record.method)
        field("path", record.path)
        plain(",\"protocol\":\"")
        proto(record)
        plain("\"")
        field("response_code", UInt64(record.status))
        field("response_flags", record.flags.description)
        field("response_code_details", record.details)
        field("connection_termination_details", nil as String?)
        field("upstream_transport_failure_reason", record.failure)
        field("bytes_received", record.bytesReceived)
        field("bytes_sent", record.bytesSent)
        field("duration", record.ended.nanosecondsSince(record.began) / 1_000_000)
        field("upstream_service_time", record.upstreamTime.map { $0.wholeNanoseconds / 1_000_000 })
        field("x_forwarded_for", record.forwardedFor)
        field("user_agent", record.userAgent)
        field("request_id", record.requestID)
        field("authority", record.authority)
        field("upstream_host", record.upstream)
        plain(",\"upstream_cluster\":")
        if let upstream = record.upstreamID {
            plain("\"")
            outbound(upstream)
            plain("\"")
        } else {
            plain("null")
        }
        field("upstream_local_address", record.upstreamLocal)
        field("downstream_local_address", record.dialled)
        field("downstream_remote_address", record.client)
        field("requested_server_name", nil as String?)
        field("route_name", record.rule)
        field("attempts", UInt64(record.attempts))
        field("trace_id", record.trace?.traceID)
        plain("}\n")
    }

    private mutating func name(_ name: StaticString) {
        plain(",\"")
        plain(name)
        plain("\":")
    }
    private mutating func field(_ name: StaticString, _ value: UInt64?) {
        self.name(name)
        if let value { number(value) } else { plain("null") }
    }
    private mutating func field(_ name: StaticString, _ value: SocketAddress?) {
        self.name(name)
        guard let value else { return plain("null") }
        plain("\"")
        address(value)
        plain("\"")
    }
    private mutating func field(_ name: StaticString, _ value: String?) {
        self.name(name)
        if let value { quoted(value) } else { plain("null") }
    }

    // MARK: Parts

    mutating func plain(_ text: StaticString) {
        bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
    mutating func string(_ text: String) {
        var text = text
        text.withUTF8 { bytes.append(contentsOf: $0) }
    }
    /// As JSON has it.
    mutating func quoted(_ value: String) {
        let isPlain = value.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f && $0 != 0x22 && $0 != 0x5c }
        guard isPlain else { return string(jsonString(value)) }
        plain("\"")
        string(value)
        plain("\"")
    }
    mutating func number(_ value: UInt64, digits: Int = 1) {
        if value >= 10 || digits > 1 { number(value / 10, digits: digits - 1) }
        bytes.append(UInt8(ascii: "0") + UInt8(value % 10))
    }
    mutating func address(_ value: SocketAddress) {
        guard value.address.isIPv4 else { return string(value.description) }
        for shift: UInt32 in [24, 16, 8, 0] {
            number(UInt64(value.address.v4 >> shift & 255))
            plain(shift == 0 ? ":" : ".")
        }
        number(UInt64(value.port))
    }
    private mutating func proto(_ record: RequestRecord) {
        plain(record.isHTTP2 ? "HTTP/2" : record.minorVersion == 0 ? "HTTP/1.0" : "HTTP/1.1")
    }
    private mutating func outbound(_ upstream: UpstreamID) {
        plain("outbound|")
        number(UInt64(upstream.service.port))
        plain("||")
        string(upstream.service.hostname)
    }
    /// `2026-11-25T15:40:00.123Z`.
    mutating func time(_ time: timespec) {
        var seconds = time.tv_sec
        var parts = tm()
        gmtime_r(&seconds, &parts)
        number(UInt64(parts.tm_year + 1900), digits: 4)
        for (mark, value): (StaticString, Int32) in [
            ("-", parts.tm_mon + 1), ("-", parts.tm_mday), ("T", parts.tm_hour), (":", parts.tm_min),
            (":", parts.tm_sec),
        ] {
            plain(mark)
            number(UInt64(value), digits: 2)
        }
        plain(".")
        number(UInt64(time.tv_nsec / 1_000_000), digits: 3)
        plain("Z")
    }
}

func hexDigit(_ value: UInt8) -> UInt8 { value + (value < 10 ? UInt8(ascii: "0") : UInt8(ascii: "a") - 10) }
