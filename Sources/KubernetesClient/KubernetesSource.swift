/// An API server as a source of cluster objects: everything there is at the start, then every change as it happens,
/// through any trouble the server or the network has. What was told stays told: trouble never takes objects away.
package import Cluster

package final class KubernetesSource: Sendable {
    package struct Configuration: Sendable {
        package var access: ClusterAccess
        package var role: Role
        /// Follow the Services with this label `service.kubernetes.io/service-proxy-name` instead of those without it.
        package var serviceProxyName: String?
        package var followsNamespaces = false
        /// The agent follows what decides who is in the mesh, and asks pods who they are.
        package var followsMesh = false
        /// The controller follows these pods; nil: none.
        package var agents: AgentPods?
        package var timing = Timing()

        /// The controller writes the status of routes.
        var decoder: ObjectDecoder {
            var options = ObjectDecoder.Options()
            options.keepsRouteRecords = role == .controller
            options.keepsPodIdentities = role == .pods || followsMesh
            return ObjectDecoder(options: options)
        }

        package init(access: ClusterAccess, nodeName: String) { self.init(access: access, role: .node(nodeName)) }
        package init(access: ClusterAccess, role: Role) {
            self.access = access
            self.role = role
        }
    }
    package struct AgentPods: Sendable {
        package let namespace: String
        /// Of labels.
        package let selector: String

        package init(namespace: String, selector: String) { (self.namespace, self.selector) = (namespace, selector) }
    }
    /// For whom the source follows the cluster, which decides the kinds.
    package enum Role: Equatable, Sendable {
        /// The agent of the node of this name: the only Node followed.
        case node(String)
        /// The controller: what routes are judged by, and nothing of nodes and pods, which are many and change much.
        case controller
        /// The controller's certificate authority: every pod that has a node, and nothing else.
        case pods

        /// Empty: of no node.
        var nodeName: String {
            if case .node(let name) = self { name } else { "" }
        }
        /// Whom Events and refusals name.
        var program: String {
            if case .node = self { "agent" } else { "controller" }
        }
    }
    package struct Timing: Sendable {
        /// To a connection.
        package var connect = Duration.seconds(10)
        /// From a request to the beginning of its answer; a busy server lets lists wait up to a minute.
        package var answer = Duration.seconds(90)
        /// A watch that says nothing for so long is dead: servers send a bookmark every minute.
        package var silence = Duration.seconds(150)
        /// Between an empty list that is not believed and the next one.
        package var doubt = Duration.seconds(15)
        /// Between two events for objects, once ten were sent.
        package var event = Duration.seconds(2)
        /// How long optional kinds may hold up the first sync once all others are there (spec row 177).
        package var optional = Duration.seconds(5)

        /// After failures.
        var backoff = Backoff()

        package init() {}
    }

    /// What the source tells, in order, for one consumer. Begins with `run`, ends with `stop` or the end of `run`.
    package let events: AsyncStream<SourceEvent>

    private let configuration: Configuration
    private let resources: [WatchedResource]
    private let mailbox: EventMailbox
    private let board: StatusBoard
    private let stopSignal = StopSignal()
    private let recorder: EventRecorder
    private let followsNodePods = Switch()
    private let followsOtherPods = Switch()

    package init(configuration: Configuration) {
        self.configuration = configuration
        var resources = Self.resources(configuration.role, proxyName: configuration.serviceProxyName)
        if configuration.followsNamespaces { resources.append(.namespaces) }
        if configuration.followsMesh { resources += Self.meshResources.map { $0.deciding(true) } }
        if let agents = configuration.agents { resources.append(.pods(of: agents)) }
        self.resources = resources
        let mailbox = EventMailbox(awaiting: Set(resources.map(\.kind)))
        self.mailbox = mailbox
        board = StatusBoard(resources)
        recorder = EventRecorder(
            program: "heddle-\(configuration.role.program)", nodeName: configuration.role.nodeName,
            pause: configuration.timing.event, backoff: configuration.timing.backoff)
        events = AsyncStream(unfolding: { await mailbox.next() }, onCancel: { mailbox.finish() })
    }

    /// What is followed from the start: the roles in deploy/ allow just this.
    static func resources(_ role: Role, proxyName: String?) -> [WatchedResource] {
        let services: [WatchedResource] = [.services(proxyName: proxyName), .endpointSlices(proxyName: proxyName)]
        let routes: [WatchedResource] = [.httpRoutes, .grpcRoutes]
        return switch role {
        case .node(let name): services + [.node(named: name), .serviceCIDRs] + routes
        case .controller: services + [.namespaces] + routes
        case .pods: [.placedPods]
        }
    }

    /// Followed only by agents of a mesh.
    static let meshResources: [WatchedResource] = [.namespaces, .peerAuthentications, .authorizationPolicies]

    /// The API server's URL.
    package var name: String { configuration.access.serverName }
    /// One entry for each kind that is followed.
    package var status: [WatchStatus] { board.snapshot }

    /// Tells whoever owns the object. Does not wait; the same thing is told once.
    package func record(_ event: ObjectEvent) { recorder.record(event) }
    /// Events that could not be delivered, and why if that can be mended.
    package var droppedEvents: (count: Int, problem: String?) { (recorder.dropped, recorder.problem) }

    /// Follows the API server until `stop` or until the task is cancelled.
    package func run() async {
        let transport = Transport(configuration.access, timing: configuration.timing)
        await withTaskGroup { group in
            for resource in resources {
                let (mailbox, board, configuration, recorder) = (mailbox, board, configuration, recorder)
                group.addTask {
                    var loop = WatchLoop(
                        resource, transport: transport, mailbox: mailbox, board: board, configuration: configuration,
                        recorder: recorder)
                    await loop.run()
                }
            }
            group.addTask { await self.excuseOptionalKinds() }
            group.addTask { await self.recorder.run(transport, self.resources) }
            if case .node(let node) = configuration.role {
                let (own, others) = (WatchedResource.pods(of: node), WatchedResource.podsElsewhere(than: node))
                for (pods, isWanted) in [(own, followsNodePods), (others, followsOtherPods)] {
                    let pods = pods.deciding(configuration.followsMesh)
                    group.addTask { await self.follow(pods, while: isWanted, transport) }
                }
            }
            await stopSignal.wait()
            group.cancelAll()
        }
        mailbox.finish()
        transport.shutdown()
    }

    /// Follows these pods from now on; those that are not asked for any more are told as gone. `round` grows each time
    /// pods begin to be followed, and is told with `podsKnown`.
    package func follow(_ pods: PodScope, round: Int) {
        if pods == .none { mailbox.followPods(round: nil) }
        // Whom a pod of the mesh reaches by tunnel is not half known: the rest would be sent to in the clear.
        if configuration.followsMesh { mailbox.awaitOtherPods(pods == .all) }
        followsNodePods.set(pods >= .ofNode ? round : nil)
        followsOtherPods.set(pods == .all ? round : nil)
    }

    private func follow(_ resource: WatchedResource, while isWanted: Switch, _ transport: Transport) async {
        while true {
            guard let round = await isWanted.wait(until: { $0 != nil }), !Task.isCancelled else { return }
            // Whoever tells of an earlier round has ended.
            if resource.completes == .pod { mailbox.followPods(round: round) }
            board.add(resource)
            let loop = WatchLoop(
                resource, transport: transport, mailbox: mailbox, board: board, configuration: configuration,
                recorder: recorder)
            let told = await withTaskGroup(of: Set<ObjectName>.self) { group in
                group.addTask {
                    var loop = loop
                    await loop.run()
                    return loop.table.names
                }
                _ = await isWanted.wait { $0 != round }
                group.cancelAll()
                return await group.next() ?? []
            }
            // At the end of the source what was told stays told.
            guard !Task.isCancelled else { return }
            board.remove(resource)
            mailbox.report([], for: resource.title)
            await mailbox.send(told.map { .delete(ObjectID(resource.kind, $0)) })
        }
    }

    /// Ends `run` and the events.
    package func stop() { stopSignal.send() }

    /// A kind that the node can do without must not hold up the first sync when its API answers slowly. What decides
    /// the mesh is none of them: pods would be taken out of it, and STRICT ones opened. The controller can do without
    /// none: what it does not know yet it must not write down as missing.
    private func excuseOptionalKinds() async {
        guard configuration.role != .controller else { return }
        let optional = Set(resources.filter(\.isExcusable).map(\.kind))
        await mailbox.completeness(but: optional)
        do { try await Task.sleep(for: configuration.timing.optional) } catch { return }
        for kind in optional { await mailbox.send([], completing: kind) }
    }
}
