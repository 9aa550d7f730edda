/// The first line of a head, byte by byte: one space between its parts, no more and no other.

func readRequestLine(
    _ bytes: UnsafeRawBufferPointer, _ line: ByteRange, into head: inout MessageHead
) throws(WireViolation) {
    let end = Int(line.end)
    var at = Int(line.start)
    while at < end, isTokenByte(bytes[at]) { at += 1 }
    head.methodText = ByteRange(Int(line.start), at)
    guard at < end, bytes[at] == 0x20, !head.methodText.isEmpty, head.methodText.count <= 32 else {
        throw WireViolation(400, .badMethod)
    }
    head.method = method(bytes, head.methodText)
    at += 1
    let target = at
    while at < end, isTargetByte(bytes[at]) { at += 1 }
    head.target = ByteRange(target, at)
    guard at < end, bytes[at] == 0x20, !head.target.isEmpty else { throw WireViolation(400, .badTarget) }
    head.minorVersion = try readVersion(bytes, at + 1, end)
    try splitTarget(bytes, &head)
}

func readStatusLine(
    _ bytes: UnsafeRawBufferPointer, _ line: ByteRange, into head: inout MessageHead
) throws(WireViolation) {
    let start = Int(line.start)
    // `HTTP/1.1 200` and perhaps a space and a reason.
    guard line.count >= 12, bytes[start + 8] == 0x20 else { throw WireViolation(400, .badStatusLine) }
    head.minorVersion = try readVersion(bytes, start, start + 8)
    var status: UInt16 = 0
    for at in start + 9..<start + 12 {
        guard isDigit(bytes[at]) else { throw WireViolation(400, .badStatusLine) }
        status = status * 10 + UInt16(bytes[at] - 0x30)
    }
    guard status >= 100, line.count == 12 || bytes[start + 12] == 0x20 else {
        throw WireViolation(400, .badStatusLine)
    }
    for at in start + 12..<Int(line.end) where !isValueByte(bytes[at]) { throw WireViolation(400, .badStatusLine) }
    head.status = status
}

/// `HTTP/1.0` or `HTTP/1.1`: its last digit.
private func readVersion(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int) throws(WireViolation) -> UInt8 {
    let name: StaticString = "HTTP/"
    guard end - start == 8 else { throw WireViolation(400, .badVersion) }
    for index in 0..<5 where bytes[start + index] != name.utf8Start[index] { throw WireViolation(400, .badVersion) }
    guard isDigit(bytes[start + 5]), bytes[start + 6] == UInt8(ascii: "."), isDigit(bytes[start + 7]) else {
        throw WireViolation(400, .badVersion)
    }
    guard bytes[start + 5] == UInt8(ascii: "1"), bytes[start + 7] <= UInt8(ascii: "1") else {
        throw WireViolation(505, .unsupportedVersion)
    }
    return bytes[start + 7] - 0x30
}

private func method(_ bytes: UnsafeRawBufferPointer, _ range: ByteRange) -> HTTPMethod {
    let text = UnsafeRawBufferPointer(rebasing: bytes[range.range])
    func isEqual(_ name: StaticString) -> Bool {
        for index in 0..<text.count where text[index] != name.utf8Start[index] { return false }
        return true
    }
    switch text.count {
    case 3: return isEqual("GET") ? .get : isEqual("PUT") ? .put : .other
    case 4: return isEqual("POST") ? .post : isEqual("HEAD") ? .head : .other
    case 5: return isEqual("PATCH") ? .patch : isEqual("TRACE") ? .trace : .other
    case 6: return isEqual("DELETE") ? .delete : .other
    case 7: return isEqual("OPTIONS") ? .options : isEqual("CONNECT") ? .connect : .other
    default: return .other
    }
}

/// The four forms of RFC 9112 section 3.2.
private func splitTarget(_ bytes: UnsafeRawBufferPointer, _ head: inout MessageHead) throws(WireViolation) {
    let end = Int(head.target.end)
    var path = Int(head.target.start)
    if head.method == .connect {
        head.authority = head.target
        try checkAuthority(bytes, head.authority)
        return
    }
    if bytes[path] == UInt8(ascii: "*") {
        guard head.target.count == 1, head.method == .options else { throw WireViolation(400, .badTarget) }
        head.path = head.target
        return
    }
    if bytes[path] != UInt8(ascii: "/") {
        head.authority = try readAbsoluteAuthority(bytes, head.target)
        head.isAbsoluteTarget = true
        path = Int(head.authority.end)
    }
    var at = path
    while at < end, bytes[at] != UInt8(ascii: "?") { at += 1 }
    head.path = ByteRange(path, at)
    if at < end { head.query = ByteRange(at + 1, end) }
}

/// `http://authority`, up to its path or query.
private func readAbsoluteAuthority(
    _ bytes: UnsafeRawBufferPointer, _ target: ByteRange
) throws(WireViolation) -> ByteRange {
    var at = Int(target.start)
    let end = Int(target.end)
    for scheme: StaticString in ["http://", "https://"] {
        let length = scheme.utf8CodeUnitCount
        guard end - at > length, (0..<length).allSatisfy({ lowercased(bytes[at + $0]) == scheme.utf8Start[$0] }) else {
            continue
        }
        at += length
        let start = at
        while at < end, bytes[at] != UInt8(ascii: "/"), bytes[at] != UInt8(ascii: "?") { at += 1 }
        let authority = ByteRange(start, at)
        try checkAuthority(bytes, authority)
        return authority
    }
    throw WireViolation(400, .badTarget)
}

/// A host name or address and perhaps a port; no user, nothing else.
func checkAuthority(_ bytes: UnsafeRawBufferPointer, _ authority: ByteRange) throws(WireViolation) {
    guard !authority.isEmpty else { throw WireViolation(400, .badHost) }
    for at in authority.range where !isHostByte(bytes[at]) { throw WireViolation(400, .badHost) }
}
