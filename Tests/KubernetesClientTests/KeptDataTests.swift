/// Keys of Secrets and ConfigMaps, read and changed at the fake API server.
import FakeAPIServer
import Testing

@testable import KubernetesClient

@Suite struct KeptDataTests {
    private let secret = ObjectAddress(group: "", plural: "secrets", kind: "Secret", namespace: "n", name: "s")
    private let config = ObjectAddress(group: "", plural: "configmaps", kind: "ConfigMap", namespace: "n", name: "c")

    @Test func keysAreChangedOneByOne() async throws {
        try await withWriter { server, writer in
            for (object, json) in [(secret, #""a":"b25l","b":"dHdv""#), (config, #""a":"one","b":"two""#)] {
                server.store(object.path, #"{"data":{\#(json)}}"#)
                let kept = try await writer.keptData(object).get()
                #expect(kept.data == ["a": Array("one".utf8), "b": Array("two".utf8)])
                let (key, binary) = (Array("-----BEGIN\n\"x\"".utf8), [UInt8](0...255))
                var changes: [String: [UInt8]?] = ["a": key, "b": nil, "absent": nil]
                if object == secret { changes["c"] = binary }
                let old = kept.resourceVersion
                let outcome = await writer.setData(changes, of: object, resourceVersion: old, fence: nil)
                guard case .written(let version) = outcome else {
                    Issue.record("\(outcome)")
                    continue
                }
                let now = try await writer.keptData(object).get()
                #expect(now.data == (object == secret ? ["a": key, "c": binary] : ["a": key]))
                #expect(now.resourceVersion == version)
                // Whoever saw an older one does not overwrite it.
                let late = await writer.setData(["a": []], of: object, resourceVersion: old, fence: nil)
                guard case .failed(.conflict) = late else {
                    Issue.record("an old version was taken")
                    continue
                }
            }
        }
    }

    @Test func anEmptyOneKeepsNothingAndNoneIsGone() async throws {
        try await withWriter { server, writer in
            #expect(await writer.keptData(secret) == .failure(.gone))
            for json in [#"{"type":"Opaque"}"#, #"{"data":null}"#] {
                server.store(secret.path, json)
                let kept = try await writer.keptData(secret).get()
                #expect(kept.data == [:])
            }
            server.store(secret.path, #"{"data":{"a":{"secretive":1}}}"#)
            guard case .failure(let failure) = await writer.keptData(secret) else {
                Issue.record("it was read")
                return
            }
            #expect(!failure.sentence.contains("secretive"))
        }
    }

    /// A balancer's page in its place would else look like a Secret that somebody has emptied.
    @Test(arguments: [
        "{}", #"{"kind":"Secret","metadata":{}}"#, #"{"kind":"Status","metadata":{"resourceVersion":"1"}}"#,
    ])
    func whatIsNoSuchObjectIsNotAnEmptyOne(body: String) {
        let answer = APIAnswer(status: 200, body: Array(body.utf8), resourceVersion: body.contains("\"1\"") ? "1" : "")
        #expect(throws: APIFailure.self) { try KeptData.from(answer, secret).get() }
    }

    @Test func noValueIsShown() {
        let write = ObjectWrite(.patch, secret, fields: #""data":{"tls.key":"apple"}"#)
        #expect(!"\(write)".contains("apple") && !String(reflecting: [write]).contains("apple"))
        let kept = KeptData(data: ["tls.key": Array("apple".utf8)], resourceVersion: "1")
        var dumped = ""
        dump(kept, to: &dumped)
        for text in ["\(kept)", String(reflecting: kept), "\([kept])", dumped] {
            #expect(!text.contains("tls") && !text.contains("\(UInt8(ascii: "p"))"), "\(text)")
        }
    }
}
