/// The header fields that a proxy looks at, recognised once while a head is parsed, so that finding one later is the
/// comparison of a byte.

package enum HeaderName: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    case other
    case host, contentLength, transferEncoding, connection, keepAlive, proxyConnection, te, trailer, upgrade, expect
    case xForwardedFor, xForwardedProto, xRequestID, traceparent, tracestate, b3
    case b3TraceID, b3SpanID, b3ParentSpanID, b3Sampled, b3Flags
    case origin, cookie, userAgent, contentType, grpcStatus, grpcTimeout
    case accessControlRequestMethod, accessControlRequestHeaders

    /// In lower case.
    package var text: StaticString {
        switch self {
        case .other: ""
        case .host: "host"
        case .contentLength: "content-length"
        case .transferEncoding: "transfer-encoding"
        case .connection: "connection"
        case .keepAlive: "keep-alive"
        case .proxyConnection: "proxy-connection"
        case .te: "te"
        case .trailer: "trailer"
        case .upgrade: "upgrade"
        case .expect: "expect"
        case .xForwardedFor: "x-forwarded-for"
        case .xForwardedProto: "x-forwarded-proto"
        case .xRequestID: "x-request-id"
        case .traceparent: "traceparent"
        case .tracestate: "tracestate"
        case .b3: "b3"
        case .b3TraceID: "x-b3-traceid"
        case .b3SpanID: "x-b3-spanid"
        case .b3ParentSpanID: "x-b3-parentspanid"
        case .b3Sampled: "x-b3-sampled"
        case .b3Flags: "x-b3-flags"
        case .origin: "origin"
        case .cookie: "cookie"
        case .userAgent: "user-agent"
        case .contentType: "content-type"
        case .grpcStatus: "grpc-status"
        case .grpcTimeout: "grpc-timeout"
        case .accessControlRequestMethod: "access-control-request-method"
        case .accessControlRequestHeaders: "access-control-request-headers"
        }
    }

    /// The field of this name, `.other` if it is none of ours.
    package static func recognise(_ name: UnsafeRawBufferPointer) -> HeaderName {
        guard !name.isEmpty else { return .other }
        // Length and last letter leave one candidate or two.
        let candidates: (HeaderName, HeaderName)
        switch (name.count, lowercased(name[name.count - 1])) {
        case (2, UInt8(ascii: "e")): candidates = (.te, .other)
        case (2, UInt8(ascii: "3")): candidates = (.b3, .other)
        case (4, UInt8(ascii: "t")): candidates = (.host, .other)
        case (6, UInt8(ascii: "t")): candidates = (.expect, .other)
        case (6, UInt8(ascii: "n")): candidates = (.origin, .other)
        case (6, UInt8(ascii: "e")): candidates = (.cookie, .other)
        case (7, UInt8(ascii: "e")): candidates = (.upgrade, .other)
        case (7, UInt8(ascii: "r")): candidates = (.trailer, .other)
        case (10, UInt8(ascii: "n")): candidates = (.connection, .other)
        case (10, UInt8(ascii: "e")): candidates = (.keepAlive, .tracestate)
        case (10, UInt8(ascii: "t")): candidates = (.userAgent, .other)
        case (10, UInt8(ascii: "s")): candidates = (.b3Flags, .other)
        case (11, UInt8(ascii: "t")): candidates = (.traceparent, .other)
        case (11, UInt8(ascii: "d")): candidates = (.b3SpanID, .other)
        case (11, UInt8(ascii: "s")): candidates = (.grpcStatus, .other)
        case (12, UInt8(ascii: "d")): candidates = (.xRequestID, .b3TraceID)
        case (12, UInt8(ascii: "e")): candidates = (.contentType, .other)
        case (12, UInt8(ascii: "t")): candidates = (.grpcTimeout, .other)
        case (14, UInt8(ascii: "h")): candidates = (.contentLength, .other)
        case (15, UInt8(ascii: "r")): candidates = (.xForwardedFor, .other)
        case (16, UInt8(ascii: "n")): candidates = (.proxyConnection, .other)
        case (17, UInt8(ascii: "g")): candidates = (.transferEncoding, .other)
        case (17, UInt8(ascii: "o")): candidates = (.xForwardedProto, .other)
        case (17, UInt8(ascii: "d")): candidates = (.b3ParentSpanID, .other)
        case (29, UInt8(ascii: "d")): candidates = (.accessControlRequestMethod, .other)
        case (30, UInt8(ascii: "s")): candidates = (.accessControlRequestHeaders, .other)
        default: return .other
        }
        if matches(name, candidates.0) { return candidates.0 }
        if candidates.1 != .other, matches(name, candidates.1) { return candidates.1 }
        // `x-b3-sampled` shares its length and letter with two others.
        return name.count == 12 && matches(name, .b3Sampled) ? .b3Sampled : .other
    }

    private static func matches(_ name: UnsafeRawBufferPointer, _ candidate: HeaderName) -> Bool {
        let text = candidate.text
        guard candidate != .other, text.utf8CodeUnitCount == name.count else { return false }
        let wanted = UnsafeRawBufferPointer(start: text.utf8Start, count: name.count)
        var at = 0
        // Eight bytes at a time. What becomes a byte of our names when that bit is set is that byte, its capital or a
        // control character, and only the last has neither that bit nor the one above.
        while at + 8 <= name.count {
            let word = name.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            let lower = word | 0x2020_2020_2020_2020
            guard lower == wanted.loadUnaligned(fromByteOffset: at, as: UInt64.self),
                (word | word << 1) & 0x4040_4040_4040_4040 == 0x4040_4040_4040_4040
            else { return false }
            at += 8
        }
        while at < name.count {
            guard lowercased(name[at]) == wanted[at] else { return false }
            at += 1
        }
        return true
    }
}
