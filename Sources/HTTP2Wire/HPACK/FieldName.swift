/// The names of fields that HTTP/2 or a proxy knows, found once while a block is decoded: comparing names is then
/// comparing bytes, and a name that HPACK's static table has is encoded without a search.

package enum FieldName: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    case other
    // The names of the static table (RFC 7541, Appendix A), in its order.
    case authority, method, path, scheme, status, acceptCharset, acceptEncoding, acceptLanguage, acceptRanges, accept
    case accessControlAllowOrigin, age, allow, authorization, cacheControl, contentDisposition, contentEncoding
    case contentLanguage, contentLength, contentLocation, contentRange, contentType, cookie, date, etag, expect
    case expires, from, host, ifMatch, ifModifiedSince, ifNoneMatch, ifRange, ifUnmodifiedSince, lastModified, link
    case location, maxForwards, proxyAuthenticate, proxyAuthorization, range, referer, refresh, retryAfter, server
    case setCookie, strictTransportSecurity, transferEncoding, userAgent, vary, via, wwwAuthenticate
    // And others.
    case `protocol`, connection, keepAlive, proxyConnection, te, trailer, upgrade, grpcStatus, grpcMessage
    case grpcTimeout, grpcEncoding, grpcAcceptEncoding, xRequestID, xForwardedFor, xForwardedProto, traceparent
    case tracestate, b3, b3TraceID, b3SpanID, b3ParentSpanID, b3Sampled, b3Flags, origin, accessControlRequestMethod
    case accessControlRequestHeaders

    /// In lower case, as all names are in HTTP/2 (RFC 9113, 8.2).
    package var text: StaticString { fieldNameTexts[Int(rawValue)] }

    /// The static table's first entry with this name; 0: there is none.
    var staticIndex: Int {
        let raw = Int(rawValue)
        return raw <= 5 ? firstEntries[raw] : raw <= Self.wwwAuthenticate.rawValue ? raw + 9 : 0
    }

    /// Pseudo-fields have no other place in a message than before all fields (RFC 9113, 8.3).
    @inline(__always) var isPseudo: Bool { rawValue &- 1 < 5 || self == .protocol }

    /// The field with this name, `.other` if it is none of these.
    static func recognise(_ name: UnsafeRawBufferPointer) -> FieldName {
        guard name.count > 0, name.count <= longestFieldName else { return .other }
        return fieldNameSlots.withUnsafeBufferPointer { slots in
            var slot = fieldNameSlot(name)
            while slots[slot] != 0 {
                let candidate = FieldName(rawValue: slots[slot]) ?? .other
                if isEqual(name, candidate.text) { return candidate }
                slot = (slot + 1) & (slots.count - 1)
            }
            return .other
        }
    }
}

private let firstEntries = [0, 1, 2, 4, 6, 8]

private let fieldNameTexts: [StaticString] = [
    "",
    ":authority", ":method", ":path", ":scheme", ":status", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "accept", "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length", "content-location",
    "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location",
    "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via",
    "www-authenticate",
    ":protocol", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "grpc-status",
    "grpc-message", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "x-request-id", "x-forwarded-for",
    "x-forwarded-proto", "traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid",
    "x-b3-sampled", "x-b3-flags", "origin", "access-control-request-method", "access-control-request-headers",
]

private let longestFieldName = fieldNameTexts.map(\.utf8CodeUnitCount).max() ?? 0

/// Length, first, middle and last byte tell most names apart.
@inline(__always) private func fieldNameSlot(_ name: UnsafeRawBufferPointer) -> Int {
    let count = name.count
    let mixed = UInt32(name[0]) &* 0x9e37_79b1 ^ UInt32(name[count / 2]) &* 0x85eb_ca6b
    let more = UInt32(name[count - 1]) &* 0xc2b2_ae35 ^ UInt32(count) &* 0x27d4_eb2f
    return Int((mixed ^ more) >> 24)
}

/// A hash table with open addressing, three quarters of it empty.
private let fieldNameSlots: [UInt8] = {
    var slots = [UInt8](repeating: 0, count: 256)
    for name in FieldName.allCases where name != .other {
        let bytes = UnsafeRawBufferPointer(start: name.text.utf8Start, count: name.text.utf8CodeUnitCount)
        var slot = fieldNameSlot(bytes)
        while slots[slot] != 0 { slot = (slot + 1) & 255 }
        slots[slot] = name.rawValue
    }
    return slots
}()

@inline(__always) func isEqual(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
    bytes.count == text.utf8CodeUnitCount && isEqual(bytes, UnsafeRawPointer(text.utf8Start))
}

/// Eight bytes at a time; `other` has as many.
@inline(__always) func isEqual(_ bytes: UnsafeRawBufferPointer, _ other: UnsafeRawPointer) -> Bool {
    var at = 0
    while at + 8 <= bytes.count {
        let word = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
        guard word == other.loadUnaligned(fromByteOffset: at, as: UInt64.self) else { return false }
        at += 8
    }
    while at < bytes.count {
        guard bytes[at] == other.load(fromByteOffset: at, as: UInt8.self) else { return false }
        at += 1
    }
    return true
}
