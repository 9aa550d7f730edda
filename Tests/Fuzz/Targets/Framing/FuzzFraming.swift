/// Fuzzes how lists and watches are cut up while they come: wherever the network cuts, the pieces are the same, and a
/// list that is valid as a whole is one for the framer.
import FuzzSupport
import PullJSON

@main enum FuzzFraming: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let text = Array(bytes.dropFirst())
        let size = Int(first) % 32 + 1
        precondition(items(text, size) == items(text, max(text.count, 1)), "a list depends on where it is cut")
        precondition(lines(text, size) == lines(text, max(text.count, 1)), "events depend on where they are cut")
        guard let count = countedByReader(text) else { return }
        precondition(items(text, size)?.count == count, "a valid list of \(count) is cut up wrongly")
    }
}

/// nil: no list, or not all of it.
private func items(_ text: [UInt8], _ size: Int) -> [[UInt8]]? {
    var framer = ListFramer(limit: 4096)
    var items: [[UInt8]] = []
    do {
        for start in stride(from: 0, to: text.count, by: size) {
            try framer.push(Array(text[start..<min(start + size, text.count)]).span) { piece, bytes in
                if piece == .item { items.append(bytes.withUnsafeBufferPointer { Array($0) }) }
            }
        }
    } catch { return nil }
    return framer.isComplete ? items : nil
}

private func lines(_ text: [UInt8], _ size: Int) -> [[UInt8]]? {
    var framer = LineFramer(limit: 4096)
    var lines: [[UInt8]] = []
    do {
        for start in stride(from: 0, to: text.count, by: size) {
            try framer.push(Array(text[start..<min(start + size, text.count)]).span) { line in
                lines.append(line.withUnsafeBufferPointer { Array($0) })
            }
        }
    } catch { return nil }
    return lines + [framer.isInsideEvent ? [1] : []]
}

/// The objects in `items`; nil: no valid JSON, or nothing an API server would write.
private func countedByReader(_ text: [UInt8]) -> Int? {
    do {
        var reader = JSONReader(text.span)
        var count: Int?
        try reader.enterObject()
        while let key = try reader.nextKey() {
            // The framer compares keys as bytes; API servers escape none and write none twice.
            guard !text.contains(UInt8(ascii: "\\")) else { return nil }
            guard reader.text(of: key) == "items", reader.token == .array else {
                try reader.skipValue()
                continue
            }
            guard count == nil else { return nil }
            count = 0
            try reader.enterArray()
            while try reader.nextElement() {
                guard reader.token == .object else { return nil }
                try reader.skipValue()
                count = (count ?? 0) + 1
            }
        }
        try reader.finish()
        return count
    } catch { return nil }
}
