// `/healthz`, `/livez`, `/readyz` by spec row.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import DataplaneIR
import Synchronization
import Telemetry
import Testing

@testable import Agent

@Suite struct HealthEndpointTests {
    private func contents(_ edit: (inout StatusBoard.Contents) -> Void = { _ in }) -> StatusBoard.Contents {
        let status = AgentStatus(node: "n", version: "test", dataplane: .init(name: "ebpf", configured: "auto"))
        var contents = StatusBoard.Contents(status: status, startedAt: .zero)
        edit(&contents)
        return contents
    }

    @Test("row 146: healthy during startup, however long it takes")
    func startup() {
        let health = HealthEndpoint.health(contents(), now: .seconds(500))
        #expect(health == .init(isHealthy: true, isEligible: true, staleSeconds: 0))
    }

    @Test("row 142: unhealthy once a change has waited for more than two sync periods")
    func staleness() {
        let waiting = contents {
            $0.oldestPending = .seconds(100)
            $0.lastSyncAt = .seconds(90)
        }
        #expect(HealthEndpoint.health(waiting, now: .seconds(160)).isHealthy)
        let late = HealthEndpoint.health(waiting, now: .seconds(161))
        #expect(!late.isHealthy && late.staleSeconds == 71)
    }

    @Test("rows 143-145: an ineligible node fails /healthz, not /livez, and stays healthy in the body")
    func eligibility() {
        let board = StatusBoard(status: contents().status, clock: { .zero })
        board.update { $0.nodeEligible = false }
        let endpoint = HealthEndpoint(board: board, metrics: AgentMetrics())
        let healthz = ask(endpoint, "/healthz")
        #expect(healthz.status == 503)
        #expect(healthz.body.contains("\"nodeEligible\":false") && healthz.body.contains("\"healthy\":true"))
        let livez = ask(endpoint, "/livez")
        #expect(livez.status == 200 && !livez.body.contains("nodeEligible"))
        #expect(ask(endpoint, "/readyz").status == 503)
        #expect(ask(endpoint, "/other").status == 404)
        let metrics = endpoint.metrics.registry.render()
        #expect(metrics.contains("kubeproxy_proxy_healthz_total{code=\"503\"} 1\n"))
        #expect(metrics.contains("kubeproxy_proxy_livez_total{code=\"200\"} 1\n"))
    }

    @Test func whatIsInForceIsToldInAFewBytes() throws {
        let board = StatusBoard(status: contents().status, clock: { .seconds(100) })
        board.update {
            $0.status.ready = true
            $0.status.proxy.mode = "external"
            $0.written = [.service: "812", .httpRoute: "811"]
            $0.inForce = [.service: "700", .httpRoute: "640"]
            $0.waitsForProxySince = .seconds(88)
            let id = ServicePortID(namespace: "shop", service: "web", portName: "http", transport: .tcp, family: .ipv4)
            $0.refused = [id: "the map is full"]
        }
        let endpoint = HealthEndpoint(board: board, metrics: AgentMetrics())
        let answer = ask(endpoint, ProgrammedReport.path)
        #expect(
            answer.body == #"{"node":"n","reached":{"HTTPRoute":"640","Service":"812"},"refused":["shop/web"],"#
                + #""refusedCount":1,"waitsFor":"proxy","waitsSeconds":12}"#)
        board.update {
            $0.oldestPending = .seconds(99)
            $0.refused = Dictionary(
                uniqueKeysWithValues: (0..<3000).map {
                    let name = String(repeating: "n", count: 59) + "\($0)"
                    return (
                        ServicePortID(namespace: name, service: name, portName: "", transport: .tcp, family: .ipv6),
                        "full"
                    )
                })
        }
        let full = ask(endpoint, ProgrammedReport.path).body
        #expect(full.contains(#""refusedCount":3000,"waitsFor":"kernel","waitsSeconds":1}"#) && full.utf8.count < 4096)
    }

    private func ask(_ endpoint: HealthEndpoint, _ path: String) -> (status: Int, body: String) {
        let answer = Mutex<(Int, String)>((0, ""))
        endpoint.respond(HTTPRequest(target: path)) { response in
            answer.withLock { $0 = (response.status, String(decoding: response.body, as: UTF8.self)) }
        }
        return answer.withLock { $0 }
    }
}
