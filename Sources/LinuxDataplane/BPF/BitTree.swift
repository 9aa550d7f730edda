/// A set of small numbers that finds its smallest member quickly: one bit a number, and above it bits that say which
/// words are not empty. A million numbers need 130 KB and four steps.

struct BitTree {
    /// levels[0] has a bit for each number; a bit of a higher level stands for a word of the level below.
    private var levels: [[UInt64]]

    init(capacity: Int) {
        levels = []
        var bits = max(capacity, 1)
        repeat {
            bits = (bits + 63) / 64
            levels.append([UInt64](repeating: 0, count: bits))
        } while bits > 1
    }

    func contains(_ number: Int) -> Bool {
        number >> 6 < levels[0].count && levels[0][number >> 6] & 1 << UInt64(number & 63) != 0
    }

    mutating func insert(_ number: Int) {
        var position = number
        for level in levels.indices {
            let word = position >> 6
            let wasEmpty = levels[level][word] == 0
            levels[level][word] |= 1 << UInt64(position & 63)
            guard wasEmpty else { return }
            position = word
        }
    }

    mutating func remove(_ number: Int) {
        var position = number
        for level in levels.indices {
            let word = position >> 6
            levels[level][word] &= ~(1 << UInt64(position & 63))
            guard levels[level][word] == 0 else { return }
            position = word
        }
    }

    var first: Int? {
        guard var word = levels.last?.first, word != 0 else { return nil }
        var position = word.trailingZeroBitCount
        for level in levels.indices.dropLast().reversed() {
            word = levels[level][position]
            position = position << 6 | word.trailingZeroBitCount
        }
        return position
    }
}
