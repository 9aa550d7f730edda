// When the next look at the proxy's processes is to come.
import Testing

@testable import Agent

@Suite struct ProxyChildTests {
    /// The route is deleted and applied again before the next tick: one chain of ticks, not two.
    @Test func ticksDoNotMultiply() {
        var state = ProxyChild.State()
        var set = [state.beginTicking()]
        for isWanted in [true, false, true] {
            state.isWanted = isWanted
            set.append(state.beginTicking())
        }
        #expect(set == [false, true, false, false])
        let goesOn = state.goOnTicking()
        #expect(goesOn)
    }

    /// Without routes nobody wants a proxy, but those there are will end.
    @Test func aChildIsWaitedForAlsoWhenNoneIsWanted() {
        var state = ProxyChild.State()
        state.isWanted = true
        let begins = state.beginTicking()
        (state.pid, state.leaving, state.isWanted) = (7, [6], false)
        var goesOn = [state.goOnTicking()]
        state.pid = nil
        goesOn.append(state.goOnTicking())
        state.leaving = []
        goesOn.append(state.goOnTicking())
        #expect(begins && goesOn == [true, true, false])
        state.isWanted = true
        let beginsAgain = state.beginTicking()
        #expect(beginsAgain)
    }
}
