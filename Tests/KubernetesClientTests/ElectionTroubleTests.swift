/// Replicas that elect a leader at an API server in trouble, through real connections: the server's log of writes says
/// who wrote when. Whatever the timing, no write of one comes between those of another.
import FakeAPIServer
import Synchronization
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct ElectionTroubleTests {
    /// Renewals do not arrive, and the writes of the same process would.
    @Test func aLeaderThatCannotRenewStopsBeforeTheNextBegins() async throws {
        try await withReplicas { server, replicas in
            let (first, second) = try await leaderAndOther(replicas)
            try await soon("it writes") { server.writers.last == first.name }
            server.hold { $0.headers["user-agent"] == first.name && $0.path.hasSuffix("/leases/heddle") }
            try await soon("the other writes") { server.writers.last == second.name }
            #expect(!first.elector.leadership.isLeading)
            let writes = server.writers.count
            try await soon("it goes on") { server.writers.count > writes + 20 }
            #expect(server.changesOfWriter == [first.name, second.name])
            server.release()
            try await soon("the first knows") { first.elector.status.holder == second.name }
            #expect(server.changesOfWriter == [first.name, second.name])
        }
    }

    /// The process is stopped after it decided to write, and goes on when another leads.
    @Test func aWriteThatWasDecidedEarlierIsNotSentByAnEarlierLeader() async throws {
        struct Earlier: WriteFence {
            let limit: Duration
            let leadership: Leadership
            func beginWrite() -> Duration? { limit }
            func mayStillWrite(for time: Duration) -> Bool { leadership.mayStillWrite(for: time) }
            func endWrite() { leadership.endWrite() }
        }
        try await withReplicas { server, replicas in
            let (first, second) = try await leaderAndOther(replicas)
            try await soon("it writes") { server.writers.last == first.name }
            let limit = try #require(first.elector.leadership.beginWrite())
            server.hold { $0.headers["user-agent"] == first.name && $0.path.hasSuffix("/leases/heddle") }
            try await soon("the other writes") { server.writers.last == second.name }
            let late = await first.writer.write(
                first.statusWrite, fence: Earlier(limit: limit, leadership: first.elector.leadership))
            #expect(late == .failed(.fenced))
            #expect(server.changesOfWriter == [first.name, second.name])
            server.release()
        }
    }

    /// A leader that ends has nothing under way when it hands back.
    @Test func aLeaderThatEndsHandsOverAfterItsLastWrite() async throws {
        try await withReplicas { server, replicas in
            let (first, second) = try await leaderAndOther(replicas)
            try await soon("it writes") { server.writers.last == first.name }
            // Its next write is slow.
            server.hold { $0.headers["user-agent"] == first.name && $0.path.hasSuffix("/status") }
            try await soon("a write is under way") { server.held == 1 }
            first.elector.stop()
            #expect(!server.lease.contains(#""holderIdentity":"""#))
            server.release()
            try await soon("the other writes") { server.writers.last == second.name }
            #expect(server.changesOfWriter == [first.name, second.name])
            #expect(server.lease.contains(#""leaseTransitions":2"#), "\(server.lease)")
        }
    }

    @Test func inTroubleOneWritesAtATimeAndInTheEndOneDoes() async throws {
        var random = SeededGenerator(for: "inTroubleOneWritesAtATime")
        try await withReplicas { server, replicas in
            _ = try await leaderAndOther(replicas)
            for _ in 0..<12 { try await makeTrouble(server, replicas, &random) }
            let writes = server.writers.count
            try await soon("one writes in the end") { server.writers.count > writes + 5 }
            // Whoever begins to write has written the Lease since the other's last write.
            var last = ""
            var owners: Set<String> = []
            for write in server.writes where write.status < 300 {
                if write.path.contains("/leases") {
                    for name in ["a", "b"] where write.body.contains(#""holderIdentity":"\#(name)""#) {
                        owners.insert(name)
                    }
                } else {
                    #expect(write.client == last || owners.contains(write.client), "\(write.client) after \(last)")
                    if write.client != last { owners = [] }
                    last = write.client
                    owners.remove(last == "a" ? "b" : "a")
                }
            }
        }
    }

    /// Until it was felt.
    private func makeTrouble(
        _ server: FakeAPIServer, _ replicas: [Replica], _ random: inout SeededGenerator
    ) async throws {
        let replica = replicas[Int.random(in: 0...1, using: &random)]
        let count = Int.random(in: 1...8, using: &random)
        let leadership = replica.elector.leadership
        switch Int.random(in: 0..<7, using: &random) {
        case 0: server.failWrites(.status(500), .status(503), .silence)
        case 1: server.failWrites(.status(409, reason: "Conflict"), .status(429, headers: ["Retry-After": "1"]))
        case 2:
            server.hold { $0.headers["user-agent"] == replica.name }
            try await soon("requests wait") { server.held >= count }
        case 3 where leadership.isLeading:
            server.hold { $0.headers["user-agent"] == replica.name && $0.path.contains("/leases") }
            try await soon("renewals wait") { server.held >= count || !leadership.isLeading }
        case 4:
            server.goAway()
            try await soon("nobody leads, or not yet") {
                replicas.allSatisfy { $0.elector.status.problem != nil }
                    && (count > 4 || !replicas.contains { $0.elector.leadership.isLeading })
            }
        case 5:
            server.delete(.leases, "kube-system", "heddle")
            try await soon("it is there again") { !server.lease.isEmpty }
        default: server.dropConnections()
        }
        let writes = server.writes.count
        server.release()
        server.comeBack()
        try await soon("something is written") { server.writes.count > writes }
    }

    // MARK: Replicas

    private struct Replica {
        let name: String
        let writer: ObjectWriter
        let elector: LeaderElector

        /// Never the same twice.
        var statusWrite: ObjectWrite {
            let route = ObjectAddress(
                group: "gateway.networking.k8s.io", plural: "httproutes", kind: "HTTPRoute", namespace: "shop",
                name: "web")
            let number = Int.random(in: 0..<Int.max)
            return ObjectWrite(
                .patch, route, .status,
                fields: #""status":{"parents":[{"controllerName":"\#(name)","number":\#(number)}]}"#)
        }
        /// Elects, and writes whenever it may.
        func run() async {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await elector.run() }
                group.addTask {
                    while !Task.isCancelled {
                        try? await soon("its turn") { elector.leadership.isLeading || Task.isCancelled }
                        _ = await writer.write(statusWrite, fence: elector.leadership)
                    }
                }
                await group.next()
                group.cancelAll()
            }
        }
    }

    private func leaderAndOther(_ replicas: [Replica]) async throws -> (Replica, Replica) {
        try await soon("a leader") { replicas.count { $0.elector.leadership.isLeading } == 1 }
        let isFirst = replicas[0].elector.leadership.isLeading
        try await soon("the other knows") { replicas[isFirst ? 1 : 0].elector.status.holder != "" }
        return isFirst ? (replicas[0], replicas[1]) : (replicas[1], replicas[0])
    }

    private func withReplicas(_ body: (FakeAPIServer, [Replica]) async throws -> Void) async throws {
        var timing = LeaderElection.Timing()
        timing.lease = .seconds(2)
        timing.renewDeadline = .seconds(1)
        timing.renewal = .milliseconds(300)
        timing.poll = .milliseconds(100)
        try await withServer { server in
            server.put(.httproutes, FakeObject("shop", "web", body: #""spec":{}"#))
            // Handed back: nobody need wait.
            server.put(.leases, FakeObject("kube-system", "heddle", body: #""spec":{"holderIdentity":""}"#))
            try await withWriter(to: server, named: "a") { a in
                try await withWriter(to: server, named: "b") { b in
                    let replicas = [("a", a), ("b", b)].map { name, writer in
                        Replica(
                            name: name, writer: writer,
                            elector: LeaderElector(
                                writer, lease: .lease(namespace: "kube-system", name: "heddle"), identity: name,
                                timing: timing))
                    }
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for replica in replicas { group.addTask { await replica.run() } }
                        try await body(server, replicas)
                        group.cancelAll()
                    }
                }
            }
        }
    }
}

extension FakeAPIServer {
    /// Whose status writes were done, in order.
    fileprivate var writers: [String] {
        writes.filter { $0.path.hasSuffix("/status") && $0.status == 200 }.map(\.client)
    }
    fileprivate var changesOfWriter: [String] {
        writers.reduce(into: []) { if $0.last != $1 { $0.append($1) } }
    }
    fileprivate var lease: String {
        stored("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/heddle") ?? ""
    }
}
