/// What all fuzz targets are: a program that gives libFuzzer's inputs to one function.
import Glibc

/// `@main enum FuzzX: Fuzzer`. SwiftPM does not know libFuzzer: it makes `main` the target's, so libFuzzer's own is
/// never entered and is driven from here.
package protocol Fuzzer {
    /// Ends the process if something is wrong.
    static func fuzz(_ bytes: [UInt8])
}

/// libFuzzer knows one C function.
nonisolated(unsafe) private var target: (any Fuzzer.Type)?
@_cdecl("LLVMFuzzerTestOneInput")
package func fuzzOne(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    target?.fuzz(Array(UnsafeBufferPointer(start: data, count: size)))
    return 0
}

private typealias Body = @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
    _ argc: UnsafeMutablePointer<CInt>,
    _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>, _ body: Body
) -> CInt

extension Fuzzer {
    package static func main() {
        target = Self.self
        var (argc, argv) = (CommandLine.argc, CommandLine.unsafeArgv)
        exit(runFuzzer(&argc, &argv) { fuzzOne($0, $1) })
    }
}
