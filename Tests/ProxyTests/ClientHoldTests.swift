/// Which routes apply depends on the client's namespace: a client that is not known yet waits for a moment.
import Addressing
import RouteIR
import Synchronization
import TestSupport
import Testing

@testable import Proxy

@Suite struct ClientHoldTests {
    private static let client = IPAddress(v4: 0x7f00_0001)

    private struct Setting {
        let rig: ProxyRig
        let told: SentenceList

        /// Clients in `customer` get "theirs", all others "everybody's".
        func configure(clientIsIn namespace: String?) {
            var snapshot = rig.engine.snapshot
            snapshot.generation += 1
            var service =
                snapshot.services[serviceID] ?? RoutedService(id: serviceID, portName: "", clientSpeaks: .http1)
            service.producerRoutes = [rule(to: [("everybody", 1)])]
            service.consumerRoutes = ["customer": [rule(to: [("theirs", 1)])]]
            snapshot.services[serviceID] = service
            snapshot.workloads = [:]
            if let namespace {
                snapshot.workloads[ClientHoldTests.client] = Workload(
                    namespace: namespace, pod: "p", name: "p", canonicalService: "p")
            }
            rig.engine.adopt(snapshot)
        }
    }

    private final class SentenceList: Sendable {
        private let state = Mutex<[String]>([])
        var all: [String] { state.withLock { $0 } }
        func add(_ sentence: String) { state.withLock { $0.append(sentence) } }
    }

    private func with(
        patience: Duration, isOwn: Bool = false, _ body: (Setting) async throws -> Void
    ) async throws {
        let (everybody, theirs) = (try TestBackend("everybody"), try TestBackend("theirs"))
        defer {
            everybody.stop()
            theirs.stop()
        }
        let told = SentenceList()
        var options = EngineOptions()
        options.clientPatience = patience
        options.isOwnAddress = { _ in isOwn }
        options.tell = { told.add($0) }
        let upstreams = [upstream("everybody", [everybody]), upstream("theirs", [theirs])]
        try await ProxyRig.with([rule(to: [("everybody", 1)])], upstreams, options: options) { rig in
            try await body(Setting(rig: rig, told: told))
        }
    }

    @Test func aPodThatIsToldOfInTimeGetsItsOwnRoutes() async throws {
        try await with(patience: .seconds(600)) { setting in
            setting.configure(clientIsIn: nil)
            let connection = try setting.rig.connect()
            connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            try eventually("held") { setting.rig.engine.stats.heldClients == 1 }
            #expect(setting.rig.engine.stats.requests == 0)
            setting.configure(clientIsIn: "customer")
            #expect(connection.answer()?.header("x-backend") == "theirs")
            #expect(setting.rig.engine.stats.unknownClients == 0 && setting.told.all.isEmpty)
            let later = try setting.rig.get("/")
            #expect(later.header("x-backend") == "theirs" && setting.rig.engine.stats.heldClients == 1)
        }
    }

    @Test func whoStaysUnknownGetsTheRoutesForAllAndIsCounted() async throws {
        try await with(patience: .milliseconds(20)) { setting in
            setting.configure(clientIsIn: nil)
            for count in 1...3 {
                let name = try setting.rig.get("/").header("x-backend")
                #expect(name == "everybody")
                let stats = setting.rig.engine.stats
                #expect(stats.heldClients == 1 && stats.unknownClients == count)
            }
            #expect(setting.told.all.count == 1 && setting.told.all[0].contains("127.0.0.1 is the address of no pod"))
            let text = prometheusText(setting.rig.engine.stats, [], node: ProxyNode(name: "n"), generation: 1)
            #expect(text.contains("heddle_proxy_unknown_clients_total 3") && text.contains("held_clients_total 1"))
            #expect(
                String(decoding: setting.rig.engine.answer("stats"), as: UTF8.self).contains("\"unknownClients\":3"))
            setting.configure(clientIsIn: "customer")
            let known = try setting.rig.get("/").header("x-backend")
            #expect(known == "theirs")
            // It is forgotten as a stranger: unknown again, it is waited for again.
            setting.configure(clientIsIn: nil)
            let unknown = try setting.rig.get("/").header("x-backend")
            #expect(unknown == "everybody")
            #expect(setting.rig.engine.stats.heldClients == 2)
        }
    }

    /// With the whole table a client that makes connections would have all others' first requests go astray.
    @Test func oneClientTakesNoMoreThanItsPlaces() async throws {
        try await with(patience: .seconds(600)) { setting in
            setting.configure(clientIsIn: nil)
            let many = try (0..<80).map { _ in try setting.rig.connect() }
            try eventually("all came") {
                let stats = setting.rig.engine.stats
                return stats.heldClients == 64 && stats.unknownClients == 16
            }
            let other = try setting.rig.connect(from: IPAddress(v4: 0x7f00_0002))
            try eventually("held") { setting.rig.engine.stats.heldClients == 65 }
            for client in many + [other] { client.reset() }
        }
    }

    @Test func theNodesOwnProcessesDoNotWait() async throws {
        try await with(patience: .seconds(600), isOwn: true) { setting in
            setting.configure(clientIsIn: nil)
            let name = try setting.rig.get("/").header("x-backend")
            #expect(name == "everybody")
            let stats = setting.rig.engine.stats
            #expect(stats.heldClients == 0 && stats.unknownClients == 0)
        }
    }

    @Test func aClientThatLeavesWhileItWaitsIsForgotten() async throws {
        try await with(patience: .milliseconds(200)) { setting in
            setting.configure(clientIsIn: nil)
            let connection = try setting.rig.connect()
            try eventually("held") { setting.rig.engine.stats.heldClients == 1 }
            connection.reset()
            try eventually("gone") { setting.rig.engine.connectionCount == 0 }
            #expect(setting.rig.engine.stats.requests == 0)
        }
    }
}
