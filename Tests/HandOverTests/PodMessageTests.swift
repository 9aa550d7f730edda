// What agent and proxy say about pods.
import Addressing
import HandOver
import Testing

@Suite struct PodMessageTests {
    private let address = IPAddress(v4: 0x0a00_0001)

    @Test func whatIsWrittenReadsTheSame() {
        for message: PodMessage in [
            .pod(address), .isComplete, .isGone(IPAddress(high: 0xfd00 << 48, low: 1)), .wantsSocket(address),
            .socket(address), .connectsInside, .hasLeft(address),
        ] {
            #expect(message.bytes.count == PodMessage.length)
            #expect(PodMessage(bytes: message.bytes) == message)
        }
    }

    @Test func whatIsNoneIsNotRead() {
        let bytes = PodMessage.pod(address).bytes
        #expect(PodMessage(bytes: []) == nil)
        #expect(PodMessage(bytes: bytes.dropLast()) == nil && PodMessage(bytes: bytes + [0]) == nil)
        #expect(PodMessage(bytes: [0] + bytes.dropFirst()) == nil && PodMessage(bytes: [8] + bytes.dropFirst()) == nil)
    }
}
