/// Draws one of several with probabilities that follow weights: at once if they are equal, else by binary search.

package struct WeightedSampler: Sendable {
    private let count: Int
    /// Sums of the weights so far; empty if all are equal.
    private let sums: [UInt64]

    /// A weight of 0 is never drawn, unless all are 0: then nothing is.
    package init(_ weights: [UInt32]) {
        let isUniform = weights.allSatisfy { $0 == weights.first && $0 > 0 }
        count = weights.contains { $0 > 0 } ? weights.count : 0
        var sum: UInt64 = 0
        sums =
            isUniform
            ? []
            : weights.map {
                sum += UInt64($0)
                return sum
            }
    }

    package var isEmpty: Bool { count == 0 }
    package var isUniform: Bool { sums.isEmpty }

    package func draw(using generator: inout FastGenerator) -> Int? {
        guard count > 0 else { return nil }
        guard let total = sums.last else { return generator.next(below: count) }
        let point = generator.next(below: total)
        var low = 0
        var high = sums.count - 1
        while low < high {
            let middle = (low + high) / 2
            if sums[middle] > point { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
