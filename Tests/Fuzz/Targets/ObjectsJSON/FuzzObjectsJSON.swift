/// Fuzzes the decoders over JSON in place. The YAML reader is the oracle: a text both accept must give the same object.
import Cluster
import Manifests
import PullJSON
import YAML

private func fuzz(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    let kind = ObjectKind.allCases[Int(first) % ObjectKind.allCases.count]
    let text = Array(bytes.dropFirst())
    guard let fromJSON = decodeJSON(kind, text), let fromYAML = decodeYAML(kind, text) else { return }
    precondition(fromJSON == fromYAML, "two readers of one text disagree")
}

private func decodeJSON(_ kind: ObjectKind, _ text: [UInt8]) -> ClusterObject? {
    var decoder = ObjectDecoder()
    var reader = JSONReader(text.span)
    guard let object = try? decoder.decode(kind, json: &reader) else { return nil }
    guard (try? reader.finish()) != nil else { return nil }
    return object
}
private func decodeYAML(_ kind: ObjectKind, _ text: [UInt8]) -> ClusterObject? {
    guard let documents = try? YAMLStream.documents(in: text), documents.count == 1 else { return nil }
    var decoder = ObjectDecoder()
    var reader = YAMLValueReader(documents[0].root)
    return try? decoder.decode(kind, from: &reader)
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
@_cdecl("fuzz_objects_json_main")
package func fuzzMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    var argc = argc
    var argv = argv
    return runFuzzer(&argc, &argv) { fuzzOne($0, $1) }
}
