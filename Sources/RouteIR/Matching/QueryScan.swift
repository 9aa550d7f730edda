/// Finds a parameter in a query string. Of several with one name the first counts (spec 1.9).

/// Whether the first parameter of that name exists and its decoded value passes the test.
func queryParameter(_ name: [UInt8], in query: Span<UInt8>, passes test: (Span<UInt8>) -> Bool) -> Bool {
    var start = 0
    while start < query.count {
        var end = start
        var equals: Int?
        while end < query.count, query[end] != UInt8(ascii: "&") {
            if equals == nil, query[end] == UInt8(ascii: "=") { equals = end }
            end += 1
        }
        let nameEnd = equals ?? end
        if isEqual(query, start..<nameEnd, decodedTo: name) {
            let value = query.extracting(min(nameEnd + 1, end)..<end)
            return needsDecoding(value) ? test(decoded(value).span) : test(value)
        }
        start = end + 1
    }
    return false
}

private func needsDecoding(_ value: Span<UInt8>) -> Bool {
    for index in 0..<value.count where value[index] == UInt8(ascii: "%") || value[index] == UInt8(ascii: "+") {
        return true
    }
    return false
}

private func decoded(_ value: Span<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    var at = 0
    while at < value.count { result.append(nextByte(value, &at, value.count)) }
    return result
}

private func isEqual(_ text: Span<UInt8>, _ range: Range<Int>, decodedTo name: [UInt8]) -> Bool {
    var at = range.lowerBound
    for byte in name {
        guard at < range.upperBound, nextByte(text, &at, range.upperBound) == byte else { return false }
    }
    return at == range.upperBound
}

/// A percent sign without two digits stands for itself.
private func nextByte(_ text: Span<UInt8>, _ at: inout Int, _ end: Int) -> UInt8 {
    let byte = text[at]
    at += 1
    if byte == UInt8(ascii: "+") { return UInt8(ascii: " ") }
    guard byte == UInt8(ascii: "%"), at + 1 < end, let high = hexDigit(text[at]), let low = hexDigit(text[at + 1])
    else { return byte }
    at += 2
    return high << 4 | low
}

func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}
