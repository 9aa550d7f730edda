/// `/healthz`, `/livez` and `/readyz` as kube-proxy answers them (spec rows 142-146). Reads only the status board, so
/// it answers while a long write holds the kernel thread.
import AdminAPI
import AdminServer
import CLinux
import Daemon
import Glibc
import NodeControl
import Telemetry

struct HealthEndpoint: Sendable {
    /// A change that waits longer than two of kube-proxy's sync periods makes the node unhealthy.
    static let longestWait = Duration.seconds(60)

    let board: StatusBoard
    let metrics: AgentMetrics

    struct Health: Equatable {
        /// The data plane keeps up.
        var isHealthy: Bool
        var isEligible: Bool
        /// Seconds since the kernel was last known to be up to date.
        var staleSeconds: Double
    }

    static func health(_ contents: StatusBoard.Contents, now: Duration) -> Health {
        let waited = contents.oldestPending.map { now - $0 } ?? .zero
        let isHealthy = waited <= longestWait
        return Health(
            isHealthy: isHealthy, isEligible: contents.nodeEligible,
            // When healthy, "last updated" is now.
            staleSeconds: isHealthy ? 0 : (now - (contents.lastSyncAt ?? contents.startedAt)).seconds)
    }
    var health: Health { Self.health(board.now, now: board.clock()) }

    @Sendable func respond(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        let health = health
        switch request.path {
        case ProgrammedReport.path: reply(jsonResponse(ProgrammedReport(board.now, now: board.clock())))
        case "/healthz":
            let code = health.isHealthy && health.isEligible ? 200 : 503
            metrics.healthz.add(1, String(code))
            reply(body(health, code, withEligibility: true))
        case "/livez":
            let code = health.isHealthy ? 200 : 503
            metrics.livez.add(1, String(code))
            reply(body(health, code, withEligibility: false))
        case "/readyz":
            let contents = board.now
            if !contents.status.ready {
                reply(.text("the first sync is not in the kernel yet\n", status: 503))
            } else if let failure = contents.canaryFailure {
                reply(.text("services are not reached: \(failure)\n", status: 503))
            } else {
                reply(.text("ok\n"))
            }
        default: reply(.notFound)
        }
    }

    private func body(_ health: Health, _ code: Int, withEligibility: Bool) -> HTTPResponse {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var updated = now
        updated.tv_sec -= Int(health.staleSeconds)
        let times = (current: timestamp(now), updated: timestamp(updated))
        let eligible = withEligibility ? "\"nodeEligible\":\(health.isEligible)," : ""
        // Both families are written in one plan, so they are always equally up to date.
        let family = "{\"lastUpdated\":\"\(times.updated)\",\"healthy\":\(health.isHealthy)}"
        let text =
            "{\"lastUpdated\":\"\(times.updated)\",\"currentTime\":\"\(times.current)\",\(eligible)"
            + "\"healthy\":\(health.isHealthy),\"status\":{\"IPv4\":\(family),\"IPv6\":\(family)}}"
        return HTTPResponse(
            status: code, contentType: "application/json", headers: [("X-Content-Type-Options", "nosniff")],
            body: Array(text.utf8))
    }
}
