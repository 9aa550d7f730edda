/// Aligned columns for people, and the printing of everything.
import FoundationEssentials
import Glibc

struct Table {
    private let header: [String]
    private var rows: [[String]] = []

    init(_ header: String...) { self.header = header }

    mutating func add(_ row: String...) {
        precondition(row.count == header.count, "a row of \(row.count) cells under \(header.count) titles")
        rows.append(row)
    }

    var text: String {
        let all = [header] + rows
        let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            var line = ""
            for (cell, width) in zip(row, widths) {
                line += cell + String(repeating: " ", count: width - cell.count + 2)
            }
            while line.last == " " { line.removeLast() }
            return line + "\n"
        }.joined()
    }
}

enum Output {
    static func tell(_ text: String) { put(text, STDOUT_FILENO) }
    static func complain(_ text: String) { put(text, STDERR_FILENO) }

    static func json(_ value: some Encodable) throws(CommandFailure) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(value) else { throw CommandFailure("the answer cannot be put as JSON") }
        tell(String(decoding: data, as: UTF8.self) + "\n")
    }

    private static func put(_ text: String, _ descriptor: Int32) {
        var text = text
        text.withUTF8 { bytes in
            var at = 0
            while at < bytes.count {
                let count = write(descriptor, bytes.baseAddress.map { $0 + at }, bytes.count - at)
                guard count > 0 else { return }
                at += count
            }
        }
    }
}

/// `0.4s`, `12s`, `3m`, `5h`, `2d`
func age(_ seconds: Double) -> String {
    switch seconds {
    case ..<10: "\((seconds * 10).rounded() / 10)s"
    case ..<120: "\(Int(seconds))s"
    case ..<7200: "\(Int(seconds / 60))m"
    case ..<172_800: "\(Int(seconds / 3600))h"
    default: "\(Int(seconds / 86400))d"
    }
}

/// `512 B`, `64.0 KiB`, `1.5 MiB`
func byteCount(_ bytes: Int) -> String {
    guard bytes >= 1024 else { return "\(bytes) B" }
    let isLarge = bytes >= 1 << 20
    let tenths = Int((Double(bytes) / Double(isLarge ? 1 << 20 : 1 << 10) * 10).rounded())
    return "\(tenths / 10).\(tenths % 10) \(isLarge ? "MiB" : "KiB")"
}
