/// Pods are followed only while somebody wants them, those of this node apart from all others.
import Cluster
import FakeAPIServer
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct PodTests {
    private func prepare(_ server: FakeAPIServer) {
        server.fill()
        server.put(
            .pods, pod("here", on: "node-1", address: "10.1.0.2"), pod("there", on: "node-2", address: "10.1.1.2"),
            pod("nowhere", on: ""))
    }

    private func names(_ recorder: Recorder) -> [String] { recorder.now.cluster.podAddresses.keys.map(\.name).sorted() }

    @Test func noPodIsFollowedUnlessItIsWanted() async throws {
        try await withSource(prepare: prepare) { server, recorder in
            try await soon("synced") { recorder.now.synced == 1 }
            #expect(server.requests(.pods).isEmpty && recorder.now.podsKnown == [])

            recorder.source.follow(.ofNode, round: 1)
            try await soon("the node's pods") { recorder.now.podsKnown == [1] }
            #expect(names(recorder) == ["here"])
            #expect(server.requests(.pods).allSatisfy { $0.query["fieldSelector"] == "spec.nodeName=node-1" })

            recorder.source.follow(.all, round: 1)
            try await soon("all pods") { names(recorder) == ["here", "there"] }
            #expect(recorder.source.status.map(\.resource).suffix(2) == ["pods", "pods of other nodes"])
            // A pod without a node is in neither set; it comes once it has one.
            try await soon("watching") { server.watchers(.pods) == 2 }
            server.put(.pods, pod("nowhere", on: "node-1", address: "10.1.0.3"))
            try await soon("scheduled") { names(recorder) == ["here", "nowhere", "there"] }

            recorder.source.follow(.ofNode, round: 1)
            try await soon("others are gone") { names(recorder) == ["here", "nowhere"] }
            recorder.source.follow(.none, round: 1)
            try await soon("all are gone") { names(recorder) == [] && server.watchers(.pods) == 0 }
            #expect(!recorder.source.status.map(\.resource).contains { $0.hasPrefix("pods") })
            recorder.source.follow(.ofNode, round: 2)
            try await soon("known again") {
                recorder.now.podsKnown == [1, 2] && names(recorder) == ["here", "nowhere"]
            }
        }
    }

    /// Whom a pod of a mesh reaches by tunnel is known as a whole, or not yet.
    @Test(arguments: [true, false]) func aMeshWaitsForThePodsOfOtherNodes(othersComeFirst: Bool) async {
        let mailbox = EventMailbox(awaiting: [])
        mailbox.awaitOtherPods(true)
        mailbox.followPods(round: 1)
        await mailbox.send([], completing: othersComeFirst ? nil : .pod, areOtherPodsComplete: othersComeFirst)
        await mailbox.send([.delete(ObjectID(.pod, ObjectName("n", "p")))])
        guard case .changes = await mailbox.next() else {
            Issue.record("pods are known although half of them is not")
            return
        }
        guard case .synced = await mailbox.next() else {
            Issue.record("nothing else is waited for")
            return
        }
        await mailbox.send([], completing: othersComeFirst ? .pod : nil, areOtherPodsComplete: !othersComeFirst)
        guard case .podsKnown(round: 1, ofAll: true) = await mailbox.next() else {
            Issue.record("all pods are known, and nobody was told")
            return
        }
    }

    /// The others may be asked for later than this node's: then it is said again, and that it is of all.
    @Test func podsOfOtherNodesAreToldOfLater() async {
        let mailbox = EventMailbox(awaiting: [])
        mailbox.awaitOtherPods(false)
        mailbox.followPods(round: 1)
        await mailbox.send([], completing: .pod)
        guard case .synced = await mailbox.next(), case .podsKnown(round: 1, ofAll: false) = await mailbox.next() else {
            Issue.record("the pods of this node are known, and nobody was told")
            return
        }
        mailbox.awaitOtherPods(true)
        await mailbox.send([], areOtherPodsComplete: true)
        guard case .podsKnown(round: 1, ofAll: true) = await mailbox.next() else {
            Issue.record("all pods are known, and nobody was told")
            return
        }
    }

    /// Pods that are forbidden are not waited for for ever; the problem says what to allow.
    @Test func forbiddenPodsAreSaid() async throws {
        try await withSource(prepare: prepare) { server, recorder in
            server.fail(.pods, .status(403, reason: "Forbidden"))
            recorder.source.follow(.ofNode, round: 7)
            try await soon("told") { recorder.now.podsKnown.first == 7 }
        }
    }

    /// Where they decide who is in the mesh, "may not be known" is not "there are none": what is in force stays.
    @Test(arguments: [FakeResource.pods, .namespaces, .peerauthentications, .authorizationpolicies])
    func whatDecidesTheMeshIsWaitedFor(resource: FakeResource) async throws {
        try await withSource(
            configure: { $0.followsMesh = true },
            prepare: { server in
                prepare(server)
                server.fail(resource, .status(403, reason: "Forbidden"))
            },
            { server, recorder in
                recorder.source.follow(.ofNode, round: 7)
                try await soon("it is said") {
                    recorder.problems.contains { $0.contains("list and watch \(resource.rawValue)") }
                }
                for kind in [FakeResource.services, .endpointslices, .nodes, .servicecidrs] {
                    try await soon("\(kind) are known") { server.watchers(kind) == 1 }
                }
                server.put(.services, service("later"))
                try await soon("what comes later") { recorder.services.contains("later") }
                let state = recorder.now
                #expect(resource == .pods ? state.podsKnown.isEmpty : state.synced == 0)
            })
    }

    /// Whoever is told to stop does not tell what waited: it would count for the next round.
    @Test func whatWasCompleteInAnEarlierRoundIsNotTold() async {
        let mailbox = EventMailbox(awaiting: [])
        mailbox.followPods(round: 1)
        await mailbox.send([], completing: .pod)
        mailbox.followPods(round: nil)
        await mailbox.send([], completing: .pod)
        mailbox.followPods(round: 2)
        mailbox.finish()
        var events: [SourceEvent] = []
        while let event = await mailbox.next() { events.append(event) }
        #expect(!events.contains { if case .podsKnown = $0 { true } else { false } })
    }
}
