/// Sums by service, whatever becomes of their backends.
import Addressing
import AdminAPI
import DataplaneIR
import Observation
import Testing

@testable import NodeControl

@Suite struct ServiceTotalsTests {
    private func line(_ service: String, _ port: UInt16, _ connections: UInt64, active: Int = 0) -> BackendTraffic {
        var line = BackendTraffic(
            service: ServicePortName(rawValue: service), protocol: .known(.tcp),
            backend: SocketAddress(IPAddress(v4: 0x0a01_0001), port))
        (line.connections, line.active, line.roundTripSeconds) = (connections, active, active > 0 ? 0.002 : nil)
        return line
    }

    @Test func sumsOnlyGrow() {
        var totals = ServiceTotals()
        let label = ServiceTotals.Label(service: "a/web:h", transport: "TCP")
        totals.add(TrafficReport(time: 0, backends: [line("a/web:h", 1, 5, active: 2), line("a/web:h", 2, 7)]))
        #expect(totals.sums[label]?.connections == 12 && totals.sums[label]?.active == 2)
        #expect(totals.sums[label]?.roundTrip == 0.002)
        // One backend was forgotten, the other went on.
        totals.add(TrafficReport(time: 5, backends: [line("a/web:h", 2, 8)]))
        #expect(totals.sums[label]?.connections == 13 && totals.sums[label]?.active == 0)
        #expect(totals.sums[label]?.roundTrip == nil)
        // It came back, counted from zero.
        totals.add(TrafficReport(time: 10, backends: [line("a/web:h", 1, 3), line("a/web:h", 2, 8)]))
        #expect(totals.sums[label]?.connections == 16)
        totals.add(TrafficReport(time: 15, backends: [line("a/web:h", 1, 2), line("a/web:h", 2, 8)]))
        #expect(totals.sums[label]?.connections == 18)
    }

    @Test func thereAreNeverTooMany() {
        var totals = ServiceTotals()
        let all = (0..<2000).map { line("a/s\($0):h", 1, 1) }
        totals.add(TrafficReport(time: 0, backends: all))
        #expect(totals.sums.count == ServiceTotals.most + 1)
        #expect(totals.sums[.others]?.connections == UInt64(2000 - ServiceTotals.most))
        totals.add(TrafficReport(time: 5, backends: [all[0]]))
        #expect(totals.sums.count == 1, "the others have gone")
        totals.add(TrafficReport(time: 10, backends: [line("@heddle/canary", 1, 1)]))
        #expect(totals.sums.isEmpty, "the agent's own service is none of the cluster")
    }
}
