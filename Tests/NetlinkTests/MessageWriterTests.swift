/// Encoding and decoding of netlink messages, byte for byte, without a kernel.
import Addressing
import Netlink
import Testing

@Suite struct MessageWriterTests {
    @Test func writesHeaderAndAttributes() {
        var writer = MessageWriter(capacity: 1)
        let start = writer.beginMessage(type: 0x1234, flags: 5, sequence: 7)
        writer.put(1, bigEndian: UInt16(80))
        writer.put(2, string: "abc")
        writer.nested(3) { $0.put(4, address: IPAddress(v4: 0x0a00_0001)) }
        writer.endMessage(start)
        #expect(
            writer.bytes == [
                44, 0, 0, 0, 0x34, 0x12, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,
                6, 0, 1, 0, 0, 80, 0, 0,
                8, 0, 2, 0, 97, 98, 99, 0,
                12, 0, 3, 0x80, 8, 0, 4, 0, 10, 0, 0, 1,
            ])
    }

    @Test func growsBeyondItsFirstBuffer() {
        var writer = MessageWriter(capacity: 64)
        for number in 0..<10_000 { writer.append(UInt32(number)) }
        #expect(writer.count == 40_000)
        #expect(writer.bytes[39_996...].elementsEqual([0x0f, 0x27, 0, 0]))
    }

    @Test func readsBackWhatWasWritten() {
        var writer = MessageWriter()
        let start = writer.beginMessage(type: 20, flags: 2, sequence: 9)
        writer.append(UInt32(0))
        writer.put(1, bigEndian: UInt32(99))
        writer.nested(2) { $0.put(1, string: "name") }
        writer.endMessage(start)
        let bytes = writer.bytes
        var messages = MessageReader(bytes.span.bytes)
        guard let message = messages.next() else {
            Issue.record("no message")
            return
        }
        #expect(message.type == 20 && message.flags == 2 && message.sequence == 9)
        let attributes = message.attributes(after: 4)
        #expect(attributes.first(1)?.bigEndian(UInt32.self) == 99)
        #expect(attributes.first(1)?.bigEndian(UInt16.self) == nil)
        #expect(attributes.first(2)?.nested.first(1)?.string == "name")
        // #expect cannot take values that do not escape.
        let absent = attributes.first(3) == nil
        let ended = messages.next() == nil
        #expect(absent && ended)
    }

    /// Whatever the kernel or an attacker sends: lengths that lie never read past the end, and reading ends.
    @Test func survivesLiesAboutLengths() {
        var random = SystemRandomNumberGenerator()
        let seed = random.next()
        var state = seed | 1
        func next() -> UInt8 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return UInt8(truncatingIfNeeded: state)
        }
        for _ in 0..<2_000 {
            let bytes = (0..<Int(next() % 80)).map { _ in next() % 24 }
            var seen = 0
            var messages = MessageReader(bytes.span.bytes)
            while let message = messages.next() {
                var attributes = message.attributes(after: 4)
                while let attribute = attributes.next() {
                    var inner = attribute.nested
                    while inner.next() != nil { seen += 1 }
                    seen += 1 + attribute.string.utf8.count
                }
                seen += 1
            }
            #expect(seen < 200, "seed \(seed)")
        }
    }
}
