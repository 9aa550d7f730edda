/// One metric name with all its label values, and how it looks in the text format.
import Synchronization

final class MetricFamily: Sendable {
    enum Kind: String, Sendable {
        case counter, gauge, histogram
    }
    struct Cell: Sendable {
        /// The value; of a histogram the sum.
        var value = 0.0
        var count: UInt64 = 0
        /// Observations by the first bound they do not exceed; those above all bounds are only in `count`.
        var buckets: [UInt64] = []
    }

    let name: String
    let help: String
    let kind: Kind
    let labels: [String]
    let bounds: [Double]
    private let cells: Mutex<[[String]: Cell]>

    init(_ name: String, _ help: String, kind: Kind, labels: [String], bounds: [Double] = []) {
        self.name = name
        self.help = help
        self.kind = kind
        self.labels = labels
        self.bounds = bounds
        // Without labels there is exactly one value, and it exists before the first event.
        cells = Mutex(labels.isEmpty ? [[]: Cell(buckets: Array(repeating: 0, count: bounds.count))] : [:])
    }

    func update(_ labelValues: [String], _ edit: (inout Cell) -> Void) {
        precondition(labelValues.count == labels.count, "metric \(name) has the labels \(labels)")
        cells.withLock { cells in
            edit(&cells[labelValues, default: Cell(buckets: Array(repeating: 0, count: bounds.count))])
        }
    }

    func replace(_ values: [[String]: Double]) {
        precondition(values.keys.allSatisfy { $0.count == labels.count }, "metric \(name) has the labels \(labels)")
        cells.withLock { $0 = values.mapValues { Cell(value: $0) } }
    }

    func render(into text: inout String) {
        text += "# HELP \(name) \(escaped(help, quotes: false))\n# TYPE \(name) \(kind.rawValue)\n"
        let sorted = cells.withLock { $0 }.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        for (values, cell) in sorted {
            let pairs = zip(labels, values).map { "\($0)=\"\(escaped($1, quotes: true))\"" }
            guard kind == .histogram else {
                text += line("", pairs, number(cell.value))
                continue
            }
            var below: UInt64 = 0
            for (bound, count) in zip(bounds, cell.buckets) {
                below += count
                text += line("_bucket", pairs + ["le=\"\(number(bound))\""], "\(below)")
            }
            text += line("_bucket", pairs + ["le=\"+Inf\""], "\(cell.count)")
            text += line("_sum", pairs, number(cell.value)) + line("_count", pairs, "\(cell.count)")
        }
    }

    private func line(_ suffix: String, _ pairs: [String], _ value: String) -> String {
        name + suffix + (pairs.isEmpty ? "" : "{" + pairs.joined(separator: ",") + "}") + " " + value + "\n"
    }
}

/// As Prometheus' text format wants it: help texts without, label values with `quotes`.
package func escaped(_ text: String, quotes: Bool) -> String {
    guard text.utf8.contains(where: { $0 == 0x5c || $0 == 0x22 || $0 == 0x0a }) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\"" where quotes: result += "\\\""
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}

/// Whole numbers without a fraction, as Prometheus' own clients print them.
private func number(_ value: Double) -> String {
    if let whole = Int64(exactly: value) { return String(whole) }
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
    return "\(value)"
}
