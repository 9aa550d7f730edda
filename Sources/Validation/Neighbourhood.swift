/// One object against a cluster: what it is judged by is what it names and what names it, not the whole.
package import Cluster

/// What is wrong with the object, and what its coming makes wrong elsewhere.
package func judge(_ object: ClusterObject, against set: ObjectSet) -> Report {
    let near = set.neighbourhood(of: object)
    var after = near
    after.add(object)
    let before = Set(judge(near).judgements)
    var report = judge(after)
    report.judgements.removeAll { $0.object != object.id && before.contains($0) }
    return report
}

extension ObjectSet {
    func neighbourhood(of object: ClusterObject) -> ObjectSet {
        /// Services all of whose routes matter: who is asked first, and on which port.
        var parents: Set<ObjectName> = []
        var services: Set<ObjectName> = []
        switch object {
        case .route(let route): parents = Set(route.parents.map(\.service))
        case .endpointSlice(let slice): parents = slice.service.map { parentsOfUsers($0) } ?? []
        case .service(let service):
            parents = parentsOfUsers(service.name)
            services = rivals(of: service)
        case .namespace, .node, .pod, .serviceCIDR, .peerAuthentication, .authorizationPolicy: break
        }
        var routes = Set(parents.flatMap { state.routes(of: $0) }.map(\.id))
        routes.insert(object.id)
        services.formUnion(parents)
        let known = routes.compactMap { state.routes[$0] }
        let own: [Route] = if case .route(let route) = object { [route] } else { [] }
        for route in known + own {
            services.formUnion(route.parents.map(\.service) + route.backendReferences.map(\.name))
        }
        var result = copyOfPods()
        for name in services {
            if let service = state.services[name] { result.add(.service(service)) }
            for slice in state.slices(of: name) { result.add(.endpointSlice(slice)) }
        }
        for route in known { result.add(.route(route)) }
        return result
    }

    /// The Service, and those whose routes send to it.
    private func parentsOfUsers(_ service: ObjectName) -> Set<ObjectName> {
        let users = routes(naming: service).compactMap { state.routes[$0] }
        return Set(users.flatMap(\.parents).map(\.service)).union([service])
    }
}
