/// Fuzzes HTTP/2: no bytes may crash it or make it hold more than its limits, a connection read in two pieces is the
/// connection read in one, and a header block that was decoded is the same list when it is encoded again.
import FuzzSupport
import HTTP2Wire

/// What a machine told, with the data of a stream in one piece.
private struct Transcript: Equatable {
    var events: [String] = []
    var data: [UInt32: [UInt8]] = [:]
}

private func texts(_ list: FieldList) -> [[String]] { list.fields.map { [list.nameText($0), list.valueText($0)] } }

private func fields(_ list: [(FieldName, String)]) -> FieldList {
    var fields = FieldList()
    for (name, value) in list { fields.append(name, value) }
    return fields
}

private func run(_ role: HTTP2Machine.Role, _ bytes: [UInt8], splitAt split: Int, isQuiet: Bool) -> Transcript {
    var limits = HTTP2Limits()
    limits.offersExtendedConnect = true
    limits.headerList = 4000
    var machine = HTTP2Machine(role, limits: limits)
    var transcript = Transcript()
    var list = FieldList()
    if role == .client {
        for _ in 0..<3 {
            let request = fields([(.method, "GET"), (.scheme, "http"), (.path, "/"), (.authority, "a")])
            _ = try? machine.open(request, isLast: true)
        }
    }
    let body = [UInt8](repeating: 0x61, count: 100)
    for part in [Array(bytes[..<split]), Array(bytes[split...])] {
        part.withUnsafeBytes { input in
            var at = 0
            while let event = machine.next(input, at: &at, into: &list) {
                transcript.take(event, list, input)
                answer(event, &machine, body, isQuiet: isQuiet)
                precondition(machine.streamCount <= Int(limits.streams), "more streams than are allowed")
                precondition(list.size <= limits.headerList, "a list longer than is allowed")
            }
            precondition(at == input.count, "bytes were left")
        }
        precondition(machine.memory < 1 << 20, "a peer makes the connection large")
        machine.outputWasTaken()
    }
    return transcript
}

extension Transcript {
    fileprivate mutating func take(_ event: HTTP2Event, _ list: FieldList, _ input: UnsafeRawBufferPointer) {
        switch event {
        case .data(let stream, let range, let isLast):
            data[stream, default: []] += input[range]
            if isLast { events.append("end \(stream)") }
        case .head(let stream, let facts, let isLast):
            events.append("head \(stream) \(facts.status) \(isLast) \(texts(list))")
        case .trailers(let stream): events.append("trailers \(stream) \(texts(list))")
        case .interim(let stream, let facts): events.append("interim \(stream) \(facts.status)")
        default: events.append("\(event)")
        }
    }
}

/// An owner that answers every request and reads everything, or one that does nothing.
private func answer(_ event: HTTP2Event, _ machine: inout HTTP2Machine, _ body: [UInt8], isQuiet: Bool) {
    if case .data(let stream, let range, _) = event, !isQuiet { machine.consumed(stream, range.count) }
    guard !isQuiet else { return }
    switch event {
    case .head(let stream, let facts, _) where facts.status == 0:
        guard (try? machine.sendHead(stream, fields([(.status, "200")]), isLast: false)) != nil else { return }
        fallthrough
    case .writable(let stream), .head(let stream, _, _):
        _ = body.withUnsafeBytes { bytes in
            do throws(SendRefusal) { return try machine.sendData(stream, bytes, isLast: stream & 2 == 0) } catch {
                return 0
            }
        }
    case .malformed(let stream, let fault):
        _ = try? machine.sendHead(stream, fields([(.status, "400")]), isLast: true)
        machine.reset(stream, fault.code)
    default: break
    }
}

private func compress(_ block: [UInt8]) {
    var decoder = HPACKDecoder()
    var list = FieldList()
    let isWhole = block.withUnsafeBytes { (try? decoder.decode($0, into: &list, limit: 1 << 16)) ?? false }
    guard isWhole else { return }
    var encoder = HPACKEncoder()
    var second = HPACKDecoder()
    // Three times: as literals, into the table, out of it.
    for _ in 0..<3 {
        var output = ByteStore()
        encoder.encode(list, to: &output)
        var copy = FieldList()
        let isRead = output.withBytes { (try? second.decode($0, into: &copy, limit: 1 << 16)) ?? false }
        precondition(isRead && texts(copy) == texts(list), "a list changed on its way")
        precondition(encoder.tableSize == second.tableSize, "the tables differ")
    }
}

@main enum FuzzHTTP2Wire: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let message = Array(bytes.dropFirst())
        compress(message)
        let settings: [UInt8] = [0, 0, 0, 4, 0, 0, 0, 0, 0]
        for role in [HTTP2Machine.Role.server, .client] {
            let start = role == .server ? Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + settings : settings
            let input = start + message
            let isQuiet = first & 1 != 0
            let whole = run(role, input, splitAt: input.count, isQuiet: isQuiet)
            let split = run(role, input, splitAt: min(start.count + Int(first), input.count), isQuiet: isQuiet)
            precondition(whole == split, "a split changes the connection")
        }
    }
}
