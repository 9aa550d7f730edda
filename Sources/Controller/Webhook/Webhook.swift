/// The door at which API servers ask before they take an object: who answers there, and by which certificate.
import AdminServer
import KubernetesClient
import Logging

final class Webhook: Sendable {
    let desk: AdmissionDesk
    let keeper: WebhookKeeper
    /// Handshakes cost time, and whoever reaches the door may ask for them: probes are not answered on this loop.
    let loop = ServerLoop()

    init(
        _ configuration: ControllerConfiguration, _ writer: ObjectWriter, _ leadership: Leadership,
        _ metrics: ControllerMetrics
    ) {
        desk = AdmissionDesk(proxyName: configuration.serviceProxyName, metrics)
        keeper = WebhookKeeper(
            writer, leadership, namespace: configuration.leaseNamespace, names: configuration.serviceNames)
    }

    /// Until the task is cancelled.
    func run(_ view: @escaping @Sendable () -> ClusterView, _ log: Logger) async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.desk.run(view) { log.notice("\($0)") } }
            group.addTask { await self.keeper.run(tell: { log.warning("\($0)") }, note: { log.notice("\($0)") }) }
        }
    }
}
