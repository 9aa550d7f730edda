/// Random numbers for choices among endpoints, which need speed, not secrecy. Balancing takes this very type instead of
/// any generator: code generic over another module's type is not specialised, and cost more than the choice itself.

/// SplitMix64.
package struct FastGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64
    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return mixed(state)
    }

    /// From 0 up to but not including `bound`, each as probable as the next up to one part in 2^64 / `bound`.
    package mutating func next(below bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }
    mutating func next(below bound: Int) -> Int { Int(next(below: UInt64(bound))) }
    /// From 0 up to but not including 1.
    mutating func nextFraction() -> Double { Double(next() >> 11) * 0x1p-53 }
}
