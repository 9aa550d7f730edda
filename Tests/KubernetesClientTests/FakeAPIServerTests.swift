/// The fake API server has the rules of a real one: whatever it lets pass, tests of others cannot find.
import Cluster
import FakeAPIServer
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct FakeAPIServerTests {
    private let route = ObjectAddress(
        group: "gateway.networking.k8s.io", plural: "httproutes", kind: "HTTPRoute", namespace: "shop", name: "web")
    private let body = #""spec":{"parentRefs":[{"group":"","kind":"Service","name":"web"}]}"#

    /// What a client writes is what watches tell, in the same versions.
    @Test func whatIsWrittenIsListedAndWatched() async throws {
        try await withSource(prepare: { $0.put(.httproutes, FakeObject("shop", "web", body: body)) }) {
            server, recorder in
            try await soon("synced") { recorder.now.synced == 1 && server.watchers(.httproutes) == 1 }
            #expect(recorder.now.cluster.routes.count == 1)
            try await withWriter(to: server) { writer in
                var other = route
                other.name = "other"
                let created = await writer.write(ObjectWrite(.create, other, fields: body))
                try await soon("the new one") { recorder.now.cluster.routes.count == 2 }
                let patched = await writer.write(
                    ObjectWrite(.patch, route, .status, fields: #""status":{"parents":[]}"#))
                try await soon("its version") {
                    recorder.status(.httpRoute)?.resourceVersion == patched.version
                }
                #expect(patched.version != created.version)
                #expect(await writer.write(ObjectWrite(.delete, other)).version != nil)
                try await soon("it is gone") { recorder.now.cluster.routes.count == 1 }
            }
        }
    }

    /// A spec's edit counts, a status' does not, and neither takes the other with it.
    @Test func anEditKeepsTheStatusAndAStatusTheGeneration() async throws {
        try await withWriter { server, writer in
            server.put(.httproutes, FakeObject("shop", "web", body: #""spec":{"a":1.5}"#))
            _ = await writer.write(
                ObjectWrite(.patch, route, .status, fields: #""spec":{"a":2},"status":{"parents":[]}"#))
            let first = try #require(server.stored(route.path))
            #expect(first.contains(#""generation":1"#) && first.contains(#""a":1.5"#) && first.contains("parents"))
            server.put(.httproutes, FakeObject("shop", "web", body: #""spec":{"a":3}"#))
            let second = try #require(server.stored(route.path))
            #expect(second.contains(#""generation":2"#) && second.contains(#""a":3"#) && second.contains("parents"))
        }
    }

    @Test func whoeverMeansAnotherObjectIsRefused() async throws {
        try await withWriter { server, writer in
            server.put(.httproutes, FakeObject("shop", "web", body: body))
            let other = ObjectWrite(.patch, route, .status, metadata: #""uid":"x""#, fields: #""status":{}"#)
            guard case .failed(.conflict(let sentence)) = await writer.write(other) else {
                Issue.record("another uid was taken")
                return
            }
            #expect(sentence.contains("uid-of-web"))
            guard case .failed(.refused) = await writer.write(ObjectWrite(.replace, route, fields: body)) else {
                Issue.record("a custom resource was replaced, whatever its version")
                return
            }
            var absent = route
            absent.name = "absent"
            #expect(await writer.write(ObjectWrite(.patch, absent, fields: body)) == .failed(.gone))
            #expect(server.stored(absent.path) == nil)
            // Leases are made by PUT, too.
            let lease = ObjectAddress.lease(namespace: "shop", name: "l")
            #expect(await writer.write(ObjectWrite(.replace, lease, fields: #""spec":{}"#)).version != nil)
            guard case .failed(.conflict) = await writer.write(ObjectWrite(.create, lease)) else {
                Issue.record("a name was given twice")
                return
            }
        }
    }
}
