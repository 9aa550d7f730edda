/// What travels between agent and proxy: round trips, differences, and damaged frames.
import RouteIR
import TestSupport
import Testing

@Suite struct HandOverTests {
    private func decode(_ bytes: [UInt8]) throws -> (message: HandOverMessage, length: Int)? {
        try HandOverFrame.decode(bytes.span)
    }
    private func roundTrip(_ message: HandOverMessage) throws -> HandOverMessage {
        let bytes = HandOverFrame.encode(message)
        let (decoded, length) = try #require(try decode(bytes))
        #expect(length == bytes.count)
        return decoded
    }

    @Test func messagesComeBackAsTheyWere() throws {
        var samples = Samples(generator: SeededGenerator())
        let messages: [HandOverMessage] = [
            .hello(version: "1", pid: 7, generation: 9), .ack(1 << 40), .nack(3, reason: "ü"), .query(id: 1, "health"),
            .answer(id: 1, Array("{}".utf8)),
        ]
        for message in messages { #expect(try roundTrip(message) == message) }
        for generation in 0..<100 {
            let update = HandOverMessage.update(try samples.snapshot(UInt64(generation)).update(since: nil))
            #expect(try roundTrip(update) == update)
        }
    }

    @Test func differencesLeadFromOneSnapshotToTheNext() throws {
        var samples = Samples(generator: SeededGenerator())
        var held = ProxySnapshot(node: ProxyNode(name: "n"))
        for generation in 1..<60 {
            let next = try samples.snapshot(UInt64(generation))
            held = try #require(held.applying(next.update(since: samples.chance(80) ? held : nil)))
            #expect(held == next)
        }
        let stranger = ProxySnapshot(generation: 1000, node: held.node)
        #expect(held.applying(stranger.update(since: stranger)) == nil)
    }

    @Test func everyDamageIsNoticed() throws {
        var samples = Samples(generator: SeededGenerator())
        let frame = HandOverFrame.encode(.update(try samples.snapshot(5).update(since: nil)))
        for length in 0..<frame.count { #expect(try decode(Array(frame[..<length])) == nil) }
        for at in frame.indices where !(8..<12).contains(at) {
            var damaged = frame
            damaged[at] ^= UInt8(samples.number(1...255))
            #expect(throws: WireError.self, "byte \(at)") { try decode(damaged) }
        }
        var tooLong = frame
        tooLong[11] = 0xff
        #expect(throws: WireError.self) { try decode(tooLong) }
    }

    /// As the fuzz target does: bytes with a right checksum are refused with a reason or read as what they are.
    @Test func whateverTheBodySaysIsReadOrRefused() throws {
        var samples = Samples(generator: SeededGenerator())
        var accepted = 0
        for round in 0..<400 {
            let frame = HandOverFrame.encode(.update(try samples.snapshot(UInt64(round)).update(since: nil)))
            var body = Array(frame.dropFirst(HandOverFrame.headerLength))
            for _ in 0..<samples.number(1...3) {
                let at = samples.number(0...body.count - 1)
                if samples.chance(70) { body[at] = UInt8(samples.number(0...255)) } else { body.remove(at: at) }
                if body.isEmpty { break }
            }
            guard let (message, _) = try? decode(HandOverFrame.sealed(body)) else { continue }
            accepted += 1
            #expect(try roundTrip(message) == message)
        }
        #expect(accepted > 0)
    }

    @Test func aNewerFormatIsRefusedWithAReason() throws {
        var frame = HandOverFrame.encode(.ack(1))
        frame[4] = 99
        let error = #expect(throws: WireError.self) { try decode(frame) }
        #expect(error?.description.contains("one release") == true)
    }
}
