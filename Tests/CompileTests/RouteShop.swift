/// What tests of routes compile: a few services of one shop, and routes to them.
import Addressing
import Cluster
import Compile
import RouteIR

/// A cluster state to which a test adds what it needs.
struct Shop {
    var state = ClusterState()
    var compiler = RouteCompiler(node: NodeFacts(name: "node-a", zone: "z1"))
    /// This node's addresses, and what of Heddle listens there.
    var own = OwnSockets()
    private var dirty = Dirty()
    /// What the last compilation said of itself.
    private(set) var changes = RouteChanges()

    mutating func add(_ object: ClusterObject) { dirty.formUnion(state.apply(.upsert(object))) }
    mutating func remove(_ id: ObjectID) { dirty.formUnion(state.apply(.delete(id))) }
    @discardableResult mutating func compile() -> Bool {
        defer { dirty = Dirty() }
        changes = compiler.update(
            dirty.services, pods: dirty.pods, node: NodeFacts(name: "node-a", zone: "z1"), own: own, from: state)
        return changes.snapshot
    }

    mutating func addService(_ name: String, in namespace: String = "shop", ports: [Service.Port] = [http]) {
        var service = Service(name: ObjectName(namespace, name))
        let number = UInt32(state.services.count + 1)
        service.clusterIPs = [IPAddress(v4: 0x0a60_0000 + number), IPAddress(high: 0xfd, low: UInt64(number))]
        service.ports = ports
        add(.service(service))
    }
    mutating func addEndpoints(_ name: String, _ last: [UInt32], conditions: EndpointSlice.Conditions? = nil) {
        var slice = EndpointSlice(name: ObjectName("shop", name), serviceName: name, addressType: .ipv4)
        slice.ports = [.init(name: "http", port: 8080)]
        slice.endpoints = last.map {
            EndpointSlice.Endpoint(
                IPAddress(v4: 0x0a01_0000 + $0), conditions: conditions ?? [.ready, .serving], nodeName: "node-b",
                zone: "z2")
        }
        add(.endpointSlice(slice))
    }
    static let http = Service.Port(name: "http", port: 80)

    var reasons: [String] { compiler.findings.map(\.reason) }
    func service(_ name: String, port: UInt16 = 80) -> RoutedService? {
        compiler.snapshot.services[RoutedServiceID(namespace: "shop", name: name, port: port)]
    }
}

func route(
    _ name: String = "r", in namespace: String = "shop", kind: Route.Kind = .http, parent: String = "web",
    port: UInt16? = nil, age: Int64 = 0, to backends: [String] = ["v1"], edit: (inout Route.Rule) -> Void = { _ in }
) -> ClusterObject {
    var route = Route(kind: kind, name: ObjectName(namespace, name))
    route.parents = [.init(service: ObjectName("shop", parent), port: port)]
    route.creationTime = age
    var rule = Route.Rule()
    rule.backends = backends.map { .init(.init(name: ObjectName("shop", $0), port: 80)) }
    edit(&rule)
    route.rules = [rule]
    return .route(route)
}
