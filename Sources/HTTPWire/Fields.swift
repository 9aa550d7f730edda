/// Field lines, and what the fields that frame a message say together.

/// `name: value` without its CRLF.
func readField(_ bytes: UnsafeRawBufferPointer, _ line: ByteRange) throws(WireViolation) -> HeaderLine {
    let end = Int(line.end)
    var at = Int(line.start)
    if isBlank(bytes[at]) { throw WireViolation(400, .folding) }
    // Names are mostly made of these; others are looked at one by one, from the first that is none of them.
    while at + 8 <= end {
        let count = nameBytes(bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self).littleEndian)
        at += count
        if count < 8 { break }
    }
    while at < end, isTokenByte(bytes[at]) { at += 1 }
    let name = ByteRange(Int(line.start), at)
    guard !name.isEmpty, at < end, bytes[at] == UInt8(ascii: ":") else { throw WireViolation(400, .badHeaderName) }
    at += 1
    while at < end, isBlank(bytes[at]) { at += 1 }
    try checkValue(bytes, at, end)
    var last = end
    while last > at, isBlank(bytes[last - 1]) { last -= 1 }
    return HeaderLine(
        name: name, value: ByteRange(at, last), end: UInt32(end + 2),
        known: HeaderName.recognise(UnsafeRawBufferPointer(rebasing: bytes[name.range])))
}

/// Eight bytes at a time as long as they are plain; the odd tab or letter above ASCII is looked at alone.
func checkValue(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int) throws(WireViolation) {
    var at = start
    while at < end {
        if at + 8 <= end {
            let word = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            let controls = (word &- 0x2020_2020_2020_2020) & ~word
            let deletes = ((word ^ 0x7f7f_7f7f_7f7f_7f7f) &- 0x0101_0101_0101_0101) & ~(word ^ 0x7f7f_7f7f_7f7f_7f7f)
            if (controls | deletes) & 0x8080_8080_8080_8080 == 0 {
                at += 8
                continue
            }
        }
        guard isValueByte(bytes[at]) else {
            throw WireViolation(400, bytes[at] == 0x0d ? .bareCarriageReturn : .badHeaderValue)
        }
        at += 1
    }
}

/// The elements of a comma-separated list, empty ones left out.
func forEachElement(
    _ bytes: UnsafeRawBufferPointer, _ value: ByteRange, _ body: (ByteRange) throws(WireViolation) -> Void
) throws(WireViolation) {
    var start = Int(value.start)
    let end = Int(value.end)
    while start < end {
        var comma = start
        while comma < end, bytes[comma] != UInt8(ascii: ",") { comma += 1 }
        var last = comma
        while start < last, isBlank(bytes[start]) { start += 1 }
        while last > start, isBlank(bytes[last - 1]) { last -= 1 }
        if last > start { try body(ByteRange(start, last)) }
        start = comma + 1
    }
}

func isEqual(_ bytes: UnsafeRawBufferPointer, _ range: ByteRange, _ text: StaticString) -> Bool {
    guard range.count == text.utf8CodeUnitCount else { return false }
    let start = Int(range.start)
    for index in 0..<range.count where lowercased(bytes[start + index]) != text.utf8Start[index] { return false }
    return true
}

func readConnection(_ bytes: UnsafeRawBufferPointer, _ head: inout MessageHead) throws(WireViolation) {
    guard head.has(.connection) else { return }
    var options: ConnectionOptions = []
    for line in head.headers where line.known == .connection {
        try forEachElement(bytes, line.value) { element throws(WireViolation) in
            if isEqual(bytes, element, "close") {
                options.insert(.close)
            } else if isEqual(bytes, element, "keep-alive") {
                options.insert(.keepAlive)
            } else if isEqual(bytes, element, "upgrade") {
                options.insert(.upgrade)
            } else {
                for at in element.range where !isTokenByte(bytes[at]) { throw WireViolation(400, .badConnection) }
                // Who could have these removed could change where the message ends or whom it is for.
                switch HeaderName.recognise(UnsafeRawBufferPointer(rebasing: bytes[element.range])) {
                case .host, .contentLength, .transferEncoding: throw WireViolation(400, .badConnection)
                default: options.insert(.named)
                }
            }
        }
    }
    head.connection = options
}

/// Content-Length and Transfer-Encoding: at most one of them, once.
func readFraming(_ bytes: UnsafeRawBufferPointer, _ head: inout MessageHead) throws(WireViolation) {
    if head.has(.contentLength) {
        for line in head.headers where line.known == .contentLength {
            guard head.contentLength == nil else { throw WireViolation(400, .duplicateContentLength) }
            var length: UInt64 = 0
            // Eighteen digits cannot overflow, and nobody sends more.
            guard (1...18).contains(line.value.count) else { throw WireViolation(400, .badContentLength) }
            for at in line.value.range {
                guard isDigit(bytes[at]) else { throw WireViolation(400, .badContentLength) }
                length = length * 10 + UInt64(bytes[at] - 0x30)
            }
            head.contentLength = length
        }
    }
    guard head.has(.transferEncoding) else { return }
    if head.contentLength != nil { throw WireViolation(400, .lengthAndChunked) }
    // HTTP/1.0 knows no chunks: who forwards such a message may end it elsewhere.
    if head.minorVersion == 0 { throw WireViolation(400, .badTransferEncoding) }
    var count = 0
    var endsInChunked = false
    for line in head.headers where line.known == .transferEncoding {
        if line.value.isEmpty { throw WireViolation(400, .badTransferEncoding) }
        try forEachElement(bytes, line.value) { element throws(WireViolation) in
            for at in element.range where !isTokenByte(bytes[at]) { throw WireViolation(400, .badTransferEncoding) }
            // Chunked twice, or anything behind it, leaves the end of the message open.
            if endsInChunked { throw WireViolation(400, .badTransferEncoding) }
            endsInChunked = isEqual(bytes, element, "chunked")
            count += 1
        }
    }
    guard endsInChunked else { throw WireViolation(400, .badTransferEncoding) }
    guard count == 1 else { throw WireViolation(501, .unsupportedTransferEncoding) }
    // No commas around it either: not every parser skips empty elements.
    guard head.value(.transferEncoding)?.count == 7 else { throw WireViolation(400, .badTransferEncoding) }
    head.isChunked = true
}

/// Host, Expect and Upgrade.
func checkRequest(_ bytes: UnsafeRawBufferPointer, _ head: inout MessageHead) throws(WireViolation) {
    var host: ByteRange?
    for line in head.headers where line.known == .host {
        guard host == nil else { throw WireViolation(400, .duplicateHost) }
        host = line.value
        try checkAuthority(bytes, line.value)
    }
    if let host {
        // An absolute target says whom the request is for: what Host says then is replaced (RFC 9112, 3.2.2).
        if head.method != .connect, !head.isAbsoluteTarget { head.authority = host }
    } else if head.minorVersion >= 1 {
        throw WireViolation(400, .missingHost)
    }
    if head.has(.expect) {
        for line in head.headers where line.known == .expect {
            guard isEqual(bytes, line.value, "100-continue") else {
                throw WireViolation(417, .unsupportedExpectation)
            }
        }
        head.expectsContinue = head.minorVersion >= 1
    }
    // HTTP/1.0 knows no upgrades (RFC 9110, 7.8).
    if head.minorVersion == 0 { head.connection.remove(.upgrade) }
}

/// Whether both name the same host and port, in any case, the scheme's own port said or left out (RFC 9110, 4.2.3).
package func isSameAuthority<Bytes: BidirectionalCollection<UInt8>>(_ a: Bytes, _ b: Bytes, isSecure: Bool) -> Bool {
    withoutOwnPort(a, isSecure).elementsEqual(withoutOwnPort(b, isSecure)) { lowercased($0) == lowercased($1) }
}

private func withoutOwnPort<Bytes: BidirectionalCollection<UInt8>>(
    _ authority: Bytes, _ isSecure: Bool
) -> Bytes.SubSequence {
    guard let colon = authority.lastIndex(of: UInt8(ascii: ":")) else { return authority[...] }
    let port = authority[colon...].dropFirst()
    let isOwn = port.isEmpty || port.elementsEqual((isSecure ? "443" : "80").utf8)
    return isOwn ? authority[..<colon] : authority[...]
}
