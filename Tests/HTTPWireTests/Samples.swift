/// Helpers of these tests: read a whole message from text, and texts in which `\n` stands for CRLF.
import HTTPWire

/// Lines ended by CRLF, for readability of the tests.
func crlf(_ text: String) -> [UInt8] {
    Array(text.utf8).flatMap { $0 == 0x0a ? [0x0d, 0x0a] : [$0] }
}

/// The head of these bytes; nil: more are needed.
func parse(_ bytes: [UInt8], as role: HeadParser.Role = .request) throws(WireViolation) -> MessageHead? {
    var parser = HeadParser(role)
    return try parser.parse(bytes.span) ? parser.head : nil
}

func text(_ range: ByteRange?, in bytes: [UInt8]) -> String? {
    range.map { String(decoding: bytes[$0.range], as: UTF8.self) }
}

/// The verdict on a whole request, head and body: nil if it is fine, else the answer's status.
func verdict(onRequest bytes: [UInt8]) -> UInt16? {
    do throws(WireViolation) {
        guard let head = try parse(bytes) else { return nil }
        var body = BodyReader(head.requestBody)
        _ = try body.readAll(Array(bytes[head.end...]))
        return nil
    } catch {
        return error.status
    }
}

extension BodyReader {
    /// The payload, and how many bytes the body took.
    mutating func readAll(_ bytes: [UInt8]) throws(WireViolation) -> (payload: [UInt8], length: Int) {
        var payload: [UInt8] = []
        let length: Result<Int, WireViolation> = bytes.withUnsafeBytes { raw in
            Result { () throws(WireViolation) in try read(raw) { payload += raw[$0] } }
        }
        return (payload, try length.get())
    }
}
