// The order in which kernel and proxy learn of a change, and what happens while there is no proxy.
import Addressing
import Cluster
import Compile
import DataplaneIR
import HandOver
import RouteIR
import Testing

@testable import NodeControl

@Suite struct ProxyControlTests {
    private func proxy(_ generation: UInt64, isAnswering: Bool = true) -> ConnectedProxy {
        .init(pid: 1, version: "v", generation: generation, isAnswering: isAnswering)
    }
    private let id = ServicePortID(
        namespace: "shop", service: "web", portName: "http", transport: .tcp, family: .ipv4)

    private func program(isProxied: Bool) -> ServiceProgram {
        ServiceProgram(
            id: id, frontends: [Frontend(.clusterIP, IPAddress(v4: 1), 80, action: isProxied ? .proxy : .balance)],
            backends: [],
            clusterRange: 0..<0, localRange: 0..<0)
    }
    private func snapshot(_ names: String...) -> ProxySnapshot {
        var snapshot = ProxySnapshot(node: ProxyNode(name: "n"))
        for name in names {
            let id = RoutedServiceID(namespace: "shop", name: name, port: 80)
            snapshot.services[id] = RoutedService(id: id, portName: "", clientSpeaks: .http1)
        }
        return snapshot
    }

    @Test func theFirstRouteWaitsForAProxy() {
        var control = ProxyControl(nodeName: "n", generation: 100)
        #expect(control.step(isNeeded: false, knowsPods: true, followsAnother: true, now: .zero) == .off)
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(10)) == .off)
        #expect(control.phase == .starting(until: .seconds(15)) && control.deadline == .seconds(15))
        control.proxies = [proxy(0)]
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(11)) == .off)
        control.proxies = [proxy(101)]
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(12)) == .up)
        control.proxies = [proxy(101, isAnswering: false)]
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(13)) == .down)
        control.proxies = [proxy(101)]
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(14)) == .up)
    }

    @Test func anAgentThatStartsTrustsTheProxyThatMayRun() {
        var control = ProxyControl(nodeName: "n", generation: 100)
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: true, now: .zero) == .up)
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(4)) == .up)
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(5)) == .down)
    }

    /// What is held back while pods are unknown is handed over once they are known, however long that takes.
    @Test(arguments: [true, false]) func nothingIsHandedOverBeforePodsAreKnown(followsAnother: Bool) {
        var control = ProxyControl(nodeName: "n", generation: 100)
        control.proxies = [proxy(99)]
        let kept: CompilerOptions.L7Proxy = followsAnother ? .up : .off
        #expect(control.step(isNeeded: true, knowsPods: false, followsAnother: followsAnother, now: .zero) == kept)
        #expect(control.changed([], [:], routes: snapshot("web"), now: .zero) == nil && control.owesRoutes)
        #expect(control.step(isNeeded: true, knowsPods: false, followsAnother: false, now: .seconds(3600)) == kept)
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(3601)) == .up)
        let handed = control.changed([], [:], routes: snapshot("web"), now: .seconds(3601))
        #expect(handed?.services.count == 1 && !control.owesRoutes)
    }

    /// A proxy that does not come counts as down, whether pods are known or not; and the time is waited for once.
    @Test func noProxyWhilePodsAreUnknownIsNoProxy() {
        var control = ProxyControl(nodeName: "n", generation: 100)
        #expect(control.step(isNeeded: true, knowsPods: false, followsAnother: true, now: .zero) == .up)
        #expect(control.deadline == .seconds(5))
        #expect(control.step(isNeeded: true, knowsPods: false, followsAnother: false, now: .seconds(5)) == .down)
        #expect(control.deadline == nil)
        control.proxies = [proxy(1)]
        #expect(control.step(isNeeded: true, knowsPods: false, followsAnother: false, now: .seconds(6)) == .up)
        control.proxies = []
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(7)) == .down)
        #expect(control.phase == .down)
    }

    @Test func theKernelWaitsUntilTheProxyHasTheRoutes() {
        var control = ProxyControl(nodeName: "n", generation: 100)
        control.proxies = [proxy(100)]
        _ = control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .zero)
        let handed = control.changed([id], [id: program(isProxied: true)], routes: snapshot("web"), now: .zero)
        #expect(handed?.generation == 101)
        #expect(control.mayWrite(now: .milliseconds(10)) == false)
        #expect(control.deadline == .seconds(1))
        control.proxies = [proxy(101)]
        #expect(control.mayWrite(now: .milliseconds(20)) == true)
        #expect(control.deadline == nil)
        // The same program once more is nothing new.
        _ = control.changed([id], [id: program(isProxied: true)], routes: snapshot("web"), now: .seconds(2))
        #expect(control.mayWrite(now: .seconds(2)) == true)
    }

    /// The kernel may have been told of it while pods were unknown, and have refused it.
    @Test func theKernelWaitsForRoutesThatWereHeldBack() {
        var control = ProxyControl(nodeName: "n", generation: 100)
        control.proxies = [proxy(99)]
        _ = control.step(isNeeded: true, knowsPods: false, followsAnother: true, now: .zero)
        _ = control.changed([id], [id: program(isProxied: true)], routes: snapshot("web"), now: .zero)
        _ = control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(40))
        let handed = control.changed([], [:], routes: snapshot("web"), now: .seconds(40))
        let mayWrite = control.mayWrite(now: .seconds(40))
        #expect(handed?.generation == 101 && !mayWrite)
        control.proxies = [proxy(101)]
        let mayWriteThen = control.mayWrite(now: .seconds(40))
        #expect(mayWriteThen)
    }

    @Test func aProxyThatDoesNotTakeItHoldsNothingUpForLong() {
        var control = ProxyControl(nodeName: "n", generation: 100)
        control.proxies = [proxy(100)]
        _ = control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .zero)
        _ = control.changed([id], [id: program(isProxied: true)], routes: snapshot("web"), now: .zero)
        #expect(control.mayWrite(now: .milliseconds(999)) == false)
        #expect(control.mayWrite(now: .seconds(1)) == true)
    }

    @Test func theProxyForgetsAServiceAfterTheKernel() {
        var control = ProxyControl(nodeName: "n", generation: 100)
        _ = control.changed([], [:], routes: snapshot("web", "api"), now: .zero)
        let during = control.changed([id], [id: program(isProxied: false)], routes: snapshot("api"), now: .zero)
        #expect(during?.services.count == 2)
        #expect(control.mayWrite(now: .zero) == true)
        // What was sent to the proxy last is still on its way there.
        #expect(control.written(snapshot("api"), now: .zero) == nil && control.deadline == .seconds(1))
        #expect(control.mayWrite(now: .milliseconds(999)) == true)
        #expect(control.written(snapshot("api"), now: .milliseconds(999)) == nil)
        #expect(control.mayWrite(now: .seconds(1)) == true && control.deadline == nil)
        let after = control.written(snapshot("api"), now: .seconds(1))
        #expect(after?.services.count == 1 && after?.generation == 103)
        #expect(control.written(snapshot("api"), now: .seconds(9)) == nil)
    }

    /// That the kernel gave something up is no reason to hand over what is held back.
    @Test func whatIsHeldBackIsNotHandedOverWithWhatIsTakenBack() {
        var control = ProxyControl(nodeName: "n", generation: 100)
        _ = control.step(isNeeded: true, knowsPods: true, followsAnother: true, now: .zero)
        _ = control.changed([], [:], routes: snapshot("web"), now: .zero)
        // The last route goes, and another one comes before the kernel was written.
        _ = control.step(isNeeded: false, knowsPods: false, followsAnother: false, now: .zero)
        _ = control.changed([], [:], routes: snapshot(), now: .zero)
        _ = control.step(isNeeded: true, knowsPods: false, followsAnother: false, now: .zero)
        _ = control.changed([], [:], routes: snapshot("api"), now: .zero)
        let early = control.written(snapshot("api"), now: .zero)
        #expect(early == nil && control.deadline == nil)
        _ = control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: .seconds(1))
        let handed = control.changed([], [:], routes: snapshot("api"), now: .seconds(1))
        #expect(control.written(snapshot("api"), now: .seconds(1)) == nil)
        _ = control.mayWrite(now: .seconds(2))
        let trimmed = control.written(snapshot("api"), now: .seconds(2))
        #expect(handed?.services.count == 2 && trimmed?.services.count == 1)
    }

    /// At its start the agent trusts that a proxy runs. The one that comes may have another agent's configuration.
    @Test func aProxyThatComesWithAnOlderConfigurationIsWaitedFor() {
        var control = ProxyControl(nodeName: "n", generation: 10)
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: true, now: .zero) == .up)
        let published = control.changed([id], [id: program(isProxied: true)], routes: snapshot("web"), now: .zero)
        let now = Duration.seconds(1)
        control.proxies = [proxy(7)]
        #expect(control.step(isNeeded: true, knowsPods: true, followsAnother: false, now: now) == .up)
        let mayWrite = control.mayWrite(now: now)
        #expect(!mayWrite, "it does not know the service yet")
        control.proxies = [proxy(published?.generation ?? 0)]
        let mayWriteThen = control.mayWrite(now: now)
        #expect(mayWriteThen)
    }
}
