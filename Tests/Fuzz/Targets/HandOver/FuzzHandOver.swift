/// Fuzzes the frames of the hand-over, which are also the proxy's config on disk: no bytes may crash the reader, and
/// what it accepts must be written as a message that reads the same. The checksum is made right, or nothing would pass.
/// The messages about pods likewise.
import FuzzSupport
import HandOver

@main enum FuzzHandOver: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        if let message = PodMessage(bytes: bytes) {
            precondition(PodMessage(bytes: message.bytes) == message, "a message about a pod changed on its way")
        }
        let frame = HandOverFrame.sealed(bytes)
        guard let (message, _) = try? HandOverFrame.decode(frame.span) else { return }
        let again = HandOverFrame.encode(message)
        guard let (same, length) = try? HandOverFrame.decode(again.span) else {
            preconditionFailure("what was written cannot be read")
        }
        precondition(same == message && length == again.count, "a message changed on its way")
    }
}
