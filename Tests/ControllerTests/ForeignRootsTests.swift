/// Roots that others change: known to everybody before they count, believed until nothing under them lives.
import TestSupport
import Testing

@testable import Controller

@Suite struct ForeignRootsTests {
    private let overlap = 100

    @Test func theFirstWaitsForNobody() {
        var roots = ForeignRoots()
        roots.take(["a"], areFirst: true, now: 1000, overlap: overlap)
        #expect(roots.isKnown("a", now: 1000, settling: 10) && roots.certificates == ["a"])
    }

    @Test func anotherIsKnownFirstAndTheOldOneIsBelievedLonger() {
        var roots = ForeignRoots()
        roots.take(["a"], areFirst: true, now: 1000, overlap: overlap)
        roots.take(["b"], areFirst: false, now: 1001, overlap: overlap)
        #expect(roots.certificates == ["b", "a"])
        #expect(!roots.isKnown("b", now: 9999, settling: 10), "it is not published")
        roots.published(now: 1002)
        roots.published(now: 1005)
        #expect(!roots.isKnown("b", now: 1011, settling: 10) && roots.isKnown("b", now: 1012, settling: 10))
        roots.take(["b"], areFirst: false, now: 1100, overlap: overlap)
        #expect(roots.certificates == ["b", "a"], "it counts from when it went")
        roots.take(["b"], areFirst: false, now: 1101, overlap: overlap)
        #expect(roots.certificates == ["b"])
        roots.take([], areFirst: false, now: 1200, overlap: overlap)
        roots.take(["b"], areFirst: false, now: 1250, overlap: overlap)
        roots.take(["b"], areFirst: false, now: 1400, overlap: overlap)
        #expect(roots.isKnown("b", now: 1400, settling: 10), "it came back in time")
    }

    @Test func whoeverChangesThemAllTheTimeMakesThemNoHeap() {
        var roots = ForeignRoots()
        for index in 0..<100 {
            roots.take(["\(index)"], areFirst: index == 0, now: 1000 + index, overlap: 1000)
            #expect(roots.roots.count <= ForeignRoots.mostRetired + 1)
        }
        #expect(roots.certificates == ["99"] + (83...98).map { "\($0)" })
    }
}
