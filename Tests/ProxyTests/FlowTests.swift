/// What relayed connections leave behind: series with every label, a bounded number of them, and one line each.
import Addressing
import Balancing
import CertificateAuthority
import Glibc
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct FlowTests {
    private func flow(_ direction: FlowRecord.Direction, service: Int = 0) throws -> FlowRecord {
        var flow = FlowRecord(
            direction, began: Moment(nanoseconds: 1), client: try #require(SocketAddress("10.0.0.5:4711")),
            dialled: try #require(SocketAddress("10.96.0.1:80")))
        let id = RoutedServiceID(namespace: "shop", name: "cart\(service)", port: 80)
        flow.service = UpstreamID(id)
        flow.server = SocketAddress("10.0.1.7:8080")
        flow.tunnel = SocketAddress("10.0.1.7:15008")
        flow.sourceIdentity = try identity("client")
        flow.destinationIdentity = try identity("server")
        return flow
    }

    @Test func seriesAreWhatIstioCallsThem() throws {
        var table = FlowTable()
        var flow = try flow(.outbound)
        table.opened(&flow, now: .start)
        (flow.received, flow.sent) = (10, 7)
        table.progress(&flow, now: .start)
        flow.sent = 9
        table.finished(&flow)
        let text = prometheusText(
            ShardStats(), [], flows: table.entries.map { (key: $0.key, value: $0.value) }, node: ProxyNode(name: "n"),
            mesh: ProxyMesh(), generation: 1)
        let series = text.split(separator: "\n").filter { $0.hasPrefix("istio_tcp_") }
        for (name, value) in [
            ("connections_opened", 1), ("connections_closed", 1), ("connections_failed", 0), ("received_bytes", 10),
            ("sent_bytes", 9),
        ] {
            let line = try #require(series.first { $0.hasPrefix("istio_tcp_\(name)_total{") })
            #expect(line.hasSuffix(" \(value)"))
            for label in [
                "reporter=\"source\"", "request_protocol=\"tcp\"", "connection_security_policy=\"mutual_tls\"",
                "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
                "destination_principal=\"spiffe://cluster.local/ns/shop/sa/server\"",
                "destination_service=\"cart0.shop.svc.cluster.local\"", "response_flags=\"-\"",
            ] { #expect(line.contains(label), "\(label) in \(line)") }
        }
    }

    @Test func thereIsABound() throws {
        var table = FlowTable()
        for number in 0..<FlowTable.maximum + 100 {
            var flow = try flow(.inbound, service: number)
            table.opened(&flow, now: .start)
        }
        #expect(table.entries.count <= FlowTable.maximum + 1)
        #expect(table.entries.values.reduce(0) { $0 + $1.opened } == UInt64(FlowTable.maximum + 100))
    }

    /// A peer says which service it means, and may say anything.
    @Test func inventedHostsCrowdOutNobody() throws {
        var table = FlowTable()
        var flow = try flow(.inbound)
        flow.service = nil
        flow.serviceHost = "cart.shop.svc.cluster.local"
        table.opened(&flow, now: .start)
        for number in 0..<1000 {
            var invented = flow
            invented.serviceHost = "x\(number).shop.svc.cluster.local"
            table.opened(&invented, now: .start)
            table.finished(&invented)
        }
        #expect(table.entries.count == FlowTable.hostsOfPod + 1)
        #expect(table.entries.values.reduce(0) { $0 + $1.opened } == 1001)
        table.sweep(RoutingTable(ProxySnapshot(node: ProxyNode(name: "n"))), now: .start + .seconds(2000))
        #expect(table.entries.keys.map(\.serviceHost) == [flow.serviceHost], "what is open stays under its name")
        table.finished(&flow)
        #expect(table.entries.values.map(\.closed) == [1])
    }

    @Test func aLineIsThatOfAmbientMode() throws {
        var flow = try flow(.outbound)
        flow.isOpen = true
        (flow.received, flow.sent, flow.ended) = (10, 7, Moment(nanoseconds: 5_000_001))
        let line = { (flow: FlowRecord, format: AccessLog.Format) in
            String(decoding: flowLine(flow, format, ProxyNode(name: "n"), ended: .init()), as: UTF8.self)
        }
        #expect(
            line(flow, .text)
                == "[1970-01-01T00:00:00.000Z] access connection complete src.addr=10.0.0.5:4711 "
                + "src.namespace=\"shop\" src.identity=\"spiffe://cluster.local/ns/shop/sa/client\" "
                + "dst.addr=10.0.1.7:15008 dst.hbone_addr=10.0.1.7:8080 "
                + "dst.service=\"cart0.shop.svc.cluster.local\" dst.namespace=\"shop\" "
                + "dst.identity=\"spiffe://cluster.local/ns/shop/sa/server\" direction=\"outbound\" "
                + "bytes_sent=10 bytes_recv=7 duration=\"5ms\"\n")
        flow.isOpen = false
        flow.serviceHost = "evil\"\n\u{1b}[2J"
        flow.service = nil
        flow.refusal = TunnelRefusal(.connect, "no route")
        for format in AccessLog.Format.allCases {
            let text = line(flow, format)
            #expect(text.contains("no route") && text.contains("failed"))
            #expect(text.filter { $0 == "\n" }.count == 1 && !text.contains("\u{1b}"))
        }
    }
}
