/// Fuzzes the HTTP/1 codec: no bytes may crash it, a message read in two pieces is the message read in one, and a head
/// that passed and is written again reads the same.
import FuzzSupport
import HTTPWire

private struct Reading: Equatable {
    var headers: [HeaderLine] = []
    var end = 0
    var bodyLength = 0
    var payload: [UInt8] = []
    var fault: WireViolation?
    var isWhole = false
}

private func read(_ bytes: [UInt8], _ role: HeadParser.Role, splitAt split: Int) -> Reading {
    var reading = Reading()
    var parser = HeadParser(role)
    do throws(WireViolation) {
        var isWhole = try parser.parse(Array(bytes[..<split]).span)
        if !isWhole { isWhole = try parser.parse(bytes.span) }
        guard isWhole else { return reading }
        reading.headers = parser.head.headers
        reading.end = parser.head.end
        var body = BodyReader(role == .request ? parser.head.requestBody : parser.head.responseBody(to: .get))
        let middle = max(parser.head.end, split)
        for part in [bytes[parser.head.end..<middle], bytes[middle...]] {
            let part = Array(part)
            let length: Result<Int, WireViolation> = part.withUnsafeBytes { raw in
                Result { () throws(WireViolation) in try body.read(raw) { reading.payload += raw[$0] } }
            }
            reading.bodyLength += try length.get()
        }
        reading.isWhole = body.isComplete
        precondition(reading.end + reading.bodyLength <= bytes.count, "more was read than there was")
    } catch {
        reading.fault = error
    }
    return reading
}

/// Fields that came with HTTP/2, with 0x01 between them: what is accepted stands in the head as it was given, nothing
/// else does, and the head reads as the writer said.
private func translate(_ bytes: [UInt8]) {
    let texts = bytes.split(separator: 1, omittingEmptySubsequences: false).map { Array($0) }
    var writer = HeadWriter()
    var given: [(name: [UInt8], value: [UInt8])] = [(Array("host".utf8), [0x61])]
    let written: MessageHead
    do throws(WireViolation) {
        try writer.begin(method: Array("GET".utf8), target: texts[0])
        try writer.field(.host, "a")
        for index in stride(from: 1, to: texts.count - 1, by: 2) {
            let (name, value) = (texts[index], texts[index + 1])
            // Crumbs of it become one field at the end.
            guard !String(decoding: name, as: UTF8.self).lowercased().elementsEqual("cookie") else { continue }
            try writer.field(name, value)
            given.append((name, value))
        }
        written = try writer.end(.request)
    } catch { return }
    var parser = HeadParser(.request, limits: .none)
    do throws(WireViolation) {
        let isWhole = try parser.parse(writer.bytes.span)
        precondition(isWhole && parser.head.end == writer.bytes.count, "a field ends the head")
    } catch { preconditionFailure("a head of the writer's is refused: \(error)") }
    precondition(parser.head.headers.count == given.count, "a field became two")
    precondition(parser.head.target == written.target && parser.head.path == written.path, "the target is another one")
    for ((read, line), field) in zip(zip(parser.head.headers, written.headers), given) {
        precondition(read.name == line.name && read.value == line.value && read.end == line.end, "a field is elsewhere")
        precondition(writer.bytes[read.name.range].elementsEqual(field.name), "a name changed")
        precondition(writer.bytes[read.value.range].elementsEqual(field.value), "a value changed")
    }
}

extension HeadWriter {
    fileprivate mutating func begin(method: [UInt8], target: [UInt8]) throws(WireViolation) {
        let result: Result<Void, WireViolation> = method.withUnsafeBytes { method in
            target.withUnsafeBytes { target in
                Result { () throws(WireViolation) in try begin(method: method, target: target) }
            }
        }
        try result.get()
    }
    fileprivate mutating func field(_ name: [UInt8], _ value: [UInt8]) throws(WireViolation) {
        let result: Result<Void, WireViolation> = name.withUnsafeBytes { name in
            value.withUnsafeBytes { value in
                Result { () throws(WireViolation) in
                    guard !name.isEmpty else { throw WireViolation(400, .badHeaderName) }
                    try field(HeaderName.recognise(name), name, value)
                }
            }
        }
        try result.get()
    }
}

extension HeadParser.Limits {
    fileprivate static var none: Self {
        var limits = Self()
        limits.startLine = .max
        limits.head = .max
        limits.headers = .max
        return limits
    }
}

@main enum FuzzHTTPWire: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let message = Array(bytes.dropFirst())
        translate(message)
        for role in [HeadParser.Role.request, .response] {
            let whole = read(message, role, splitAt: message.count)
            let split = read(message, role, splitAt: min(Int(first), message.count))
            // A fault may be seen earlier in pieces, but it is one.
            precondition((whole.fault == nil) == (split.fault == nil), "a split changes the verdict")
            if whole.fault == nil { precondition(whole == split, "a split changes the message") }
            var parser = HeadParser(role)
            guard whole.fault == nil, whole.end > 0, (try? parser.parse(message.span)) == true else { continue }
            var written: [UInt8] = []
            message.withUnsafeBytes { HeadEdit().write(parser.head, $0, to: &written) }
            let original = message[parser.head.start..<parser.head.end]
            precondition(written.elementsEqual(original), "a head changed on its way")
        }
    }
}
