/// What the proxy knows of gRPC: messages in a body, statuses, deadlines.
import NIOCore

/// Counts messages, each a flag, a length of four bytes and so many more, without keeping any of it.
struct GRPCMessageCounter {
    private(set) var messages: UInt64 = 0
    private var prefix: UInt64 = 0
    private var prefixBytes = 0
    private var rest = 0

    mutating func count(_ bytes: ByteBuffer) {
        bytes.withUnsafeReadableBytes { raw in
            var at = 0
            while at < raw.count {
                if rest > 0 {
                    let taken = min(rest, raw.count - at)
                    rest -= taken
                    at += taken
                    continue
                }
                prefix = prefix << 8 | UInt64(raw[at])
                prefixBytes += 1
                at += 1
                guard prefixBytes == 5 else { continue }
                messages += 1
                rest = Int(prefix & 0xffff_ffff)
                prefix = 0
                prefixBytes = 0
            }
        }
    }
}

/// A status of gRPC, 0 to 16; whatever else a backend writes is one and the same.
package struct GRPCStatus: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = min(rawValue, Self.unknown.rawValue) }
    private init(unchecked: UInt8) { rawValue = unchecked }
    package static let unknown = GRPCStatus(unchecked: 17)

    /// The value of `grpc-status`.
    init(_ text: some Sequence<UInt8>) {
        var value = 0
        var count = 0
        for byte in text {
            guard digits.contains(byte), count < 2 else {
                self = .unknown
                return
            }
            value = value * 10 + Int(byte - UInt8(ascii: "0"))
            count += 1
        }
        self = count == 0 ? .unknown : GRPCStatus(rawValue: UInt8(value))
    }

    package var description: String { self == .unknown ? "unknown" : "\(rawValue)" }
}
private let digits = UInt8(ascii: "0")...UInt8(ascii: "9")

/// gRPC's mapping, with UNIMPLEMENTED for what no route knows (spec 1.9).
func grpcStatus(of status: UInt16) -> Int {
    switch status {
    case 400: 13
    case 401: 16
    case 403: 7
    case 404, 405: 12
    case 429, 500, 502, 503: 14
    case 504: 4
    default: 2
    }
}

/// The HTTP status that says of an endpoint what this gRPC status does: what is 5xx here counts against it.
func httpStatus(ofGRPC code: Int) -> UInt16 {
    switch code {
    case 0: 200
    case 1: 499
    case 3, 9, 11: 400
    case 4: 504
    case 5: 404
    case 6, 10: 409
    case 7: 403
    case 8: 429
    case 12: 501
    case 14: 503
    case 16: 401
    default: 500
    }
}

/// `grpc-timeout`: up to eight digits and a unit. nil: it is none.
func grpcTimeout(_ text: String) -> Duration? {
    guard (2...9).contains(text.utf8.count), let amount = UInt32(text.dropLast()), let unit = text.last else {
        return nil
    }
    guard text.utf8.first != UInt8(ascii: "+") else { return nil }
    let count = Int64(amount)
    return switch unit {
    case "H": .seconds(count * 3600)
    case "M": .seconds(count * 60)
    case "S": .seconds(count)
    case "m": .milliseconds(count)
    case "u": .microseconds(count)
    case "n": .nanoseconds(count)
    default: nil
    }
}
