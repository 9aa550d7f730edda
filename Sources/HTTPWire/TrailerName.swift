/// Which fields may stand behind a body. Some programs put trailers beside the headers they already have, so nothing
/// comes there that frames or addresses a message (RFC 9110, 6.5.1), and nothing a backend believes because a proxy
/// writes it.

/// Whether a field of this name may be forwarded as a trailer.
package func isTrailerName(_ name: UnsafeRawBufferPointer) -> Bool {
    guard !name.isEmpty else { return false }
    switch HeaderName.recognise(name) {
    case .host, .contentLength, .transferEncoding, .connection, .keepAlive, .proxyConnection, .te, .trailer, .upgrade,
        .expect, .xForwardedFor, .xForwardedProto, .xRequestID, .traceparent, .tracestate, .b3, .b3TraceID, .b3SpanID,
        .b3ParentSpanID, .b3Sampled, .b3Flags, .accessControlRequestMethod, .accessControlRequestHeaders:
        return false
    case .other:
        return !isEqual(name, "forwarded") && !isEqual(name, "x-real-ip") && !begins(name, "x-forwarded-")
            && !begins(name, "x-envoy-") && !begins(name, "access-control-")
    case .origin, .cookie, .userAgent, .contentType, .grpcStatus, .grpcTimeout: return true
    }
}

private func isEqual(_ name: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
    name.count == text.utf8CodeUnitCount && begins(name, text)
}

private func begins(_ name: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
    guard name.count >= text.utf8CodeUnitCount else { return false }
    for index in 0..<text.utf8CodeUnitCount where lowercased(name[index]) != text.utf8Start[index] { return false }
    return true
}

/// The lines of a trailer, each with its CRLF and without the empty one, whose names pass both `isTrailerName` and
/// `allows`. nil: all of them do, and nothing was copied.
package func trailerLines(
    _ trailer: UnsafeRawBufferPointer, allows: (UnsafeRawBufferPointer) -> Bool
) -> [UInt8]? {
    var kept: [UInt8]?
    forEachLine(trailer) { start, colon, end in
        let name = UnsafeRawBufferPointer(rebasing: trailer[start..<colon])
        if isTrailerName(name), allows(name) {
            kept?.append(contentsOf: trailer[start..<end])
        } else if kept == nil {
            kept = Array(trailer[..<start])
        }
    }
    return kept
}

/// The value of the first field with this name, without blanks around it.
package func trailerValue(of name: HeaderName, in trailer: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    var value: UnsafeRawBufferPointer?
    forEachLine(trailer) { start, colon, end in
        guard value == nil, HeaderName.recognise(.init(rebasing: trailer[start..<colon])) == name else { return }
        var range = colon + 1..<end
        while let first = range.first, isBlank(trailer[first]) { range = first + 1..<end }
        while let last = range.last, isBlank(trailer[last]) || trailer[last] == 0x0d || trailer[last] == 0x0a {
            range = range.lowerBound..<last
        }
        value = UnsafeRawBufferPointer(rebasing: trailer[range])
    }
    return value
}

/// Where each field's line begins, its colon is, and the next line begins; the empty line is no field.
@inline(__always) private func forEachLine(
    _ trailer: UnsafeRawBufferPointer, _ body: (_ start: Int, _ colon: Int, _ end: Int) -> Void
) {
    var start = 0
    while start < trailer.count {
        var end = start
        while end < trailer.count, trailer[end] != 0x0a { end += 1 }
        end = min(end + 1, trailer.count)
        var colon = start
        while colon < end, trailer[colon] != UInt8(ascii: ":") { colon += 1 }
        if colon < end { body(start, colon, end) }
        start = end
    }
}
