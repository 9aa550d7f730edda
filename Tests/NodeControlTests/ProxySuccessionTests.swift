// A newer proxy takes the place of an older one, and never before it can.
import HandOver
import Testing

@testable import NodeControl

@Suite struct ProxySuccessionTests {
    private func succession(_ proxies: [ConnectedProxy], current: Set<UInt32>) -> ProxySuccession {
        ProxySuccession(proxies, oldest: 100) { current.contains($0.pid) }
    }
    private func proxy(_ pid: UInt32, _ generation: UInt64, isForeign: Bool = false) -> ConnectedProxy {
        var proxy = ConnectedProxy(pid: pid, version: "v", generation: generation)
        proxy.isForeign = isForeign
        return proxy
    }

    @Test func theOldOneStaysUntilItsSuccessorHasTheConfiguration() {
        let alone = succession([proxy(1, 105)], current: [])
        #expect(alone.needsSuccessor && alone.outdated == [1] && alone.leaving.isEmpty)
        for generation: UInt64 in [0, 99, 104] {
            let both = succession([proxy(1, 105), proxy(2, generation)], current: [2])
            #expect(!both.needsSuccessor && both.outdated == [1] && both.leaving.isEmpty, "\(generation)")
        }
        #expect(succession([proxy(1, 105), proxy(2, 105)], current: [2]).leaving == [1])
        var silent = proxy(2, 105)
        silent.isAnswering = false
        #expect(succession([proxy(1, 105), silent], current: [2]).leaving.isEmpty)
    }

    @Test func oneOfAnotherFormatLeavesToo() {
        #expect(succession([proxy(1, 0, isForeign: true), proxy(2, 0)], current: [2]).leaving.isEmpty)
        // What it started with from disk may be as old as what the other one has.
        #expect(succession([proxy(1, 0, isForeign: true), proxy(2, 99)], current: [2]).leaving.isEmpty)
        #expect(succession([proxy(1, 0, isForeign: true), proxy(2, 100)], current: [2]).leaving == [1])
    }

    @Test func theInstalledOneIsLeftAlone() {
        let one = succession([proxy(1, 105)], current: [1])
        #expect(!one.needsSuccessor && one.outdated.isEmpty && one.leaving.isEmpty)
        #expect(succession([], current: []).needsSuccessor)
        #expect(succession([proxy(1, 105), proxy(2, 105)], current: [1, 2]).leaving.isEmpty)
    }
}
