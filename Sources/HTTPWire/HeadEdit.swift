/// Changes to a head while it is forwarded: the original bytes are copied in runs, dropped lines are left out, new ones
/// put at the end. A head without changes is one copy.

package struct HeadEdit: Sendable {
    private struct Added: Sendable {
        var nameEnd: Int
        var end: Int
        var start: Int
        var isDropped = false
    }
    /// A bit for each header line of the original.
    private var dropped: UInt128 = 0
    /// New lines, each with its CRLF.
    private var text: [UInt8] = []
    private var lines: [Added] = []
    /// In place of the original start line, with its CRLF.
    private var startLine: [UInt8]?
    /// In place of a request's; its start line is then of HTTP/1.1.
    private var target: [UInt8]?

    package init() {}

    package mutating func reset() {
        dropped = 0
        text.removeAll(keepingCapacity: true)
        lines.removeAll(keepingCapacity: true)
        startLine = nil
        target = nil
    }

    package mutating func replaceStartLine(_ line: [UInt8]) { startLine = line }
    package mutating func replaceTarget(_ text: [UInt8]) { target = text }

    package mutating func drop(at index: Int) { dropped |= 1 &<< UInt128(truncatingIfNeeded: index) }
    package func isDropped(_ index: Int) -> Bool { dropped &>> UInt128(truncatingIfNeeded: index) & 1 != 0 }

    package mutating func drop(_ name: HeaderName, in head: MessageHead) {
        guard head.has(name) else { return }
        for index in head.headers.indices where head.headers[index].known == name { drop(at: index) }
    }

    /// Whatever has this name, in any case, whether it came with the message or was added here.
    package mutating func drop(_ name: String, in head: MessageHead, _ bytes: UnsafeRawBufferPointer) {
        var name = name
        name.withUTF8 { name in
            let name = UnsafeRawBufferPointer(name)
            for index in head.headers.indices where isSameName(bytes, head.headers[index].name.range, name) {
                drop(at: index)
            }
            for index in lines.indices {
                let line = lines[index]
                let isSame = text.withUnsafeBytes { isSameName($0, line.start..<line.nameEnd, name) }
                if isSame { lines[index].isDropped = true }
            }
        }
    }

    package mutating func add(_ name: StaticString, _ value: String.UTF8View) {
        var value = String(value)
        value.withUTF8 { append(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), $0) }
    }
    package mutating func add(_ name: StaticString, _ value: Span<UInt8>) {
        value.withUnsafeBufferPointer {
            append(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), $0)
        }
    }
    package mutating func add(_ name: String, _ value: String) {
        var (name, value) = (name, value)
        name.withUTF8 { name in value.withUTF8 { append(name, $0) } }
    }

    private mutating func append(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) {
        let start = text.count
        text += name
        let nameEnd = text.count
        text.append(UInt8(ascii: ":"))
        text.append(0x20)
        text += value
        text.append(0x0d)
        text.append(0x0a)
        lines.append(Added(nameEnd: nameEnd, end: text.count, start: start))
    }

    // MARK: The edited head, in parts

    package struct Field {
        package let known: HeaderName
        package let name: UnsafeRawBufferPointer
        package let value: UnsafeRawBufferPointer
        package let isSecret: Bool
    }

    /// The fields that stay, and behind them those that were added.
    package func forEachField(_ head: MessageHead, _ bytes: UnsafeRawBufferPointer, _ body: (Field) -> Void) {
        for (index, line) in head.headers.enumerated() where !isDropped(index) {
            body(
                Field(
                    known: line.known, name: UnsafeRawBufferPointer(rebasing: bytes[line.name.range]),
                    value: UnsafeRawBufferPointer(rebasing: bytes[line.value.range]), isSecret: line.isSecret))
        }
        text.withUnsafeBytes { text in
            for line in lines where !line.isDropped {
                let name = UnsafeRawBufferPointer(rebasing: text[line.start..<line.nameEnd])
                body(
                    Field(
                        known: HeaderName.recognise(name), name: name,
                        value: UnsafeRawBufferPointer(rebasing: text[line.nameEnd + 2..<line.end - 2]),
                        isSecret: false))
            }
        }
    }

    package func withTarget(
        _ head: MessageHead, _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
    ) {
        if let target {
            target.withUnsafeBytes(body)
        } else {
            body(UnsafeRawBufferPointer(rebasing: bytes[head.target.range]))
        }
    }

    /// Of the one Host there is, and whether it is secret.
    package func withHost(
        _ head: MessageHead, _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer, Bool) -> Void
    ) {
        for (index, line) in head.headers.enumerated() where line.known == .host && !isDropped(index) {
            return body(UnsafeRawBufferPointer(rebasing: bytes[line.value.range]), line.isSecret)
        }
        text.withUnsafeBytes { text in
            for line in lines where !line.isDropped && line.nameEnd - line.start == 4 {
                let name = UnsafeRawBufferPointer(rebasing: text[line.start..<line.nameEnd])
                guard HeaderName.recognise(name) == .host else { continue }
                return body(UnsafeRawBufferPointer(rebasing: text[line.nameEnd + 2..<line.end - 2]), false)
            }
        }
    }

    // MARK: As a whole

    /// The edited head. `bytes` are those it was parsed from.
    package func write(_ head: MessageHead, _ bytes: UnsafeRawBufferPointer, to output: inout [UInt8]) {
        var run = head.start
        if let target {
            output += bytes[head.methodText.range]
            output.append(0x20)
            output += target
            output += " HTTP/1.1\r\n".utf8
            run = head.startLineEnd
        } else if let startLine {
            output += startLine
            run = head.startLineEnd
        }
        if dropped != 0 {
            for index in head.headers.indices where isDropped(index) {
                let line = head.headers[index]
                if run < Int(line.name.start) { output += bytes[run..<Int(line.name.start)] }
                run = Int(line.end)
            }
        }
        if run < head.end - 2 { output += bytes[run..<head.end - 2] }
        if lines.contains(where: \.isDropped) {
            for line in lines where !line.isDropped { output += text[line.start..<line.end] }
        } else {
            output += text
        }
        output.append(0x0d)
        output.append(0x0a)
    }

    /// Drops what is meant for this connection only (RFC 9110, 7.6.1). `keepsUpgrade`: Connection and Upgrade stay, in
    /// the form that was agreed on.
    package mutating func dropHopByHop(
        _ head: MessageHead, _ bytes: UnsafeRawBufferPointer, keepsUpgrade: Bool
    ) {
        drop(.keepAlive, in: head)
        drop(.proxyConnection, in: head)
        drop(.connection, in: head)
        if head.has(.te) {
            // `TE: trailers` promises to read trailers, which holds for this proxy too.
            for index in head.headers.indices where head.headers[index].known == .te {
                if !isEqual(bytes, head.headers[index].value, "trailers") { drop(at: index) }
            }
        }
        if keepsUpgrade {
            add("connection", "upgrade".utf8)
        } else {
            drop(.upgrade, in: head)
        }
        guard head.connection.contains(.named) else { return }
        for line in head.headers where line.known == .connection { dropNamed(line.value, head, bytes) }
    }

    /// The fields whose names stand in this value, except `te`, which is handled above.
    private mutating func dropNamed(_ value: ByteRange, _ head: MessageHead, _ bytes: UnsafeRawBufferPointer) {
        let names = try? elements(bytes, value)
        for name in names ?? [] where !isEqual(bytes, name, "te") {
            let name = UnsafeRawBufferPointer(rebasing: bytes[name.range])
            for index in head.headers.indices where isSameName(bytes, head.headers[index].name.range, name) {
                if head.headers[index].known != .upgrade { drop(at: index) }
            }
        }
    }

    private func elements(_ bytes: UnsafeRawBufferPointer, _ value: ByteRange) throws(WireViolation) -> [ByteRange] {
        var found: [ByteRange] = []
        try forEachElement(bytes, value) { found.append($0) }
        return found
    }
}

private func isSameName(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ name: UnsafeRawBufferPointer) -> Bool {
    guard range.count == name.count else { return false }
    for index in 0..<name.count where lowercased(bytes[range.lowerBound + index]) != lowercased(name[index]) {
        return false
    }
    return true
}
