// `/healthz`, `/livez`, `/readyz` by spec row.
import AdminAPI
import AdminServer
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

    private func ask(_ endpoint: HealthEndpoint, _ path: String) -> (status: Int, body: String) {
        let answer = Mutex<(Int, String)>((0, ""))
        endpoint.respond(HTTPRequest(target: path)) { response in
            answer.withLock { $0 = (response.status, String(decoding: response.body, as: UTF8.self)) }
        }
        return answer.withLock { $0 }
    }
}
