/// Events for objects that cannot be used, through a real connection to the fake API server.
import Cluster
import FakeAPIServer
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct EventTests {
    private let bad = FakeObject(
        "shop", "bad", body: #""spec":{"clusterIP":"10.96.0.300","ports":[{"port":80}]}"#)

    @Test func theOwnerOfAnObjectThatCannotBeUsedIsTold() async throws {
        try await withSource(prepare: { [bad] in $0.put(.services, service("web"), bad) }) { server, _ in
            try await soon("an event") { server.createdEvents.count == 1 }
            let event = server.createdEvents[0]
            for part in [
                #""kind":"Service","namespace":"shop","name":"bad","uid":"uid-of-bad""#, #""reason":"InvalidObject""#,
                "10.96.0.300", #""type":"Warning""#, "last good version",
            ] {
                #expect(event.contains(part), "\(part) in \(event)")
            }
            // The same again is no news; another message is.
            server.put(.services, bad)
            var worse = bad
            worse.body = #""spec":{"clusterIP":"10.96.0.301","ports":[{"port":80}]}"#
            server.put(.services, worse)
            try await soon("another event") { server.createdEvents.count == 2 }
        }
    }

    @Test func whatTheAgentFindsIsToldToo() async throws {
        try await withSource(prepare: { $0.put(.services, service("web")) }) { server, recorder in
            try await soon("synced") { recorder.now.synced == 1 }
            let name = ObjectID(.service, ObjectName("default", "web"))
            for _ in 0..<3 {
                recorder.source.record(ObjectEvent(name, reason: "AddressConflict", message: "say \"no\"\n"))
            }
            try await soon("the event") { server.createdEvents.count == 1 }
            #expect(server.createdEvents[0].contains(#"say \"no\"\u000a"#))
        }
    }

    @Test func oneNodeIsEnoughForWhatEveryNodeWouldSay() {
        let name = ObjectID(.service, ObjectName("default", "web"))
        let event = ObjectEvent(name, reason: "R", message: "m")
        #expect(EventName.hash(event, "") == EventName.hash(event, ""))
        #expect(EventName.hash(event, "") != EventName.hash(event, "node-1"))
        #expect(EventName.hash(event, "") != EventName.hash(ObjectEvent(name, reason: "R", message: "n"), ""))
    }

    @Test func notBeingAllowedToTellHindersNothing() async throws {
        let prepare: @Sendable (FakeAPIServer) -> Void = { [bad] server in
            server.configure { $0.forbidsEvents = true }
            server.put(.services, service("web"), bad)
        }
        try await withSource(prepare: prepare) { _, recorder in
            try await soon("synced") { recorder.now.synced == 1 && recorder.services == ["web"] }
            try await soon("said why") { recorder.source.droppedEvents.count == 1 }
            #expect(recorder.source.droppedEvents.problem?.contains("verb create on resource events") == true)
        }
    }

    @Test func aServerThatTakesNoEventsIsAskedEverLessOften() async throws {
        var timing = KubernetesSource.Timing.quick
        timing.event = .milliseconds(1)
        timing.backoff.first = .seconds(600)
        timing.backoff.longest = .seconds(600)
        let prepare: @Sendable (FakeAPIServer) -> Void = { [bad] server in
            server.configure { $0.forbidsEvents = true }
            server.put(
                .services,
                (0..<5).map { number in
                    var bad = bad
                    bad.name = "bad-\(number)"
                    return bad
                })
        }
        try await withSource(timing: timing, prepare: prepare) { server, recorder in
            try await soon("refused") { recorder.source.droppedEvents.count == 1 }
            // Everything else goes on, while the other events wait.
            server.put(.services, service("later"))
            try await soon("later") { recorder.services.contains("later") }
            #expect(server.requests.count { $0.path.hasSuffix("/events") } == 1)
        }
    }

    @Test func aFloodIsDroppedAndCounted() {
        let recorder = EventRecorder(nodeName: "n", pause: .seconds(1))
        for number in 0..<300 {
            recorder.record(ObjectEvent(ObjectID(.service, ObjectName("ns", "s\(number)")), reason: "R", message: "m"))
        }
        #expect(recorder.dropped == 100)
    }
}
