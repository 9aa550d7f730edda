/// Fuzzes the decoders over JSON in place. The YAML reader is the oracle: a text both accept must give the same object.
import Cluster
import FuzzSupport
import Manifests
import PullJSON
import YAML

@main enum FuzzObjectsJSON: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let kind = ObjectKind.allCases[Int(first) % ObjectKind.allCases.count]
        let text = Array(bytes.dropFirst())
        guard let fromJSON = decodeJSON(kind, text), let fromYAML = decodeYAML(kind, text) else { return }
        precondition(fromJSON == fromYAML, "two readers of one text disagree")
    }
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
