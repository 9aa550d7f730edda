/// Through every change of root and intermediate, late answers and lost ones: no leaf that lives is disbelieved by
/// anybody who has had the time to read what was published.
import TestSupport
import Testing

@testable import CertificateAuthority

private func shortTiming() -> Rotation.Timing {
    var timing = Rotation.Timing()
    (timing.rootLife, timing.intermediateLife, timing.leafLife, timing.settling, timing.retry) = (
        20_000, 6000, 600, 60, 5
    )
    return timing
}

/// Carries out what is asked, with some of it late or lost, and watches leaves and those who believe.
private struct World {
    var rotation = Rotation(timing: shortTiming())
    var now = 1000
    var signing: (intermediate: Int, root: Int)?
    var leaves: [(root: Int, until: Int)] = []
    /// The root that another replica signs under, which reads of a change up to `settling` late.
    var other: (root: Int, since: Int)?
    /// What was published, newest last. Readers are up to `settling` late.
    var published: [(at: Int, roots: [Int])] = []
    var ends: [Int: Int] = [:]
    var answers: [(at: Int, event: Rotation.Event)] = []
    var forgotten: Set<Int> = []
    var roots: Set<Int> = []

    mutating func take(_ event: Rotation.Event, _ random: inout SeededGenerator) {
        for action in rotation.take(event, now: now) {
            let answer: Rotation.Event
            switch action {
            case .sign(let intermediate, let root):
                signing = (intermediate, root)
                continue
            case .forget(let root):
                #expect(!leaves.contains { $0.root == root && $0.until > now })
                forgotten.insert(root)
                continue
            case .makeRoot(let id, let notAfter):
                ends[id] = notAfter
                roots.insert(id)
                answer = .rootMade(id: id)
            case .makeIntermediate(let id, let root, let notAfter):
                #expect(notAfter <= ends[root] ?? 0, "it outlives its issuer")
                ends[id] = notAfter
                answer = .intermediateMade(id: id, root: root)
            case .publish(let roots):
                answer = .published(roots)
            }
            // One of four is lost, and asked for again.
            guard Int.random(in: 0..<4, using: &random) > 0 else { continue }
            answers.append((now + Int.random(in: 1...20, using: &random), answer))
        }
    }

    mutating func second(_ random: inout SeededGenerator) {
        now += 1
        let due = answers.filter { $0.at <= now }
        answers.removeAll { $0.at <= now }
        for answer in due {
            if case .published(let roots) = answer.event { published.append((now, roots)) }
            take(answer.event, &random)
        }
        take(.tick, &random)
        leaves.removeAll { $0.until <= now }
        guard let signing, let end = rotation.leafEnd(now: now) else { return }
        #expect(end <= ends[signing.root] ?? 0 && end <= ends[signing.intermediate] ?? 0)
        if let old = other, old.root != signing.root {
            if now % 60 == 59, now < old.since + rotation.timing.settling {
                leaves.append((old.root, min(now + rotation.timing.leafLife, ends[old.root] ?? 0)))
            } else if now >= old.since + rotation.timing.settling {
                other = (signing.root, now)
            }
        } else {
            other = (signing.root, now)
        }
        // One a minute; the last second of a root is in the test below.
        if now % 60 == 0 { leaves.append((signing.root, end)) }
    }

    /// Another process goes on from what was kept; answers to the one before are lost.
    mutating func restart() {
        rotation = Rotation(timing: rotation.timing, state: rotation.state)
        answers = []
        signing = rotation.state.root.flatMap { root in
            rotation.state.intermediate.map { (intermediate: $0.id, root: root.id) }
        }
    }

    /// Every reader, from the most late to the newest, believes every leaf.
    func check() {
        let late = now - rotation.timing.settling
        let newestOfLate = published.lastIndex { $0.at <= late } ?? 0
        for reading in published.dropFirst(newestOfLate) {
            if let leaf = leaves.first(where: { !reading.roots.contains($0.root) }) {
                Issue.record("at \(now) a reader of \(reading.roots) disbelieves a leaf under root \(leaf.root)")
            }
        }
    }
}

@Suite struct RotationTests {
    @Test func everyLeafIsBelievedThroughEveryRotation() {
        var random = SeededGenerator()
        var world = World()
        var firstRoots = 0
        while world.now < 60_000 {
            if Int.random(in: 0..<3000, using: &random) == 0 { world.take(.renewRoot, &random) }
            if Int.random(in: 0..<1500, using: &random) == 0 { world.take(.renewIntermediate, &random) }
            if Int.random(in: 0..<300, using: &random) == 0 { world.restart() }
            world.second(&random)
            // Nobody has read anything before the first publication: there is nobody to disbelieve yet.
            if firstRoots == 0, !world.published.isEmpty { firstRoots = world.now }
            if firstRoots > 0, world.now > firstRoots + 60 { world.check() }
            #expect(world.rotation.trusted.count <= 2)
        }
        #expect(world.roots.count >= 4 && world.forgotten.count >= 3, "by age alone there are more")
    }

    @Test func aNewRootSignsOnlyWhenItIsKnown() {
        var rotation = Rotation(timing: shortTiming())
        #expect(rotation.take(.tick, now: 0) == [.makeRoot(id: 1, notAfter: 20_000)])
        #expect(rotation.leafEnd(now: 0) == nil)
        #expect(
            rotation.take(.rootMade(id: 1), now: 1)
                == [.publish([1]), .makeIntermediate(id: 2, root: 1, notAfter: 6001)])
        #expect(
            rotation.take(.intermediateMade(id: 2, root: 1), now: 2) == [.sign(intermediate: 2, root: 1)])
        #expect(rotation.take(.published([1]), now: 3) == [])
        #expect(rotation.leafEnd(now: 3) == 603)
        #expect(rotation.take(.renewRoot, now: 10) == [.makeRoot(id: 3, notAfter: 20_010)])
        #expect(rotation.take(.rootMade(id: 3), now: 11) == [.publish([1, 3])])
        #expect(rotation.take(.published([1, 3]), now: 12) == [])
        #expect(rotation.take(.tick, now: 71) == [], "not everybody has read of it")
        #expect(rotation.take(.tick, now: 72) == [.makeIntermediate(id: 4, root: 3, notAfter: 6072)])
        #expect(
            rotation.take(.intermediateMade(id: 4, root: 3), now: 80) == [.sign(intermediate: 4, root: 3)])
        #expect(rotation.take(.tick, now: 739) == [], "a leaf of the old root may live")
        #expect(rotation.take(.tick, now: 740) == [.forget(root: 1), .publish([3])])
    }

    /// Its age would be negative for years.
    @Test func whatBeginsInTheFutureIsReplaced() {
        var rotation = Rotation(timing: shortTiming())
        _ = rotation.take(.tick, now: 1_000_000)
        _ = rotation.take(.rootMade(id: 1), now: 1_000_000)
        _ = rotation.take(.intermediateMade(id: 2, root: 1), now: 1_000_000)
        // Clocks of replicas differ.
        #expect(rotation.take(.published([1]), now: 999_990) == [])
        #expect(rotation.take(.tick, now: 1000) == [.makeRoot(id: 3, notAfter: 21_000)])
    }

    @Test func answersToNothingAskedChangeNothing() {
        var rotation = Rotation(timing: shortTiming())
        #expect(rotation.take(.rootMade(id: 7), now: 0) == [.makeRoot(id: 1, notAfter: 20_000)])
        #expect(rotation.take(.intermediateMade(id: 9, root: 7), now: 1) == [])
        #expect(rotation.state.root == nil && rotation.state.intermediate == nil && rotation.trusted == [])
    }
}
