/// Server-side apply as the fake API server does it: each field has its managers.
import FakeAPIServer
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct FakeApplyTests {
    private let route = ObjectAddress(
        group: "gateway.networking.k8s.io", plural: "httproutes", kind: "HTTPRoute", namespace: "shop", name: "web")
    private let node = ObjectAddress(group: "", plural: "nodes", kind: "Node", name: "n")

    private func apply(
        _ object: ObjectAddress, _ part: ObjectWrite.Part = .object, by manager: String, force: Bool = false,
        metadata: String = "", _ fields: String
    ) -> ObjectWrite {
        ObjectWrite(.apply(manager: manager, force: force), object, part, metadata: metadata, fields: fields)
    }

    /// Nobody takes a field from another unless he insists; what one does not apply any more goes, others' fields stay.
    @Test func fieldsHaveOwners() async throws {
        try await withWriter { server, writer in
            func stored() -> String { server.stored(node.path) ?? "" }
            let made = await writer.write(
                apply(node, by: "a", metadata: #""labels":{"a":"1","b":"1"}"#, #""spec":{"x":1}"#))
            #expect(made.version != nil)
            // The same value may be had by two, and the same again changes nothing.
            let shared = apply(node, by: "b", metadata: #""labels":{"b":"1","c":"1"}"#, "")
            let version = try #require(await writer.write(shared).version)
            #expect(await writer.write(shared).version == version)
            guard
                case .failed(.conflict(let sentence)) = await writer.write(
                    apply(node, by: "b", metadata: #""labels":{"a":"2"}"#, ""))
            else {
                Issue.record("a field was taken")
                return
            }
            #expect(sentence.contains(#"Apply failed with 1 conflict: conflict with "a" using v1: .metadata.labels.a"#))
            #expect(
                await writer.write(apply(node, by: "b", force: true, metadata: #""labels":{"a":"2"}"#, "")).version
                    != nil)
            #expect(stored().contains(#""labels":{"a":"2","b":"1"}"#), "c goes, b is also a's: \(stored())")
            // What a applied is b's now: a does not take it away by leaving it out.
            #expect(await writer.write(apply(node, by: "a", #""spec":{"x":1}"#)).version != nil)
            #expect(stored().contains(#""labels":{"a":"2"}"#) && stored().contains(#""x":1"#), "\(stored())")
        }
    }

    /// `status.parents` of routes is one value (an atomic list); conditions of a Node have keys.
    @Test func listsAreMergedAsTheirKindSays() async throws {
        try await withWriter { server, writer in
            server.put(.httproutes, FakeObject("shop", "web", body: #""spec":{}"#))
            server.put(.nodes, FakeObject("", "n", body: #""spec":{}"#))
            func parents(_ name: String) -> String { #""status":{"parents":[{"controllerName":"\#(name)"}]}"# }
            func condition(_ type: String) -> String {
                #""status":{"conditions":[{"status":"True","type":"\#(type)"}]}"#
            }
            #expect(await writer.write(apply(route, .status, by: "a", parents("a"))).version != nil)
            guard case .failed(.conflict) = await writer.write(apply(route, .status, by: "b", parents("b"))) else {
                Issue.record("another's parents were taken")
                return
            }
            #expect(server.stored(route.path)?.contains(#""parents":[{"controllerName":"a"}]"#) == true)
            #expect(await writer.write(apply(node, .status, by: "a", condition("A"))).version != nil)
            #expect(await writer.write(apply(node, .status, by: "b", condition("B"))).version != nil)
            let both = #""conditions":[{"status":"True","type":"A"},{"status":"True","type":"B"}]"#
            #expect(server.stored(node.path)?.contains(both) == true)
            #expect(await writer.write(apply(node, .status, by: "a", #""status":{}"#)).version != nil)
            #expect(server.stored(node.path)?.contains(#""conditions":[{"status":"True","type":"B"}]"#) == true)
        }
    }

    /// A status is applied through its own door, and a merge patch owns what it changes.
    @Test func aPatchTakesWhatItChanges() async throws {
        try await withWriter { server, writer in
            server.put(.httproutes, FakeObject("shop", "web", body: #""spec":{"a":1}"#))
            let patch = ObjectWrite(.patch, route, .status, fields: #""status":{"parents":[{"controllerName":"p"}]}"#)
            #expect(await writer.write(patch).version != nil)
            let other = apply(route, .status, by: "b", #""spec":{"a":2},"status":{"parents":[]}"#)
            guard case .failed(.conflict(let sentence)) = await writer.write(other) else {
                Issue.record("what a patch wrote belongs to nobody")
                return
            }
            #expect(sentence.contains(#"conflict with "test" with subresource "status""#), "\(sentence)")
            #expect(server.stored(route.path)?.contains(#""spec":{"a":1}"#) == true)
        }
    }
}
