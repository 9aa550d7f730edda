/// Bodies that wait take the memory that is counted for them.
import NIOCore
import Testing

@testable import Proxy

@Suite struct KeptBodyTests {
    private func memory(_ body: KeptBody) -> Int {
        body.pieces.reduce(0) { $0 + $1.storageCapacity + MemoryLayout<ByteBuffer>.stride }
    }
    private func bytes(_ body: KeptBody) -> [UInt8] { body.pieces.flatMap { Array($0.readableBytesView) } }
    private let large = ByteBuffer(bytes: (0..<65_536).map { UInt8(truncatingIfNeeded: $0) })

    @Test("slices of large buffers", arguments: [1, 100, 3000, 5000, 20_000]) func slices(_ length: Int) throws {
        var (body, expected) = (KeptBody(), [UInt8]())
        for start in 0..<40 {
            // Each of a read of its own.
            var read = ByteBuffer()
            read.writeImmutableBuffer(large)
            let piece = try #require(read.getSlice(at: start * 7, length: length))
            start % 2 == 0 ? body.keep(piece) : body.keep(sent: piece, limit: .max)
            expected += piece.readableBytesView
        }
        #expect(body.held == 40 * length && bytes(body) == expected)
        #expect(memory(body) <= 4 * body.held + 1024, "\(memory(body)) bytes for \(body.held)")
    }

    @Test func manyShortPieces() throws {
        var body = KeptBody()
        for number in 0..<100_000 { body.keep(ByteBuffer(bytes: [UInt8(truncatingIfNeeded: number)])) }
        body.keep(ByteBuffer())
        #expect(body.held == 100_000 && bytes(body) == (0..<100_000).map { UInt8(truncatingIfNeeded: $0) })
        #expect(memory(body) < 300_000, "\(memory(body)) bytes")
    }

    @Test func moreThanTheLimitIsNotKept() {
        var body = KeptBody()
        body.keep(sent: ByteBuffer(bytes: [1, 2, 3]), limit: 4)
        #expect(body.isWhole && body.held == 3)
        body.keep(sent: ByteBuffer(bytes: [4, 5]), limit: 4)
        #expect(!body.isWhole && body.held == 0)
    }
}
