/// Metric series stay few, whatever backends answer and however many pods come and go, and nothing is lost in the sum.
import Addressing
import Balancing
import RouteIR
import Testing
import TestSupport

@testable import Proxy

@Suite struct SeriesTableTests {
    private func record(_ change: (inout RequestRecord) -> Void = { _ in }) -> RequestRecord {
        var record = RequestRecord(
            began: Moment(nanoseconds: 0), ended: Moment(nanoseconds: 12_000_000), scheme: "http",
            client: SocketAddress(IPAddress(v4: 1), 1), dialled: SocketAddress(IPAddress(v4: 2), 80))
        record.status = 200
        record.upstreamID = upstreamID("cart")
        change(&record)
        return record
    }
    private func workload(_ name: String) -> Workload {
        Workload(namespace: "shop", pod: name, name: name, app: name, version: "v1", canonicalService: name)
    }

    @Test func everyStatusThereIsMakesFewSeries() {
        var table = SeriesTable()
        var folded = 0
        for status in 0..<1000 where !table.add(record { $0.status = UInt16(status) }) { folded += 1 }
        #expect(table.entries.count <= SeriesTable.statusesOfService + 5, "\(table.entries.count)")
        #expect(folded > 0 && table.entries.reduce(0) { $0 + $1.value.count } == 1000)
        // Kinds of outcome stay apart, so that rates of failures stay right.
        let failures = table.entries.filter { $0.key.status / 100 == 5 }.reduce(0) { $0 + $1.value.count }
        #expect(failures == 100)
        #expect(table.entries.first { $0.key.status == 0 }?.value.count == 500)
        // Another service's are its own.
        let isOwn = table.add(record { ($0.upstreamID, $0.status) = (upstreamID("other"), 418) })
        #expect(isOwn)
        #expect(table.entries.contains { $0.key.status == 418 && $0.key.upstream == upstreamID("other") })
    }

    @Test func whateverABackendSaysIsOneOfEighteenStatusesOfGRPC() {
        var table = SeriesTable()
        for text in ["0", "16", "17", "-1", "99", "", "x\u{9b}", "0\"} 1\n"] + (0..<500).map({ "text \($0)" }) {
            _ = table.add(
                record {
                    $0.grpcStatus = GRPCStatus(text.utf8)
                    $0.isGRPC = true
                })
        }
        #expect(Set(table.entries.map { $0.key.grpcStatus?.description }) == ["0", "16", "unknown"])
    }

    @Test func oneServiceCannotCrowdOutAnother() {
        var table = SeriesTable()
        var entries: [WorkloadEntry] = []
        for number in 0..<(2 * SeriesTable.maximumOfService) {
            entries.append(WorkloadEntry(workload("pod-\(number)")))
            _ = table.add(record { $0.destination = entries[number] })
        }
        #expect(table.entries.count == SeriesTable.maximumOfService + 1)
        #expect(table.entries.last?.key.isOthers == true && table.entries.last?.key.upstream == upstreamID("cart"))
        let isOwn = table.add(record { $0.upstreamID = upstreamID("victim") })
        #expect(isOwn)
        for service in 0..<20 {
            for entry in entries {
                _ = table.add(record { ($0.destination, $0.upstreamID) = (entry, upstreamID("many-\(service)")) })
            }
        }
        #expect(table.entries.count <= SeriesTable.maximum + 24)
        let text = prometheusText(ShardStats(), table.entries, node: ProxyNode(name: "n"), generation: 1)
        #expect(text.contains("destination_workload=\"(others)\""))
    }

    @Test func whatIsGoneIsDropped() {
        let address = IPAddress(v4: 7)
        var snapshot = ProxySnapshot(node: ProxyNode(name: "n"))
        snapshot.upstreams = [upstreamID("cart"): Upstream(id: upstreamID("cart"))]
        snapshot.workloads = [address: workload("client"), IPAddress(v4: 8): workload("stays")]
        let first = RoutingTable(snapshot)
        var table = SeriesTable()
        let ended = Moment(nanoseconds: 1_000_000_000)
        for source in [address, IPAddress(v4: 8)] {
            _ = table.add(record { ($0.source, $0.ended) = (first.workload(at: source), ended) })
        }
        _ = table.add(record { ($0.upstreamID, $0.ended) = (upstreamID("old"), ended) })
        table.sweep(first, now: ended + .seconds(60))
        #expect(table.entries.count == 3)
        snapshot.workloads[address] = nil
        let second = RoutingTable(snapshot, replacing: first)
        // Not before a scrape has seen the last of it.
        table.sweep(second, now: ended + .seconds(60))
        #expect(table.entries.count == 3)
        table.sweep(second, now: ended + .seconds(121))
        #expect(table.entries.map(\.key.source?.workload.name) == ["stays"])
        _ = table.add(record { $0.source = second.workload(at: IPAddress(v4: 8)) })
        #expect(table.entries.count == 1)
        table.sweep(second, now: ended + .seconds(2000))
        #expect(table.entries.isEmpty)
    }

    /// Keys that differ in one field only lie in different buckets.
    @Test func everyFieldIsHashed() {
        let source = WorkloadEntry(workload("a"))
        let changes: [(inout RequestRecord) -> Void] = [
            { _ in }, { $0.source = source }, { $0.destination = source }, { $0.upstreamID = upstreamID("x") },
            { $0.status = 201 }, { $0.grpcStatus = GRPCStatus(rawValue: 3) }, { $0.flags = .noRoute },
            { $0.isGRPC = true },
        ]
        #expect(Set(changes.map { SeriesKey(record($0)).hashValue }).count == changes.count)
    }

    /// With requests going on meanwhile; no piece is longer than the loop can spare.
    @Test func aScrapeComesInPieces() async throws {
        let backend = try TestBackend("one") { request in .reply(200 + request.number % 30, body: "x") }
        defer { backend.stop() }
        try await ProxyRig.with(nil, [upstream("cart", [backend])]) { rig in
            let client = try rig.connect()
            for _ in 0..<90 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = client.answer()
            }
            let counted = { rig.engine.series.reduce(0) { $0 + $1.value.count } }
            try eventually("all are counted") { counted() == 90 }
            #expect(rig.engine.collect { $0.series.piece(from: 0).count } == [30])
            #expect(rig.engine.collect { $0.series.piece(from: 29).count } == [1])
        }
        var table = SeriesTable()
        let entries = (0..<200).map { WorkloadEntry(workload("pod-\($0)")) }
        for entry in entries { _ = table.add(record { $0.source = entry }) }
        #expect(table.piece(from: 0).count == SeriesTable.piece && table.piece(from: 192).count == 8)
        #expect(table.piece(from: 4000).isEmpty)
    }
}
