/// `/metrics` and `/proxyMode` (spec row 147).
import AdminAPI
import AdminServer
import Telemetry

struct MetricsEndpoint: Sendable {
    let metrics: AgentMetrics
    let board: StatusBoard
    let health: HealthEndpoint

    @Sendable func respond(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        switch request.path {
        case "/metrics":
            reply(
                HTTPResponse(contentType: MetricRegistry.contentType, body: Array(metrics.registry.render().utf8)))
        case "/proxyMode":
            let name = board.now.status.dataplane.name
            reply(name.isEmpty ? .text("the dataplane is not chosen yet\n", status: 503) : .text(name))
        default: health.respond(request, reply)
        }
    }
}
