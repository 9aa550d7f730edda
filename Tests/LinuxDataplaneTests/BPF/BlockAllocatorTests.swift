/// The allocator of the `backends` array, without a kernel.
import TestSupport
import Testing

@testable import LinuxDataplane

@Suite struct BlockAllocatorTests {
    @Test func roundsUpToPowersOfTwo() {
        #expect([0, 1, 2, 3, 4, 5, 8, 9, 1024].map(BlockAllocator.order) == [0, 0, 1, 2, 2, 3, 3, 4, 10])
    }

    @Test func takesTheLowestOfTheSmallestAndMergesWhatComesBack() {
        var blocks = BlockAllocator(capacity: 16)
        #expect(blocks.allocate(3) == 0)
        #expect(blocks.allocate(1) == 4)
        #expect(blocks.allocate(8) == 8)
        #expect(blocks.allocate(4) == nil)
        #expect(blocks.used == 13)
        blocks.release(0, 3)
        blocks.release(8, 8)
        #expect(blocks.allocate(16) == nil)
        blocks.release(4, 1)
        #expect(blocks.allocate(16) == 0)
    }

    @Test func usesAllOfACapacityThatIsNoPowerOfTwo() {
        var blocks = BlockAllocator(capacity: 11)
        #expect(Set((0..<11).compactMap { _ in blocks.allocate(1) }) == Set(0..<11))
        #expect(blocks.allocate(1) == nil)
        #expect(blocks.used == 11)
    }

    @Test func claimsPlacesThatAnEarlierAllocatorHandedOut() {
        var blocks = BlockAllocator(capacity: 64)
        #expect(blocks.claim(16, 11) == true)
        #expect(blocks.claim(16, 11) == false)
        #expect(blocks.claim(24, 2) == false)
        #expect(blocks.claim(3, 2) == false, "not where a block of two can lie")
        #expect(blocks.claim(1 << 20, 1) == false)
        #expect(blocks.allocate(16) == 0)
        #expect(blocks.allocate(32) == 32)
    }

    @Test func neverHandsOutAPlaceTwiceAndLosesNone() {
        var random = SeededGenerator()
        let capacity = 4000
        var blocks = BlockAllocator(capacity: capacity)
        var owner = [Int?](repeating: nil, count: capacity)
        var held: [(place: Int, count: Int)] = []
        for round in 0..<20_000 {
            if Bool.random(using: &random) || held.isEmpty {
                let count = Int.random(in: 1...(Int.random(in: 0..<10, using: &random) == 0 ? 300 : 12), using: &random)
                guard let place = blocks.allocate(count) else { continue }
                for entry in place..<place + count {
                    #expect(owner[entry] == nil)
                    owner[entry] = round
                }
                held.append((place, count))
            } else {
                let block = held.remove(at: Int.random(in: 0..<held.count, using: &random))
                for entry in block.place..<block.place + block.count { owner[entry] = nil }
                blocks.release(block.place, block.count)
            }
        }
        var copy = BlockAllocator(capacity: capacity)
        for block in held { #expect(copy.claim(block.place, block.count) == true) }
        #expect(copy.used == blocks.used)
        for block in held { blocks.release(block.place, block.count) }
        #expect(blocks.used == 0)
        #expect(blocks.allocate(2048) == 0)
    }
}

@Suite struct BitTreeTests {
    @Test func findsTheSmallest() {
        var random = SeededGenerator()
        for capacity in [1, 63, 64, 65, 5000] {
            var tree = BitTree(capacity: capacity)
            var model = Set<Int>()
            for _ in 0..<2000 {
                let number = Int.random(in: 0..<capacity, using: &random)
                if Bool.random(using: &random) {
                    tree.insert(number)
                    model.insert(number)
                } else {
                    tree.remove(number)
                    model.remove(number)
                }
                #expect(tree.first == model.min())
                #expect(tree.contains(number) == model.contains(number))
            }
        }
    }
}
