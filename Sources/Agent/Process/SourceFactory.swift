/// Opens the source of cluster objects that was asked for.
import AdminAPI
import Daemon
import KubernetesClient
import Manifests
import NodeControl

enum SourceFactory {
    static func open(_ configuration: AgentConfiguration) throws -> AgentSource {
        switch configuration.source {
        case .manifests(let directory):
            do throws(SourceError) {
                let source = try ManifestsSource(
                    directory: directory, keepsPodIdentities: configuration.nodeSettings.mesh != nil)
                return AgentSource(name: "manifests:\(directory)", events: source.events, owner: source)
            } catch {
                throw StartupError("\(error)")
            }
        case .kubernetes(let kubeconfig): return try kubernetes(kubeconfig, configuration)
        case nil: throw StartupError("no source of services; pass --source kubernetes or --source manifests:DIR")
        }
    }

    private static func kubernetes(
        _ kubeconfig: String?, _ configuration: AgentConfiguration
    ) throws(StartupError) -> AgentSource {
        let access: ClusterAccess
        do throws(AccessError) {
            access =
                if let kubeconfig {
                    try ClusterAccess.kubeconfig(path: kubeconfig)
                } else {
                    try ClusterAccess.inCluster(environment: AgentProgram.environment)
                }
        } catch {
            throw StartupError(error.description)
        }
        var options = KubernetesSource.Configuration(access: access, nodeName: configuration.nodeName)
        options.serviceProxyName = configuration.serviceProxyName
        options.followsMesh = configuration.nodeSettings.mesh != nil
        let source = KubernetesSource(configuration: options)
        return AgentSource(
            name: source.name, events: source.events, owner: source,
            watches: { source.status.map(AgentStatus.Watch.init) + droppedEvents(source) },
            record: { source.record($0) }, follow: { source.follow($0, round: $1) }
        ) { await source.run() }
    }
}

/// Events that owners of objects never saw, beside the watches: without a line the status would not tell.
private func droppedEvents(_ source: KubernetesSource) -> [AgentStatus.Watch] {
    let dropped = source.droppedEvents
    guard dropped.count > 0 else { return [] }
    var line = AgentStatus.Watch(resource: "events", state: "waiting")
    line.errors = dropped.count
    line.message =
        dropped.problem
        ?? "\(dropped.count) events could not be delivered; the problems and findings below say the same"
    return [line]
}
