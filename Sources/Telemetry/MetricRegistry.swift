/// The agent's metrics: counters, gauges and histograms with fixed label names, rendered in Prometheus' text format
/// 0.0.4. Meant for the control plane: every update takes a lock, which is nothing next to a kernel write.
import Synchronization

package final class MetricRegistry: Sendable {
    /// What `/metrics` answers with.
    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    private let families = Mutex<[MetricFamily]>([])

    package init() {}

    package func counter(_ name: String, _ help: String, labels: [String] = []) -> Counter {
        Counter(family: register(MetricFamily(name, help, kind: .counter, labels: labels)))
    }
    package func gauge(_ name: String, _ help: String, labels: [String] = []) -> Gauge {
        Gauge(family: register(MetricFamily(name, help, kind: .gauge, labels: labels)))
    }
    /// `buckets` are upper bounds, ascending, without infinity.
    package func histogram(_ name: String, _ help: String, labels: [String] = [], buckets: [Double]) -> Histogram {
        Histogram(family: register(MetricFamily(name, help, kind: .histogram, labels: labels, bounds: buckets)))
    }

    /// Every family in the order of registration, so that a diff of two scrapes is readable.
    package func render() -> String {
        var text = ""
        for family in families.withLock({ $0 }) { family.render(into: &text) }
        return text
    }

    private func register(_ family: MetricFamily) -> MetricFamily {
        families.withLock { all in
            precondition(!all.contains { $0.name == family.name }, "metric \(family.name) is registered twice")
            all.append(family)
        }
        return family
    }
}

/// A number that only grows.
package struct Counter: Sendable {
    let family: MetricFamily

    package func add(_ amount: Double = 1, _ labels: String...) {
        precondition(amount >= 0, "counter \(family.name) cannot fall")
        family.update(labels) { $0.value += amount }
    }
    /// For a count somebody else keeps, such as one of the kernel's.
    package func set(_ total: Double, _ labels: String...) { family.update(labels) { $0.value = total } }
    /// Such counts for every label at once: what is not in `totals` disappears.
    package func replace(_ totals: [[String]: Double]) { family.replace(totals) }
}

/// A number that goes up and down.
package struct Gauge: Sendable {
    let family: MetricFamily

    package func set(_ value: Double, _ labels: String...) { family.update(labels) { $0.value = value } }
    /// Replaces every labelled value at once: what is not in `values` disappears.
    package func replace(_ values: [[String]: Double]) { family.replace(values) }
}

/// How often a value fell below each bound.
package struct Histogram: Sendable {
    let family: MetricFamily

    package func observe(_ value: Double, _ labels: String...) {
        family.update(labels) { cell in
            cell.count += 1
            cell.value += value
            if let index = family.bounds.firstIndex(where: { value <= $0 }) { cell.buckets[index] += 1 }
        }
    }
}
