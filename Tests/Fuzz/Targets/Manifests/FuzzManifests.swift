/// Fuzzes everything between the bytes of a manifest and the changes that follow: YAML, decoders, index, derived
/// endpoints. Besides not crashing, taking the same file twice must change nothing, and removing it must remove all.
import Cluster
import FuzzSupport
import Manifests

@main enum FuzzManifests: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        var options = ObjectDecoder.Options()
        options.defaultNamespace = "default"
        options.absentPortNameIsEmpty = true
        var decoder = ObjectDecoder(options: options)
        let file = ManifestFile(name: "a.yaml", bytes: bytes, decoder: &decoder)
        var index = ManifestIndex()
        var pods = PodEndpoints()
        index.update("a.yaml", file)
        let changes = index.commit()
        precondition(changes.count == file.entries.count, "every object is new")
        let derived = pods.apply(changes)
        index.update("a.yaml", file)
        precondition(index.commit().isEmpty, "the same file again")
        precondition(pods.apply(changes).isEmpty, "the same objects again")
        index.update("b.yaml", file)
        precondition(index.commit().isEmpty, "the same objects in a second file")
        index.update("b.yaml", nil)
        index.update("a.yaml", nil)
        let deletes = index.commit()
        precondition(deletes.count == changes.count, "all of it goes")
        precondition(pods.apply(deletes).count == derived.count, "what was derived goes too")
        precondition(index.problems.isEmpty, "nobody is left to complain")
    }
}
