/// What `agentctl observe` and `agentctl top` print.
import Addressing
import ArgumentParser
import FoundationEssentials
import Glibc
import Observation
import Testing

@testable import AgentCommands

@Suite struct TrafficTextTests {
    private static let backend = SocketAddress(IPAddress(v4: 0x0a01_000b), 8080)
    private static let dialled = SocketAddress(IPAddress(v4: 0x0a60_000a), 80)

    private func event(_ kind: FlowEvent.Kind, _ edit: (inout FlowEvent) -> Void = { _ in }) -> FlowEvent {
        var event = FlowEvent(
            time: 1_795_633_912.125, kind: kind, protocol: .known(.tcp), dialled: Self.dialled, backend: Self.backend)
        event.service = ServicePortName(rawValue: "shop/web:http")
        event.source = SocketAddress(IPAddress(v4: 0x0a01_0002), 40000)
        (event.client, event.backendPod) = (
            .pod(namespace: "shop", name: "cart-0"), .pod(namespace: "shop", name: "web-1")
        )
        (event.command, event.pid) = ("curl", 77)
        edit(&event)
        return event
    }

    @Test func eventsAreLinesUnderOneHeader() {
        setenv("TZ", "UTC", 1)
        var lines = FlowLines(paint: .off)
        let text = lines.text([
            event(.connect) {
                $0.source = $0.source.map { SocketAddress($0.address, 0) }
                $0.affinityHits = 3
            },
            event(.closed) { ($0.sent, $0.received, $0.seconds, $0.roundTripSeconds) = (12, 34567, 1.25, 0.000085) },
            event(.refused) { ($0.backend, $0.backendPod, $0.error) = (nil, nil, "ECONNREFUSED") },
            event(.failed) { ($0.client, $0.command, $0.pid) = (nil, nil, nil) },
        ])
        let titles = "TIME          EVENT           SERVICE           CLIENT                        PROCESS       "
        #expect(
            text == titles + """
                BACKEND                       DETAIL
                19:11:52.125  connect    TCP  shop/web:http     shop/cart-0 10.1.0.2          curl[77]      \
                shop/web-1 10.1.0.11:8080     affinity, 3 in a row
                19:11:52.125  closed     TCP  shop/web:http     shop/cart-0 10.1.0.2:40000    curl[77]      \
                shop/web-1 10.1.0.11:8080     sent 12 B, received 33.8 KiB, after 1.3s, round trip 85us
                19:11:52.125  refused    TCP  shop/web:http     shop/cart-0 10.1.0.2:40000    curl[77]      \
                -                             ECONNREFUSED, dialled 10.96.0.10:80
                19:11:52.125  failed     TCP  shop/web:http     10.1.0.2:40000                -             \
                shop/web-1 10.1.0.11:8080     given up by the client

                """)
        var coloured = FlowLines(paint: Paint(isOn: true))
        #expect(coloured.text([event(.failed)]).contains("\u{1B}[31mfailed\u{1B}[0m"))
        #expect(lines.text([]) == "" && !lines.text([event(.connect)]).contains("TIME"))
    }

    @Test func whereTheMeshHasASayItIsADetail() {
        setenv("TZ", "UTC", 1)
        func detail(_ passage: FlowPassage) -> Substring? {
            var lines = FlowLines(paint: .off)
            return lines.text([event(.connect) { $0.passage = passage }]).split(separator: "8080     ").last
        }
        let tunnel = FlowPassage(.tunnel, "both are in the mesh", clientIdentity: "c", serverIdentity: "spiffe://s")
        #expect(detail(tunnel) == "tunnel to spiffe://s\n")
        #expect(detail(FlowPassage(.tunnel, "both are in the mesh")) == "tunnel\n")
        #expect(detail(FlowPassage(.plaintext, "a is not in the mesh")) == "plaintext (a is not in the mesh)\n")
    }

    /// Long names and IPv6 addresses widen their columns for all lines they come with, and for those after them.
    @Test func columnsNeverShift() {
        setenv("TZ", "UTC", 1)
        var lines = FlowLines(paint: .off)
        let long = event(.connect) {
            $0.service = ServicePortName(rawValue: "a-namespace/a-service-with-a-long-name:http")
            ($0.client, $0.source) = (
                .pod(namespace: "a-namespace", name: "pod"),
                IPAddress("fd00:10:244::1234").map { SocketAddress($0, 40000) }
            )
        }
        let text = lines.text([event(.connect)]) + lines.text([event(.connect), long]) + lines.text([event(.connect)])
        #expect(
            text == """
                TIME          EVENT           SERVICE           CLIENT                        PROCESS       \
                BACKEND                       DETAIL
                19:11:52.125  connect    TCP  shop/web:http     shop/cart-0 10.1.0.2:40000    curl[77]      \
                shop/web-1 10.1.0.11:8080
                TIME          EVENT           SERVICE                                       \
                CLIENT                                        PROCESS       BACKEND                       DETAIL
                19:11:52.125  connect    TCP  shop/web:http                                 \
                shop/cart-0 10.1.0.2:40000                    curl[77]      shop/web-1 10.1.0.11:8080
                19:11:52.125  connect    TCP  a-namespace/a-service-with-a-long-name:http   \
                a-namespace/pod [fd00:10:244::1234]:40000     curl[77]      shop/web-1 10.1.0.11:8080
                19:11:52.125  connect    TCP  shop/web:http                                 \
                shop/cart-0 10.1.0.2:40000                    curl[77]      shop/web-1 10.1.0.11:8080

                """)
    }

    @Test(
        arguments: [
            (["--service", "shop/web"], true), (["--service", "shop/web:http"], true),
            (["--service", "shop/we"], false), (["--namespace", "shop"], true), (["--namespace", "sho"], false),
            (["--pod", "shop/cart-0"], true), (["--pod", "shop/web-1"], true), (["--pod", "shop/other"], false),
        ] as [([String], Bool)])
    func filtersPick(options: [String], isShown: Bool) throws {
        let filter = try FlowFilter.parse(options)
        let event = event(.connect)
        #expect(filter.matches(service: event.service, pods: [event.client, event.backendPod]) == isShown)
    }

    @Test func theAgentsOwnServiceIsLeftOut() throws {
        let own = ServicePortName(rawValue: "@heddle/canary")
        #expect(own?.isOwn == true)
        #expect(try !FlowFilter.parse([]).matches(service: own, pods: []))
        #expect(try FlowFilter.parse(["--all"]).matches(service: own, pods: []))
        #expect(try FlowFilter.parse([]).matches(service: nil, pods: []))
    }

    /// Scripts read it, and an agentctl of another release.
    @Test func asJSONNamesAreWords() throws {
        let whole = event(.closed) {
            ($0.time, $0.affinityHits, $0.received, $0.sent, $0.seconds) = (1.5, 2, 10, 20, 0.5)
            ($0.error, $0.roundTripSeconds) = ("ECONNREFUSED", 0.25)
        }
        #expect(
            try jsonLine(whole) == """
                {"affinityHits":2,"backend":"10.1.0.11:8080","backendPod":"shop/web-1","client":"shop/cart-0",\
                "command":"curl","dialled":"10.96.0.10:80","error":"ECONNREFUSED","kind":"closed","pid":77,\
                "protocol":"TCP","received":10,"roundTripSeconds":0.25,"seconds":0.5,"sent":20,\
                "service":"shop/web:http","source":"10.1.0.2:40000","time":1.5}

                """)
        let bare = FlowEvent(time: 1, kind: .datagrams, protocol: FlowTransport(1), dialled: Self.dialled)
        #expect(
            try jsonLine(bare) == #"{"dialled":"10.96.0.10:80","kind":"datagrams","protocol":"1","time":1}"# + "\n")
        var report = TrafficReport(time: 1, backends: [traffic("a/b", 1, 0)])
        report.backends[0].backendPod = .proxy
        report.others = BackendTraffic(service: nil, protocol: .several, backend: nil)
        #expect(
            try jsonLine(report) == """
                {"backends":[{"active":0,"backend":"10.1.0.1:8080","backendPod":"l7-proxy","connections":0,\
                "failures":0,"protocol":"TCP","received":0,"sent":0,"service":"a/b"}],\
                "others":{"active":0,"connections":0,"failures":0,"protocol":""},"time":1}

                """)
        let (client, decoder) = (event(.connect) { $0.client = .node }, JSONDecoder())
        for sent in [whole, bare, client] {
            let received = try decoder.decode(FlowEvent.self, from: Data(jsonLine(sent).utf8))
            #expect(received == sent)
        }
        let received = try decoder.decode(TrafficReport.self, from: Data(jsonLine(report).utf8))
        #expect(received == report)
    }

    private func traffic(_ service: String, _ last: UInt32, _ connections: UInt64) -> BackendTraffic {
        var line = BackendTraffic(
            service: ServicePortName(rawValue: service), protocol: .known(.tcp),
            backend: SocketAddress(IPAddress(v4: 0x0a01_0000 + last), 8080))
        (line.connections, line.received, line.sent) = (connections, connections * 1000, connections * 10)
        return line
    }

    private var reports: (TrafficReport, TrafficReport) {
        var busy = traffic("shop/web:http", 2, 300)
        (busy.active, busy.roundTripSeconds, busy.failures, busy.backendPod) = (
            3, 0.0012, 4, .pod(namespace: "shop", name: "web-2")
        )
        return (
            TrafficReport(time: 10, backends: [traffic("shop/web:http", 1, 100), traffic("shop/web:http", 2, 100)]),
            TrafficReport(time: 12, backends: [traffic("shop/web:http", 1, 100), busy, traffic("a/dns:d", 9, 2)])
        )
    }

    @Test func servicesAreSums() {
        let (before, now) = reports
        let rates = TrafficRates(from: before, to: now, perBackend: false, sort: .connections)
        #expect(
            rates.text(lines: 10, perBackend: false, paint: .off) == """
                SERVICE          CONN/S  ACTIVE  FAIL/S  FAILED  IN/S      OUT/S   RTT
                shop/web:http    100     3       2.0     4       97.7 KiB  1000 B  1.2ms
                a/dns:d          1.0     0       0.0     0       1000 B    10 B    -

                """)
        #expect(rates.text(lines: 1, perBackend: false, paint: .off).hasSuffix("and 1 more, see --lines\n"))
    }

    @Test func backendsHaveLinesOfTheirOwn() {
        let (before, now) = reports
        let rates = TrafficRates(from: before, to: now, perBackend: true, sort: .failures)
        #expect(rates.lines.map { $0.backend?.address.description } == ["10.1.0.2", "10.1.0.9", "10.1.0.1"])
        #expect(rates.lines[0].pod == "shop/web-2" && rates.lines[0].connectionsPerSecond == 100)
        #expect(rates.lines[1].connectionsPerSecond == 1 && rates.lines[2].connectionsPerSecond == 0)
    }

    @Test func aForgottenBackendBeginsAtZero() {
        let rates = TrafficRates(
            from: TrafficReport(time: 0, backends: [traffic("a/b:c", 1, 50)]),
            to: TrafficReport(time: 1, backends: [traffic("a/b:c", 1, 7)]), perBackend: false, sort: .active)
        #expect(rates.lines[0].connectionsPerSecond == 0)
    }
}
