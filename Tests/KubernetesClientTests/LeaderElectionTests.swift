/// Who leads, in a simulated world: clocks that run differently fast, answers late, lost or twice, processes that stop
/// for a while or for good, a Lease that somebody deletes, a server that is away.
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct LeaderElectionTests {
    @Test(arguments: 0..<60) func atNoMomentDoTwoLead(run: Int) {
        let base = SeededGenerator(for: "atNoMomentDoTwoLead \(run)")
        var world = World(random: SeededGenerator(seed: base.seed &+ UInt64(run)), replicas: 2 + run % 2)
        world.troubled = true
        world.createsOnReplace = run % 4 > 1
        for _ in 0..<6000 {
            world.step()
            if world.leaders.count > 1 { break }
        }
        #expect(world.leaders.count <= 1, "at \(world.now): \(world.leaders)")
        world.calm()
        for _ in 0..<2000 {
            world.step()
            if world.leaders.count > 1 { break }
        }
        #expect(world.leaders.count == 1, "once all is quiet: \(world.leaders)")
    }
    /// If leadership never changed, the above would show nothing.
    @Test func leadershipChangesInTrouble() {
        let terms = (0..<10).map { seed in
            var world = World(random: SeededGenerator(seed: UInt64(seed)), replicas: 2)
            world.troubled = true
            for _ in 0..<6000 { world.step() }
            return world.terms
        }
        #expect(terms.count { $0 > 1 } >= 5, "\(terms)")
    }

    @Test func aLeaderThatDiesIsFollowedWithin15Seconds() {
        for seed in 1...50 {
            var world = World(random: SeededGenerator(seed: UInt64(seed)), replicas: 2)
            world.run(until: { $0.leaders.count == 1 }, atMost: .seconds(30))
            world.run(until: { _ in false }, atMost: .milliseconds(100 * seed))
            let died = world.now
            let leader = world.leaders[0]
            world.kill(leader)
            world.run(until: { $0.leaders.first.map { $0 != leader } == true }, atMost: .seconds(60))
            #expect(world.now - died < .seconds(15))
        }
    }

    @Test func aLeaseThatIsHandedBackIsTakenAtTheNextLook() {
        var world = World(random: SeededGenerator(seed: 7), replicas: 2)
        world.run(until: { $0.leaders.count == 1 }, atMost: .seconds(30))
        world.run(until: { _ in false }, atMost: .seconds(5))
        let leader = world.leaders[0]
        let ended = world.now
        world.stop(leader)
        #expect(!world.leaders.contains(leader))
        world.run(until: { $0.leaders.first.map { $0 != leader } == true }, atMost: .seconds(60))
        #expect(world.now - ended < .milliseconds(1500))
        #expect(world.store?.transitions == 1)
    }

    /// Whoever held it may not know yet that it is gone.
    @Test func aLeaseThatSomebodyDeletedIsNotLedFromBeforeTheOldLeaderKnows() {
        var world = World(random: SeededGenerator(seed: 3), replicas: 2)
        world.run(until: { $0.leaders.count == 1 }, atMost: .seconds(30))
        let leader = world.leaders[0]
        world.pause(leader, for: .seconds(30))
        world.store = nil
        for _ in 0..<600 {
            world.step()
            #expect(world.leaders.count <= 1)
        }
        #expect(world.leaders.count == 1 && world.leaders != [leader])
    }

    /// Whoever comes back after long replaces what it saw then; if that was deleted, its request makes a new one.
    @Test func aLeaseThatAReplacementMadeIsNotLedFromAtOnce() {
        var election = LeaderElection(identity: "b")
        var theirs = LeaseRecord()
        (theirs.holder, theirs.seconds, theirs.resourceVersion, theirs.uid) = ("a", 10, "5", "old")
        _ = election.take(.tick, now: .zero)
        _ = election.take(.answer(.lease(theirs), to: 1), now: .zero)
        guard case .replace(var record, let id) = election.take(.tick, now: .seconds(20)).first else {
            Issue.record("an expired lease is not taken")
            return
        }
        (record.resourceVersion, record.uid) = ("9", "new")
        _ = election.take(.answer(.lease(record), to: id), now: .seconds(20))
        #expect(!election.mayWrite(at: .seconds(20)))
        #expect(election.writeWindow == nil)
        // Of the same Lease it would lead at once.
        var other = LeaderElection(identity: "b")
        _ = other.take(.tick, now: .zero)
        _ = other.take(.answer(.lease(theirs), to: 1), now: .zero)
        _ = other.take(.tick, now: .seconds(20))
        record.uid = "old"
        _ = other.take(.answer(.lease(record), to: 2), now: .seconds(20))
        #expect(other.mayWrite(at: .seconds(20)))
    }

    @Test func anAnswerThatComesTooLateGivesNothing() {
        var election = LeaderElection(identity: "a")
        #expect(election.take(.tick, now: .zero) == [.read(id: 1)])
        var free = LeaseRecord()
        free.resourceVersion = "5"
        guard case .replace(var record, 2) = election.take(.answer(.lease(free), to: 1), now: .zero).first else {
            Issue.record("a free lease is not taken")
            return
        }
        #expect(record.holder == "a" && record.transitions == 1)
        record.resourceVersion = "6"
        #expect(election.take(.answer(.lease(record), to: 2), now: .seconds(8)).isEmpty == false)
        #expect(!election.mayWrite(at: .seconds(8)))
    }
}

private struct World {
    struct Replica {
        var election: LeaderElection
        var rate: Double
        var offset: Duration
        var pausedUntil = Duration.zero
        var inbox: [(at: Duration, event: LeaderElection.Event)] = []
        func clock(_ now: Duration) -> Duration { offset + now * rate }
    }
    struct Message {
        var at: Duration
        var from: String
        var action: LeaderElection.Action
    }
    private static let interval = Duration.milliseconds(20)

    var random: SeededGenerator
    var now = Duration.zero
    var replicas: [String: Replica] = [:]
    var store: LeaseRecord?
    var version = 1
    var messages: [Message] = []
    var troubled = false
    var serverAwayUntil = Duration.zero
    /// As real servers do with Leases.
    var createsOnReplace = true
    var born = 0
    var terms = 0

    init(random: SeededGenerator, replicas count: Int) {
        self.random = random
        for _ in 0..<count { bear() }
    }

    var leaders: [String] {
        replicas.filter { $0.value.election.mayWrite(at: $0.value.clock(now)) }.map(\.key).sorted()
    }

    mutating func bear() {
        born += 1
        let name = "replica-\(born)"
        replicas[name] = Replica(
            election: LeaderElection(identity: name), rate: Double.random(in: 0.9...1.1, using: &random),
            offset: .seconds(Int.random(in: 0...1000, using: &random)))
    }
    mutating func kill(_ name: String) { replicas[name] = nil }
    mutating func pause(_ name: String, for time: Duration) { replicas[name]?.pausedUntil = now + time }
    mutating func stop(_ name: String) { take(.stop, name) }
    mutating func calm() {
        troubled = false
        serverAwayUntil = .zero
        for name in replicas.keys { replicas[name]?.pausedUntil = .zero }
    }
    mutating func run(until isDone: (World) -> Bool, atMost limit: Duration) {
        let end = now + limit
        while now < end, !isDone(self) { step() }
    }

    mutating func step() {
        now += Self.interval
        if troubled { makeTrouble() }
        for message in messages.filter({ $0.at <= now }) { serve(message) }
        messages.removeAll { $0.at <= now }
        for name in replicas.keys.sorted() {
            guard let replica = replicas[name], replica.pausedUntil <= now else { continue }
            let due = replica.inbox.filter { $0.at <= now }
            replicas[name]?.inbox.removeAll { $0.at <= now }
            for entry in due { take(entry.event, name) }
            if let replica = replicas[name], replica.election.nextTick <= replica.clock(now) { take(.tick, name) }
        }
    }

    private mutating func take(_ event: LeaderElection.Event, _ name: String) {
        guard let clock = replicas[name]?.clock(now) else { return }
        for action in replicas[name]?.election.take(event, now: clock) ?? [] {
            switch action {
            case .tell(.leading): terms += 1
            case .tell: break
            case .drain: take(.drained, name)
            case .finish:
                replicas[name] = nil
                if troubled { bear() }
            case .read, .create, .replace:
                if chance(0.1) { continue }
                messages.append(Message(at: now + delay(), from: name, action: action))
                if chance(0.1) { messages.append(Message(at: now + delay(), from: name, action: action)) }
            }
        }
    }

    private mutating func serve(_ message: Message) {
        guard now >= serverAwayUntil else { return }
        let answer: LeaderElection.Answer
        let id: Int
        switch message.action {
        case .read(let number): (answer, id) = (store.map { .lease($0) } ?? .absent, number)
        case .create(let record, let number): (answer, id) = (store == nil ? keep(record) : .conflict, number)
        case .replace(let record, let number):
            id = number
            answer =
                store.map({ $0.resourceVersion == record.resourceVersion }) ?? createsOnReplace
                ? keep(record) : store == nil ? .absent : .conflict
        default: return
        }
        if chance(0.1) { return }
        for _ in 0..<(chance(0.1) ? 2 : 1) {
            let answer = chance(0.05) ? .failed("500") : answer
            let arrival = now + delay()
            replicas[message.from]?.inbox.append((arrival, .answer(answer, to: id)))
        }
    }
    private mutating func keep(_ record: LeaseRecord) -> LeaderElection.Answer {
        version += 1
        let uid = store?.uid ?? "uid-\(version)"
        store = record
        store?.resourceVersion = "\(version)"
        store?.uid = uid
        return store.map { .lease($0) } ?? .absent
    }

    private mutating func makeTrouble() {
        let names = replicas.keys.sorted()
        guard let name = names.randomElement(using: &random) else { return bear() }
        switch Int.random(in: 0..<2000, using: &random) {
        case 0..<6: pause(name, for: .seconds(Int.random(in: 1...25, using: &random)))
        case 6:
            kill(name)
            bear()
        case 7: if let replica = replicas[name], replica.pausedUntil <= now { stop(name) }
        case 8: serverAwayUntil = now + .seconds(Int.random(in: 1...25, using: &random))
        case 9: store = nil
        default: break
        }
    }
    private mutating func chance(_ probability: Double) -> Bool {
        troubled && Double.random(in: 0..<1, using: &random) < probability
    }
    private mutating func delay() -> Duration {
        chance(0.2)
            ? .milliseconds(Int.random(in: 100...12_000, using: &random))
            : .milliseconds(Int.random(in: 1...30, using: &random))
    }
}
