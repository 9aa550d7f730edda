/// What the status of every route should say, and which of them do not say it. A change costs the routes of the
/// services that it touches, as parents or as backends (tested).
package import Cluster
package import Compile

package struct RouteStatusBook: Sendable {
    /// Services and routes; nothing else decides a status.
    package private(set) var state = ClusterState()
    /// To be written now.
    package private(set) var outstanding: Set<ObjectID> = []
    /// Routes that all changes together judged: a change must cost the change.
    package private(set) var judged = 0
    private let options: CompilerOptions
    private var records: [ObjectID: RouteRecord] = [:]
    private var services: [ObjectName: RoutesOfService] = [:]
    private var users = BackendUsers()
    private var isSynced = false

    package init(options: CompilerOptions = CompilerOptions()) { self.options = options }

    /// Takes changes in; the routes of which something must be written now that they were touched.
    @discardableResult package mutating func apply(_ changes: [Change]) -> Set<ObjectID> {
        var dirty: Set<ObjectName> = []
        var touched: Set<ObjectID> = []
        for change in changes {
            switch change {
            case .upsert(.service): dirty.formUnion(state.apply(change).services)
            case .upsert(.route(var route)):
                if records.updateValue(route.record ?? RouteRecord(), forKey: route.id) != route.record {
                    touched.insert(route.id)
                }
                // A status is no change of what is compiled.
                route.record = nil
                dirty.formUnion(state.apply(.upsert(.route(route))).services)
            case .delete(let id) where id.kind == .httpRoute || id.kind == .grpcRoute:
                records[id] = nil
                touched.insert(id)
                dirty.formUnion(state.apply(change).services)
            case .delete(let id) where id.kind == .service: dirty.formUnion(state.apply(change).services)
            default: break
            }
        }
        guard isSynced else { return [] }
        return update(dirty, touched)
    }

    /// Everything that existed has been applied. Before, a Service that is not known may only not have come yet.
    @discardableResult package mutating func markSynced() -> Set<ObjectID> {
        guard !isSynced else { return outstanding }
        isSynced = true
        return update(state.routedServices, Set(records.keys))
    }

    private mutating func update(_ dirty: Set<ObjectName>, _ routes: Set<ObjectID>) -> Set<ObjectID> {
        var touched = routes
        for name in dirty.union(users.affected(by: dirty, state.services)) {
            let old = services[name] ?? RoutesOfService()
            let new = state.routes(of: name).isEmpty ? RoutesOfService() : judge(name, state, options)
            judged += new.verdicts.count
            users.replace(old.named, with: new.named, of: name, state.services)
            services[name] = new == RoutesOfService() ? nil : new
            for (id, verdict) in new.verdicts where old.verdicts[id] != verdict { touched.insert(id) }
            for id in old.verdicts.keys where new.verdicts[id] == nil { touched.insert(id) }
        }
        outstanding.subtract(touched)
        let differ = touched.filter { write(for: $0, now: 0) != nil }
        outstanding.formUnion(differ)
        return differ
    }

    /// What is wrong with routes, and with the annotations of services that they use. A walk over everything, for those
    /// who ask: a change costs the change.
    package var findings: [Finding] {
        guard isSynced else { return [] }
        var used: Set<ObjectName> = []
        let ofRoutes = state.routedServices.sorted().flatMap { name -> [Finding] in
            guard let service = state.services[name], options.handles(service) else {
                return findingsWithout(parent: name, of: state.routes(of: name))
            }
            guard let routes = services[name] else { return [] }
            if routes.isRouted { used.formUnion(routes.named.union([name])) }
            return routes.findings
        }
        return ofRoutes + used.sorted().flatMap { state.services[$0].map(policyFindings) ?? [] }
    }

    /// What to write to the status of a route at `now` (seconds since 1970); nil: nothing.
    package func write(for id: ObjectID, now: Int) -> RouteStatusWrite? {
        guard isSynced, let route = state.routes[id], let record = records[id], !record.resourceVersion.isEmpty else {
            return nil
        }
        return wanted(route, record).write(id, record, now: now)
    }

    /// A parent that does not exist, or is not ours, gets no entry (row 51).
    private func wanted(_ route: Route, _ record: RouteRecord) -> WantedStatus {
        var status = WantedStatus()
        for (index, parent) in route.parents.enumerated() {
            guard let verdict = services[parent.service]?.verdicts[route.id] else { continue }
            let written = WrittenParent(
                parent,
                namespace: record.parentNamespaces.indices.contains(index) ? record.parentNamespaces[index] : nil)
            guard !status.entries.contains(where: { $0.parent == written }) else { continue }
            status.entries.append(
                (written, conditions(index, of: parent.service, ruleCount: route.rules.count, verdict)))
        }
        return status
    }
}
