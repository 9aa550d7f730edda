// Pods, routes and reports in; whom to ask and what is said of routes out.
import AdminAPI
import Addressing
import Cluster
import Testing

@testable import InForce

/// Agents that are asked as often as the book wants, in a time of numbers.
struct Cluster5 {
    var book = InForceBook()
    var now = Duration.seconds(1000)
    /// What each node answers; nil: nothing.
    var positions: [String: UInt64?] = [:]
    var reports: [String: ProgrammedReport] = [:]
    var asked: [(at: Duration, node: String)] = []
    private var version: UInt64 = 100

    init(nodes: Int) {
        for number in 0..<nodes { addNode("node-\(number)", IPAddress(v4: 0x0a00_0000 + UInt32(number))) }
    }

    mutating func addNode(_ name: String, _ address: IPAddress, pod: String? = nil) {
        var pod = Pod(name: ObjectName("kube-system", pod ?? "heddle-\(name)"))
        (pod.nodeName, pod.addresses) = (name, [address])
        if positions[name] == nil { positions[name] = .some(0) }
        book.take(.changes([.upsert(.pod(pod))]), now: now)
    }

    func route(_ name: String, generation: Int64, version: String) -> Route {
        var route = Route(kind: .http, name: ObjectName("shop", name))
        route.parents = [.init(service: ObjectName("shop", "web"))]
        var record = RouteRecord()
        (record.generation, record.resourceVersion) = (generation, version)
        route.record = record
        return route
    }
    @discardableResult mutating func edit(_ name: String, generation: Int64, creationTime: Int64 = 0) -> UInt64 {
        version += 1
        var route = route(name, generation: generation, version: "\(version)")
        route.creationTime = creationTime
        book.take(.changes([.upsert(.route(route))]), now: now)
        return version
    }
    mutating func synced() { book.take(.synced, now: now) }

    /// Every node has heard of everything.
    mutating func catchUp(_ names: [String]? = nil) {
        for name in names ?? Array(positions.keys) { positions[name] = .some(version) }
    }

    /// Time goes on, and whoever is asked answers.
    mutating func run(_ time: Duration) {
        let end = now + time
        while true {
            while let question = book.next(now: now) {
                asked.append((now, question.node))
                var answer = Result<ProgrammedReport, NodeFailure>.failure(NodeFailure("connection refused"))
                if let report = reports[question.node] {
                    answer = .success(report)
                } else if let position = positions[question.node] ?? nil {
                    answer = .success(ProgrammedReport(node: question.node, reached: ["HTTPRoute": "\(position)"]))
                }
                book.answered(question, answer, now: now, spread: 0.5)
            }
            guard let at = book.deadline, at <= end else { break }
            now = max(now, at)
        }
        now = end
    }
    func progress(_ name: String) -> ClusterRoutes.Progress? {
        book.standing.progress(of: route(name, generation: 0, version: ""))
    }
}

@Suite struct InForceBookTests {
    @Test func aGenerationIsInForceOnceItsVersionIsPassed() {
        var cluster = Cluster5(nodes: 2)
        cluster.edit("canary", generation: 1)
        cluster.synced()
        cluster.run(.seconds(2))
        #expect(cluster.progress("canary") == .init(nodes: 0, of: 2, missing: ["node-0", "node-1"]))
        cluster.catchUp(["node-1"])
        cluster.run(.seconds(40))
        #expect(cluster.progress("canary") == .init(nodes: 1, of: 2, missing: ["node-0"]))
        cluster.catchUp()
        cluster.run(.seconds(40))
        #expect(cluster.progress("canary") == .init(nodes: 2, of: 2, missing: []))
        // Its status is written: another version, the same generation.
        cluster.edit("canary", generation: 1)
        #expect(cluster.progress("canary")?.nodes == 2)
        cluster.edit("canary", generation: 2)
        #expect(cluster.progress("canary")?.nodes == 0)
        cluster.catchUp()
        cluster.run(.milliseconds(500))
        #expect(cluster.progress("canary")?.nodes == 2)
        #expect(cluster.progress("other") == nil)
    }

    /// Nothing changes: nodes are asked once a minute. An edit: all are asked once, soon.
    @Test func nodesAreAskedAfterAChangeAndSeldomOtherwise() {
        var cluster = Cluster5(nodes: 100)
        cluster.edit("canary", generation: 1)
        cluster.catchUp()
        cluster.synced()
        cluster.run(.seconds(5))
        #expect(cluster.asked.count == 100)
        cluster.asked = []
        cluster.run(.seconds(600))
        #expect((900...1100).contains(cluster.asked.count), "once a minute: \(cluster.asked.count)")
        cluster.asked = []
        let edited = cluster.now
        cluster.edit("canary", generation: 2)
        cluster.catchUp()
        cluster.run(.seconds(1))
        let soon = cluster.asked.filter { $0.at - edited == .milliseconds(300) }
        #expect(Set(soon.map(\.node)).count >= 95 && cluster.asked.count <= 110)
    }

    /// One that lags is asked in growing pauses, and nobody else on its account; one that is dead, too.
    @Test(arguments: [true, false]) func whoLagsIsAskedInGrowingPauses(answers: Bool) {
        var cluster = Cluster5(nodes: 50)
        cluster.edit("canary", generation: 1)
        cluster.catchUp()
        cluster.synced()
        cluster.run(.seconds(5))
        if !answers { cluster.positions["node-7"] = .some(nil) }
        cluster.edit("canary", generation: 2)
        let (before, start) = (cluster.positions["node-7"], cluster.now)
        cluster.catchUp()
        cluster.positions["node-7"] = before
        cluster.asked = []
        cluster.run(.seconds(600))
        let times = cluster.asked.filter { $0.node == "node-7" }.map { ($0.at - start) / .seconds(1) }
        #expect((20...40).contains(times.count), "\(times)")
        #expect(zip(times, times.dropFirst()).allSatisfy { $1 - $0 <= 31 })
        #expect(cluster.asked.count - times.count <= 49 * 12)
        #expect(cluster.progress("canary") == .init(nodes: 49, of: 50, missing: ["node-7"]))
        let laggards = cluster.book.laggards(now: cluster.now)
        #expect(laggards.map(\.node) == ["node-7"])
        let cause = answers ? "has not heard of the last changes" : "does not answer: connection refused"
        #expect(laggards.first?.cause == "its agent " + cause)
        #expect(
            cluster.book.takeNews()?.hasPrefix("1 of 50 nodes have lagged for more than 60.0 seconds: node-7") == true)
        #expect(cluster.book.takeNews() == nil)
        cluster.catchUp()
        cluster.run(.seconds(31))
        #expect(cluster.book.laggards(now: cluster.now) == [] && cluster.progress("canary")?.nodes == 50)
        cluster.run(.seconds(90))
        #expect(cluster.book.takeNews() == "no node lags any more")
    }

    /// All nodes are away, one after the other: a line a minute, of a few names; a look goes through them ten times a
    /// second at most; and whoever does answer waits for none of them.
    @Test func manyThatDoNotAnswerAreToldOfInAFewLines() throws {
        var cluster = Cluster5(nodes: 2000)
        cluster.edit("canary", generation: 1)
        cluster.catchUp()
        cluster.synced()
        cluster.run(.seconds(5))
        var alive = cluster.positions.keys.filter { $0 != "node-7" }.sorted()
        let looks = cluster.book.looks
        var lines: [String] = []
        for _ in 0..<700 {
            for name in alive.suffix(5) { cluster.positions[name] = .some(nil) }
            alive.removeLast(min(5, alive.count))
            cluster.run(.seconds(1))
            if let line = cluster.book.takeNews() { lines.append(line) }
        }
        #expect((5...13).contains(lines.count), "\(lines)")
        #expect(lines.allSatisfy { $0.utf8.count < 400 })
        #expect(lines.last?.hasPrefix("1999 of 2000 nodes have lagged for more than 60.0 seconds: node-0 (") == true)
        #expect(lines.last?.hasSuffix("and 1996 more") == true)
        #expect(cluster.book.looks - looks <= 700 * 12 * 2000)

        let wave = cluster.edit("canary", generation: 2)
        cluster.now += .seconds(60)
        var answering: [String] = []
        while let question = cluster.book.next(now: cluster.now, doubtful: false) { answering.append(question.node) }
        #expect(answering == ["node-7"] && wave > 0)
        #expect(cluster.book.deadline(doubtful: true) == .zero && cluster.book.deadline(doubtful: false) != .zero)
        var doubtful: Set<String> = []
        while let question = cluster.book.next(now: cluster.now) {
            #expect(question.isDoubtful)
            doubtful.insert(question.node)
        }
        #expect(doubtful.count == 1999)
    }

    /// An edit every 100 ms for a minute, which nodes follow within 50: a thousand questions a second at most.
    @Test func endlessChangesDoNotMakeEndlessQuestions() {
        var cluster = Cluster5(nodes: 2000)
        cluster.edit("canary", generation: 1)
        cluster.synced()
        cluster.catchUp()
        cluster.run(.seconds(100))
        cluster.asked = []
        for generation in 2..<602 {
            cluster.edit("canary", generation: Int64(generation))
            cluster.run(.milliseconds(50))
            cluster.catchUp()
            cluster.run(.milliseconds(50))
        }
        #expect(cluster.asked.count <= 62 * 1000 + 2000, "\(cluster.asked.count)")
        #expect(cluster.asked.count >= 29 * 2000)
        #expect(cluster.book.laggards(now: cluster.now) == [])
    }

    /// Whatever the node says that waits: it has no room for a service of the route, or its writes fail.
    @Test func whatDidNotFitIsNotInForce() {
        var cluster = Cluster5(nodes: 3)
        cluster.edit("canary", generation: 1)
        cluster.catchUp()
        cluster.synced()
        var report = ProgrammedReport(node: "node-1", reached: ["HTTPRoute": "500"])
        (report.refused, report.refusedCount) = (["shop/web"], 1)
        cluster.reports["node-1"] = report
        cluster.run(.seconds(100))
        #expect(cluster.progress("canary") == .init(nodes: 2, of: 3, missing: ["node-1"]))
        #expect(cluster.book.laggards(now: cluster.now).first?.cause == "its kernel has no room for shop/web")
        report.refused = ["shop/other"]
        cluster.reports["node-1"] = report
        cluster.run(.seconds(100))
        #expect(cluster.progress("canary")?.nodes == 3)
        // It does not say all.
        report.refusedCount = 21
        cluster.reports["node-1"] = report
        cluster.run(.seconds(100))
        #expect(cluster.progress("canary")?.nodes == 2)
        report = ProgrammedReport(node: "node-1", reached: ["HTTPRoute": "500"])
        (report.waitsFor, report.waitsSeconds) = ("kernel", 75)
        cluster.reports["node-1"] = report
        cluster.run(.seconds(100))
        #expect(cluster.progress("canary")?.nodes == 3, "that route was written before")
        #expect(
            cluster.book.laggards(now: cluster.now).first?.cause
                == "writes to its kernel wait or fail: see agentctl status there")
    }

    /// A pod that ends makes room for the next one of its node, in either order of events.
    @Test func aNodeIsItsNewestPod() {
        var cluster = Cluster5(nodes: 2)
        cluster.edit("canary", generation: 1)
        cluster.catchUp()
        cluster.synced()
        cluster.run(.seconds(5))
        cluster.addNode("node-0", IPAddress(v4: 9), pod: "heddle-new")
        #expect(cluster.progress("canary") == .init(nodes: 1, of: 2, missing: ["node-0"]))
        let old = ObjectID(.pod, ObjectName("kube-system", "heddle-node-0"))
        cluster.book.take(.changes([.delete(old)]), now: cluster.now)
        cluster.run(.seconds(5))
        #expect(cluster.progress("canary") == .init(nodes: 2, of: 2, missing: []))
        let new = ObjectID(.pod, ObjectName("kube-system", "heddle-new"))
        cluster.book.take(.changes([.delete(new)]), now: cluster.now)
        cluster.run(.seconds(100))
        #expect(cluster.progress("canary") == .init(nodes: 1, of: 1, missing: []))
        cluster.book.take(
            .changes([.delete(ObjectID(.pod, ObjectName("kube-system", "heddle-node-1")))]), now: cluster.now)
        cluster.run(.seconds(100))
        #expect(cluster.progress("canary") == nil && cluster.book.deadline == nil)
    }

    /// After etcd was restored from a backup versions are smaller than before.
    /// While the watch was away: a list tells only what is there now.
    @Test func aRouteThatWasMadeAnewIsAnotherOne() {
        var cluster = Cluster5(nodes: 2)
        cluster.edit("canary", generation: 1)
        cluster.catchUp()
        cluster.synced()
        cluster.run(.seconds(5))
        #expect(cluster.progress("canary")?.nodes == 2)
        cluster.edit("canary", generation: 1)
        #expect(cluster.progress("canary")?.nodes == 2)
        cluster.edit("canary", generation: 1, creationTime: 60)
        cluster.run(.seconds(5))
        #expect(cluster.progress("canary")?.nodes == 0)
    }

    @Test func aHistoryThatWentBackIsFollowed() {
        var cluster = Cluster5(nodes: 1)
        cluster.book.take(
            .changes([.upsert(.route(cluster.route("canary", generation: 3, version: "9000")))]), now: cluster.now)
        cluster.positions["node-0"] = .some(9000)
        cluster.synced()
        cluster.run(.seconds(5))
        #expect(cluster.progress("canary")?.nodes == 1)
        cluster.book.take(
            .changes([.upsert(.route(cluster.route("canary", generation: 3, version: "50")))]), now: cluster.now)
        cluster.positions["node-0"] = .some(60)
        cluster.run(.seconds(100))
        #expect(cluster.progress("canary")?.nodes == 1 && cluster.book.laggards(now: cluster.now) == [])
    }

    /// Versions that are no numbers are equal or not (KEP-5504).
    @Test func versionsThatAreNoNumbersAreCompared() {
        #expect(
            Version("10")?.isReached(by: Version("9")) == false && Version("9")?.isReached(by: Version("10")) == true)
        #expect(
            Version("a1")?.isReached(by: Version("a1")) == true && Version("a1")?.isReached(by: Version("a2")) == false)
        #expect(Version("a1")?.isReached(by: Version("7")) == false && Version("7")?.isReached(by: nil) == false)
        #expect(Version("") == nil && Version(String(repeating: "1", count: 65)) == nil)
        var cluster = Cluster5(nodes: 2)
        cluster.book.take(
            .changes([.upsert(.route(cluster.route("canary", generation: 1, version: "x7")))]), now: cluster.now)
        cluster.synced()
        cluster.reports["node-0"] = ProgrammedReport(node: "node-0", reached: ["HTTPRoute": "x7"])
        cluster.run(.seconds(5))
        #expect(cluster.progress("canary") == .init(nodes: 1, of: 2, missing: ["node-1"]))
    }

    /// A node may say what it likes.
    @Test func reportsAreNotBelievedWithoutBounds() {
        var cluster = Cluster5(nodes: 1)
        cluster.edit("canary", generation: 1)
        cluster.synced()
        var report = ProgrammedReport(
            node: "x", reached: Dictionary(uniqueKeysWithValues: (0..<1000).map { ("kind-\($0)", "1") }))
        report.reached["HTTPRoute"] = String(repeating: "9", count: 1000)
        (report.waitsFor, report.waitsSeconds) = (String(repeating: "w", count: 10_000), -.infinity)
        (report.refused, report.refusedCount) = ((0..<5000).map { "a/\($0)" }, .min)
        cluster.reports["node-0"] = report
        cluster.run(.seconds(100))
        let node = cluster.book.nodes[0]
        #expect(node.reached.isEmpty && node.refused.count == 100 && node.waitsFor?.count == 40)
        #expect(cluster.progress("canary")?.nodes == 0)
        report.waitsSeconds = .nan
        cluster.reports["node-0"] = report
        cluster.run(.seconds(100))
        #expect(cluster.book.laggards(now: cluster.now).count == 1)
    }

    /// 5,000 nodes and 10,000 routes: what a change costs, and that a list of all is no product of the two.
    @Test func aLargeClusterCostsItsChanges() {
        var cluster = Cluster5(nodes: 5000)
        for number in 0..<10_000 { cluster.edit("r\(number)", generation: 1) }
        cluster.catchUp()
        cluster.synced()
        cluster.run(.seconds(5))
        #expect(cluster.asked.count == 5000)
        cluster.asked = []
        var looks = cluster.book.looks
        cluster.edit("r7", generation: 2)
        cluster.catchUp()
        cluster.run(.milliseconds(400))
        #expect(cluster.asked.count == 5000, "one wave")
        // All routes once for what is the newest, and all nodes some times.
        #expect(cluster.book.looks - looks <= 10_000 + 4 * 5000)
        looks = cluster.book.looks
        for _ in 0..<1000 { _ = cluster.book.next(now: cluster.now) }
        #expect(cluster.book.looks == looks, "nothing is due")
        cluster.positions["node-9"] = .some(1)
        cluster.edit("r8", generation: 2)
        cluster.catchUp(Array(cluster.positions.keys.filter { $0 != "node-9" }))
        cluster.run(.seconds(20))
        let standing = cluster.book.standing
        let all = (0..<10_000).map { number in
            standing.progress(of: cluster.route("r\(number)", generation: 0, version: ""))
        }
        #expect(all.allSatisfy { $0?.of == 5000 } && all[8]?.nodes == 4999 && all[8]?.missing == ["node-9"])
    }
}
