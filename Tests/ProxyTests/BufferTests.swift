/// What connections read into and send from: buffers that are used again, parts that come one by one, and a kernel
/// that does not take everything at once.
import Addressing
import NIOCore
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct BufferTests {
    private func place(_ buffer: ByteBuffer) -> UInt { buffer.withVeryUnsafeBytes { UInt(bitPattern: $0.baseAddress) } }

    @Test(arguments: [100, 100_000]) func aBufferIsUsedAgainOnceNobodyHasAPartOfIt(size: Int) {
        let pool = BufferPool()
        /// Of one that is taken and given back; nobody has it then.
        func used() -> UInt {
            let buffer = pool.take(size)
            #expect(buffer.readableBytes == 0 && buffer.writableBytes >= size)
            pool.giveBack(buffer)
            return place(buffer)
        }
        let first = used()
        #expect(used() == first)
        var whole = pool.take(size)
        whole.writeString("part")
        var part = whole.readSlice(length: 4)
        pool.giveBack(whole)
        whole = ByteBuffer()
        #expect(used() != first)
        #expect(part.map { String(buffer: $0) } == "part")
        part = nil
    }

    @Test(arguments: [(BufferPool.size, 32), (8 * BufferPool.size, 1), (1 << 20, 0)])
    func aPoolKeepsNoMoreThanItMay(size: Int, count: Int) {
        let pool = BufferPool()
        var buffers = (0..<40).map { _ in pool.take(size) }
        for buffer in buffers { pool.giveBack(buffer) }
        let kept = buffers.indices.count { buffers[$0].modifyIfUniquelyOwned { _ in true } == nil }
        #expect(kept == count)
    }

    /// A head may be kept for hours: what it lies in is of its own size.
    @Test func aHeadTakesNoBufferOfALongBody() {
        let pool = BufferPool()
        pool.giveBack(pool.take(ReadSizes.maximum))
        #expect(pool.take(BufferPool.size + 1).storageCapacity == 2 * BufferPool.size)
    }

    /// NIO keeps the first buffer of a connection: it is small, whatever comes afterwards.
    @Test func readsGrowWithWhatComesAndShrinkAgain() {
        var allocator = ReadAllocator(BufferPool())
        func next(_ count: Int? = nil) -> Int {
            let capacity = allocator.buffer(allocator: ByteBufferAllocator()).storageCapacity
            #expect(allocator.record(actualReadBytes: count ?? capacity) == true)
            return capacity
        }
        #expect(next() == 16)
        var size = BufferPool.size
        while size < ReadSizes.maximum {
            #expect(next() == size)
            size *= 2
        }
        #expect([next(), next(), next(1), next(1), next(1)] == [size, size, size, size, size / 2])
        for _ in 0..<40 { _ = next(1) }
        #expect(next(1) == BufferPool.size)
    }

    @Test func headsOfManyConnectionsComeInPieces() async throws {
        let backend = try TestBackend("one")
        defer { backend.stop() }
        try await ProxyRig.with([rule(to: [("cart", 1)])], [upstream("cart", [backend])]) { rig in
            let clients = try (0..<8).map { _ in try rig.connect() }
            for round in 0..<3 {
                for at in 0..<6 {
                    for (number, client) in clients.enumerated() {
                        let text = "GET /\(round)/\(number) HTTP/1.1\r\nHost: cart\r\nX-Number: \(number)\r\n\r\n"
                        client.send(String(text.dropFirst(at * 10).prefix(at == 5 ? .max : 10)))
                    }
                    // A bad one in between spoils nobody's.
                    #expect(try rig.ask("GET / HTTP/1.1\r\nHost : cart\r\n\r\n").status == 400)
                }
                for (number, client) in clients.enumerated() {
                    let answer = client.answer()
                    #expect(answer?.text.hasPrefix("GET /\(round)/\(number) HTTP/1.1\r\n") == true)
                    #expect(answer?.text.contains("X-Number: \(number)\r\n") == true)
                }
            }
        }
    }

    @Test func answersComeInOrderAndWholeWhenTheClientReadsLate() async throws {
        let backend = try TestBackend("one") { request in
            .reply(200, body: String(repeating: request.target + " ", count: request.number % 5 == 0 ? 3000 : 100))
        }
        defer { backend.stop() }
        try await ProxyRig.with([rule(to: [("cart", 1)])], [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            let count = 1000
            for number in 0..<count { client.send("GET /\(number) HTTP/1.1\r\nHost: cart\r\n\r\n") }
            // Until the client's buffers and the proxy's are full.
            var (seen, polls) = (-1, 0)
            try eventually("nothing goes on") {
                let now = backend.requests.count
                polls = now == seen ? polls + 1 : 0
                seen = now
                return polls == 200
            }
            for number in 0..<count {
                let words = Set((client.answer()?.text ?? "").split(separator: " "))
                #expect(words == ["/\(number)"])
            }
        }
    }
}
