/// Random numbers that can be had again: every test that uses them prints its seed, and HEDDLE_SEED repeats a run.
import Glibc

package struct SeededGenerator: RandomNumberGenerator, Sendable {
    package let seed: UInt64
    private var state: UInt64

    package init(seed: UInt64) {
        self.seed = seed
        state = seed
    }
    /// A seed of its own (or HEDDLE_SEED), printed with the name of the test.
    package init(for test: String = #function) {
        let given = getenv("HEDDLE_SEED").flatMap { UInt64(String(cString: $0)) }
        self.init(seed: given ?? UInt64.random(in: 1...999_999_999))
        // One write: tests run in parallel and lines must not mix.
        let line = "seed of \(test): HEDDLE_SEED=\(seed)\n"
        _ = Array(line.utf8).withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
    }

    /// SplitMix64: short, fast, and any seed will do.
    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
