/// How a watch of the API server is doing, as the admin socket tells it.
package import AdminAPI
package import KubernetesClient

extension AgentStatus.Watch {
    package init(_ status: WatchStatus) {
        self.init(resource: status.resource, state: status.state.rawValue)
        message = status.message
        resourceVersion = status.resourceVersion
        objects = status.objects
        refusedObjects = status.refusedObjects
        errors = status.errors
        reconnects = status.reconnects
        heardSecondsAgo = status.age.map { $0 / .seconds(1) }
    }
}
