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
    fileprivate func neighbourhood(of object: ClusterObject) -> ObjectSet {
        var parents: Set<ObjectName> = []
        var services: Set<ObjectName> = []
        switch object {
        case .route(let route): parents = Set(route.parents.map(\.service))
        case .endpointSlice(let slice): services = Set([slice.service].compactMap(\.self))
        case .service(let service):
            parents = [service.name]
            // Whoever claims one of its addresses.
            services = Set(state.services.values.lazy.filter { $0.mayConflict(with: service) }.map(\.name))
            for route in state.routes.values
            where route.backendReferences.contains(where: { $0.name == service.name }) {
                parents.formUnion(route.parents.map(\.service))
            }
        case .namespace, .node, .pod, .serviceCIDR: break
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
}

extension Service {
    fileprivate func mayConflict(with other: Service) -> Bool {
        let mine = Set(clusterIPs + externalIPs + ingress.map(\.address))
        let ports = Set(self.ports.compactMap(\.nodePort))
        return (other.clusterIPs + other.externalIPs + other.ingress.map(\.address)).contains(where: mine.contains)
            || other.ports.compactMap(\.nodePort).contains(where: ports.contains)
    }
}
