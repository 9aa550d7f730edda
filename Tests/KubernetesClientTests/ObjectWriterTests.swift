/// Objects written to the fake API server through real connections, and replicas that elect a leader there.
import FakeAPIServer
import Synchronization
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct ObjectWriterTests {
    private let route = ObjectAddress(
        group: "gateway.networking.k8s.io", plural: "httproutes", kind: "HTTPRoute", namespace: "shop", name: "web")

    @Test func aStatusIsWrittenAndWhatIsSoAlreadyIsUnchanged() async throws {
        try await withWriter { server, writer in
            let created = await writer.write(ObjectWrite(.create, route, fields: #""spec":{"a":1}"#))
            let version = try #require(created.version)
            let patch = ObjectWrite(
                .patch, route, .status, resourceVersion: version,
                fields: #""spec":{"a":2},"status":{"parents":[{"controllerName":"c"}]}"#)
            let next = try #require(await writer.write(patch).version)
            #expect(next != version)
            let stored = try #require(server.stored(route.path))
            #expect(stored.contains(#""spec":{"a":1}"#) && stored.contains(#""generation":1"#))
            #expect(stored.contains(#""controllerName":"c""#))
            #expect(server.writes.last?.query["timeout"] != nil)
            var again = patch
            again.resourceVersion = next
            #expect(await writer.write(again) == .unchanged(resourceVersion: next))
            guard case .failed(.conflict) = await writer.write(patch) else {
                Issue.record("an old version was taken")
                return
            }
            #expect(server.stored(route.path) == stored)
        }
    }

    @Test func eachRefusalHasItsOutcome() async throws {
        try await withWriter { server, writer in
            let patch = ObjectWrite(.patch, route, .status, fields: #""status":{}"#)
            #expect(await writer.write(patch) == .failed(.gone))
            server.failWrites(
                .status(403, reason: "Forbidden", message: "no"), .status(429, headers: ["Retry-After": "7"]),
                .status(413), .status(422, reason: "Invalid"), .status(500))
            guard case .failed(.forbidden(let sentence)) = await writer.write(patch) else {
                Issue.record("403 is not forbidden")
                return
            }
            for part in [
                "patch httproutes/status in namespace shop", "gateway.networking.k8s.io", "ClusterRole", "no",
            ] {
                #expect(sentence.contains(part), "\(sentence)")
            }
            guard case .failed(.throttled(_, retryAfter: .seconds(7))) = await writer.write(patch),
                case .failed(.tooLarge) = await writer.write(patch), case .failed(.refused) = await writer.write(patch),
                case .failed(.trouble) = await writer.write(patch)
            else {
                Issue.record("another outcome")
                return
            }
            await server.stop()
            guard case .failed(.trouble) = await writer.write(patch) else {
                Issue.record("a server that is away")
                return
            }
        }
    }

    /// The process was stopped between its decision and the connection.
    @Test func whoeverMayNoLongerWriteDoesNotWrite() async throws {
        struct Closed: WriteFence {
            let begins: Duration?
            func beginWrite() -> Duration? { begins }
            func mayStillWrite(for time: Duration) -> Bool { false }
            func endWrite() {}
        }
        try await withWriter { server, writer in
            let create = ObjectWrite(.create, route, fields: #""spec":{}"#)
            #expect(await writer.write(create, fence: Closed(begins: nil)) == .failed(.fenced))
            #expect(await writer.write(create, fence: Closed(begins: .seconds(5))) == .failed(.fenced))
            #expect(server.writes.isEmpty)
        }
    }

    /// What was not answered in time does not happen later: nobody would know of it.
    @Test func whatIsGivenUpDoesNotHappenLater() async throws {
        try await withWriter { server, writer in
            let create = ObjectWrite(.create, route, fields: #""spec":{}"#)
            server.hold { $0.method == "POST" }
            guard case .failed(.trouble) = await writer.write(create, within: .milliseconds(100)) else {
                Issue.record("an answer from nowhere")
                return
            }
            try await soon("the server saw it") { server.held == 1 }
            server.goAway()
            guard case .failed(.trouble) = await writer.write(create) else {
                Issue.record("an answer of a server that is away")
                return
            }
            server.release()
            server.comeBack()
            try await eventually("it is back") { await writer.write(create).version != nil }
            #expect(server.writes.map(\.status) == [201])
        }
    }

    @Test func aReplicaThatEndsHandsTheLeaseToTheOther() async throws {
        var timing = LeaderElection.Timing()
        timing.lease = .seconds(2)
        timing.renewDeadline = .seconds(1)
        timing.renewal = .milliseconds(300)
        timing.poll = .milliseconds(100)
        try await withWriter { server, writer in
            let lease = ObjectAddress.lease(namespace: "heddle", name: "heddle-controller")
            let electors = ["a", "b"].map { LeaderElector(writer, lease: lease, identity: $0, timing: timing) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for elector in electors { group.addTask { await elector.run() } }
                try await soon("a leader") { electors.count { $0.leadership.isLeading } == 1 }
                let first = electors[0].leadership.isLeading ? 0 : 1
                electors[first].stop()
                try await soon("the other leads") { electors[1 - first].leadership.isLeading }
                #expect(!electors[first].leadership.isLeading)
                #expect(server.stored(lease.path)?.contains(#""leaseTransitions":1"#) == true)
                electors[1 - first].stop()
                try await group.waitForAll()
                #expect(server.stored(lease.path)?.contains(#""holderIdentity":"""#) == true)
            }
        }
    }
}
