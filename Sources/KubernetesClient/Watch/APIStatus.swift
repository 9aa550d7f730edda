/// A `Status` object: how an API server says no, in an answer or in the middle of a watch.
import PullJSON

struct APIStatus: Equatable, Sendable, Error {
    var code: Int
    /// `Expired`, `Forbidden`, ...: finer than the code.
    var reason = ""
    var message = ""
    /// Header Retry-After, else `details.retryAfterSeconds`.
    var retryAfter: Duration?

    init(code: Int, reason: String = "", message: String = "", retryAfter: Duration? = nil) {
        self.code = code
        self.reason = reason
        self.message = message
        self.retryAfter = retryAfter
    }

    /// Reads a Status object; consumes it.
    init(reading reader: inout JSONReader) throws(JSONError) {
        self.init(code: 0)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "code" where reader.token == .number: code = Int(try reader.readInteger() ?? 0)
            case "reason" where reader.token == .string: reason = String(try reader.readText().prefix(100))
            case "message" where reader.token == .string: message = String(try reader.readText().prefix(500))
            case "details" where reader.token == .object: try readDetails(&reader)
            default: try reader.skipValue()
            }
        }
    }

    private mutating func readDetails(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            if reader.text(of: key) == "retryAfterSeconds", reader.token == .number {
                if let seconds = try reader.readInteger(), seconds > 0 { retryAfter = .seconds(min(seconds, 3600)) }
            } else {
                try reader.skipValue()
            }
        }
    }

    /// What the answer's body says beyond its code. A body that is no Status, such as a proxy's page, adds its first
    /// line.
    mutating func add(body: [UInt8]) {
        var reader = JSONReader(body.span)
        if let status = try? APIStatus(reading: &reader) {
            reason = status.reason
            message = status.message
            retryAfter = retryAfter ?? status.retryAfter
        } else {
            message =
                String(decoding: body.prefix(200), as: UTF8.self).split(separator: "\n").first.map(String.init) ?? ""
        }
    }

    /// The history from our resource version on is gone, or that version is from a future this server does not know
    /// (etcd was restored from a backup): only a new list helps.
    var needsNewList: Bool {
        code == 410 || reason == "Expired" || reason == "Gone"
            || code == 504 && message.contains("Too large resource version")
    }
}
