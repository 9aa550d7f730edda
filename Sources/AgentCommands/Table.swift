/// Aligned columns for people, and the printing of everything.
import FoundationEssentials
import Glibc
import Posix
import Telemetry

struct Table {
    private let header: [String]
    private var rows: [[String]] = []
    private var widths: [Int]

    init(_ header: String...) {
        self.header = header
        widths = header.map(\.displayWidth)
    }

    mutating func add(_ row: String...) {
        precondition(row.count == header.count, "a row of \(row.count) cells under \(header.count) titles")
        for (column, cell) in row.enumerated() { widths[column] = max(widths[column], cell.displayWidth) }
        rows.append(row)
    }

    var text: String { text { _, cell in cell } }

    /// `paint` may put colours around what a cell shows, given its column; columns stay aligned.
    func text(paint: (Int, String) -> String) -> String {
        var text = ""
        text.reserveCapacity((rows.count + 1) * (widths.reduce(0, +) + 2 * widths.count))
        append(header, to: &text) { _, cell in cell }
        for row in rows { append(row, to: &text, paint) }
        return text
    }

    private func append(_ row: [String], to text: inout String, _ paint: (Int, String) -> String) {
        // Spaces are put before the next cell that shows something: none are left at the end of a line.
        var pending = 0
        for (column, cell) in row.enumerated() {
            if !cell.isEmpty {
                text.append(String(repeating: " ", count: pending))
                text += paint(column, cell)
                pending = 0
            }
            pending += widths[column] - cell.displayWidth + 2
        }
        text += "\n"
    }
}

extension String {
    /// Counting letters is slow; nearly everything printed here is ASCII.
    fileprivate var displayWidth: Int { utf8.allSatisfy { $0 < 0x80 } ? utf8.count : count }
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
        // Names, annotations, paths and log lines are other people's; only our own colours may do something.
        _ = writeAll(Array(text.terminalSafe(keeping: Paint.sequenceLength).utf8), to: descriptor)
    }
}

/// A line of a status: what it is about, and beneath those of other lines what there is to say.
func factLine(_ name: String, _ value: String) -> String {
    name + String(repeating: " ", count: max(1, 18 - name.count)) + value + "\n"
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
