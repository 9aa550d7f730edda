// Which flows are stale, and whose they are called.
import AdminAPI
import Addressing
import LinuxDataplane
import Testing

@testable import AgentCommands

@Suite struct StaleRuleTests {
    private var report: BackendReport {
        var report = BackendReport()
        report.inUse = ["10.1.0.1:80/TCP", "10.1.0.2:53/UDP"]
        report.services = ["10.96.0.1:80/TCP": "shop/web:http", "*:30080/TCP": "shop/web:http"]
        report.removed = [
            .init(backend: "10.1.0.9:80/TCP", service: "shop/web:http", frontends: ["10.96.0.1:80/TCP"], secondsAgo: 9),
            .init(backend: "10.1.0.9:80/TCP", service: "shop/old", frontends: ["10.96.0.7:80/TCP"], secondsAgo: 3),
            .init(backend: "10.1.0.1:80/TCP", service: "shop/web:http", frontends: ["10.96.0.1:80/TCP"], secondsAgo: 1),
        ]
        return report
    }

    @Test(arguments: [
        // In use, also if it was removed once.
        ("10.96.0.1:80", "10.1.0.1:80", false, false), ("10.96.0.1:80", "10.1.0.1:80", true, false),
        // Of a service that is there, of its node port, of one that is gone.
        ("10.96.0.1:80", "10.1.0.3:80", false, true), ("192.168.0.1:30080", "10.1.0.3:80", false, true),
        ("10.96.0.7:80", "10.1.0.9:80", false, true),
        // The same port for another protocol.
        ("10.96.0.1:80", "10.1.0.2:53", false, true),
        // Somebody else's translation, unless we know better.
        ("172.16.0.1:8080", "10.1.0.9:80", false, false), ("172.16.0.1:8080", "10.1.0.9:80", true, true),
    ])
    func staleness(_ dialled: String, _ backend: String, _ isCertain: Bool, _ expected: Bool) throws {
        let flow = Translation(
            .tcp, dialled: try #require(SocketAddress(dialled)), backend: try #require(SocketAddress(backend)),
            isCertainlyOurs: isCertain)
        #expect(StaleRule(report).isStale(flow) == expected)
    }

    @Test func theTableCountsWhatEnded() {
        var answer = StaleSockets(sockets: [
            StaleSockets.Socket(
                protocol: "TCP", state: "established", local: "10.1.0.5:40000", peer: "10.1.0.9:80",
                dialled: "10.96.0.1:80", service: "shop/web:http", removedSecondsAgo: 12, pod: "shop/cart", pid: 47,
                command: "nginx", isTracked: false)
        ])
        let table = """
            PROTO  STATE        LOCAL           PEER         SERVICE        DIALLED       REMOVED  POD        PROCESS
            TCP    established  10.1.0.5:40000  10.1.0.9:80  shop/web:http  10.96.0.1:80  12s ago  shop/cart  nginx[47]

            """
        #expect(answer.text == table)
        answer.ended = .init(sockets: 1, conntrackEntries: 2)
        #expect(answer.text == table + "\nended 1 socket, deleted 2 conntrack entries\n")
        #expect(StaleSockets(sockets: []).text == "no connection goes to a removed backend\n")
    }
}
