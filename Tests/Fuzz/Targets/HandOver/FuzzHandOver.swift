/// Fuzzes the frames of the hand-over, which are also the proxy's config on disk: no bytes may crash the reader, and
/// what it accepts must be written as a message that reads the same. The checksum is made right, or nothing would pass.
import HandOver

private func fuzz(_ bytes: [UInt8]) {
    let frame = HandOverFrame.sealed(bytes)
    guard let (message, _) = try? HandOverFrame.decode(frame.span) else { return }
    let again = HandOverFrame.encode(message)
    guard let (same, length) = try? HandOverFrame.decode(again.span) else {
        preconditionFailure("what was written cannot be read")
    }
    precondition(same == message && length == again.count, "a message changed on its way")
}

// SwiftPM does not know libFuzzer: it renames `main`, so libFuzzer's own is never entered and is driven from here.
private typealias Body = @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
    _ argc: UnsafeMutablePointer<CInt>,
    _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>, _ body: Body
) -> CInt

@_cdecl("LLVMFuzzerTestOneInput")
package func fuzzOne(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    fuzz(Array(UnsafeBufferPointer(start: data, count: size)))
    return 0
}
@_cdecl("fuzz_hand_over_main")
package func fuzzMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    var argc = argc
    var argv = argv
    return runFuzzer(&argc, &argv) { fuzzOne($0, $1) }
}
