/// The trace a request belongs to, from W3C or B3 headers; what goes on is in the form that came in.
package import Balancing

package struct TraceContext: Hashable, Sendable {
    package enum Form: Hashable, Sendable {
        case w3c
        case b3
        case b3Single
    }
    package var form: Form
    /// 32 and 16 hexadecimal digits.
    package var traceID: String
    package var parentID: String?
    package var spanID: String
    package var isSampled: Bool

    /// A new trace.
    package init(sampled: Bool, using generator: inout FastGenerator) {
        form = .w3c
        traceID = hex(generator.next(), 16) + hex(generator.next() | 1, 16)
        spanID = hex(generator.next() | 1, 16)
        isSampled = sampled
    }

    /// A new span below the caller's; nil: the header makes no sense.
    package init?(traceparent: String, using generator: inout FastGenerator) {
        let parts = traceparent.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 4, parts[0].count == 2, parts[0] != "ff", parts[0] != "00" || parts.count == 4,
            isHex(parts[1], 32), isHex(parts[2], 16), isHex(parts[3], 2), let flags = UInt8(parts[3], radix: 16)
        else { return nil }
        self.init(.w3c, String(parts[1]), String(parts[2]), sampled: flags & 1 != 0, &generator)
    }

    /// `trace-span-sampled-parent`, of which the last two may be absent.
    package init?(b3: String, using generator: inout FastGenerator) {
        let parts = b3.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 2 else { return nil }
        self.init(
            b3TraceID: String(parts[0]), spanID: String(parts[1]), sampled: parts.count > 2 ? String(parts[2]) : nil,
            using: &generator)
        form = .b3Single
    }

    package init?(
        b3TraceID: String, spanID: String, sampled: String?, using generator: inout FastGenerator
    ) {
        guard isHex(b3TraceID[...], 32) || isHex(b3TraceID[...], 16), isHex(spanID[...], 16) else { return nil }
        let isSampled = sampled.map { $0 == "1" || $0 == "d" || $0 == "true" } ?? false
        self.init(.b3, b3TraceID, spanID, sampled: isSampled, &generator)
    }

    private init(
        _ form: Form, _ trace: String, _ parent: String, sampled: Bool, _ generator: inout FastGenerator
    ) {
        self.form = form
        traceID = trace.lowercased()
        parentID = parent.lowercased()
        spanID = hex(generator.next() | 1, 16)
        isSampled = sampled
    }

    /// Without a span of ours, which nobody records.
    package var asItCame: TraceContext {
        var trace = self
        (trace.spanID, trace.parentID) = (parentID ?? spanID, nil)
        return trace
    }

    /// The headers for the next hop.
    package var headers: [(name: String, value: String)] {
        switch form {
        case .w3c: [("traceparent", "00-\(traceID)-\(spanID)-\(isSampled ? "01" : "00")")]
        case .b3Single: [("b3", "\(traceID)-\(spanID)-\(isSampled ? "1" : "0")" + (parentID.map { "-\($0)" } ?? ""))]
        case .b3:
            [("x-b3-traceid", traceID), ("x-b3-spanid", spanID), ("x-b3-sampled", isSampled ? "1" : "0")]
                + (parentID.map { [("x-b3-parentspanid", $0)] } ?? [])
        }
    }
}

/// A random UUID (version 4) as text.
func uuid(using generator: inout FastGenerator) -> InlineArray<36, UInt8> {
    let (high, low) = (generator.next() & ~0xf000 | 0x4000, generator.next() & ~(3 << 62) | 2 << 62)
    var text = InlineArray<36, UInt8>(repeating: UInt8(ascii: "-"))
    var (at, bits) = (35, low)
    while at >= 0 {
        if at == 8 || at == 13 || at == 18 || at == 23 {
            if at == 18 { bits = high }
        } else {
            text[at] = hexDigit(UInt8(truncatingIfNeeded: bits) & 15)
            bits >>= 4
        }
        at -= 1
    }
    return text
}

/// With leading zeros.
func hex(_ value: UInt64, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}

private func isHex(_ text: Substring, _ digits: Int) -> Bool {
    text.utf8.count == digits && text.utf8.allSatisfy { Character(UnicodeScalar($0)).isHexDigit }
        && text.contains { $0 != "0" } || digits == 2 && text.utf8.count == 2 && UInt8(text, radix: 16) != nil
}
