/// What tests of the mesh compile: pods of two nodes, a few services, and all compilers in the agent's order.
import Addressing
import Cluster
import Compile
import DataplaneIR
import RouteIR

struct MeshTown {
    static let node = "node-a"
    var state = ClusterState(meshNode: node)
    var mesh = MeshCompiler(ProxyMesh(trustDomain: "cluster.local"))
    var compiler: Compiler
    var routes = RouteCompiler(node: NodeFacts(name: node))
    private var dirty = Dirty()
    private(set) var findings: [Finding] = []
    var arePodsKnown = true

    init(proxy: CompilerOptions.L7Proxy = .up) {
        var options = CompilerOptions()
        options.proxy = proxy
        compiler = Compiler(node: NodeFacts(name: Self.node), options: options)
    }

    mutating func add(_ objects: ClusterObject...) { apply(objects.map { .upsert($0) }) }
    mutating func remove(_ kind: ObjectKind, _ namespace: String, _ name: String) {
        apply([.delete(ObjectID(kind, ObjectName(namespace, name)))])
    }
    mutating func apply(_ changes: [Change]) {
        for change in changes { dirty.formUnion(state.apply(change)) }
    }

    mutating func compile() {
        var dirty = dirty
        self.dirty = Dirty()
        let changes = mesh.update(
            dirty.pods, policies: dirty.policies, services: dirty.services, arePodsKnown: arePodsKnown, from: state)
        findings = changes.newFindings
        compiler.setReach(mesh.view.reach)
        dirty.pods.formUnion(changes.reach)
        dirty.services.formUnion(state.services(withEndpointsAt: changes.reach))
        _ = routes.update(
            dirty.services, pods: dirty.pods, node: NodeFacts(name: Self.node), own: OwnSockets(), mesh: mesh.view,
            from: state)
        _ = compiler.update(dirty.services, from: state)
    }

    /// The same state, compiled from nothing.
    var fromScratch: MeshTown {
        var other = MeshTown(proxy: compiler.options.proxy)
        other.apply(
            state.objects.map { .upsert($0) } + state.namespaces.values.map { .upsert(.namespace($0)) } + pods)
        other.compile()
        return other
    }
    var pods: [Change] = []

    func service(_ name: String, port: UInt16 = 80) -> RoutedService? {
        routes.snapshot.services[RoutedServiceID(namespace: "shop", name: name, port: port)]
    }
    func action(_ name: String, portName: String = "tcp") -> Frontend.Action? {
        compiler.programs[
            ServicePortID(namespace: "shop", service: name, portName: portName, transport: .tcp, family: .ipv4)]?
            .frontends.first { $0.kind == .clusterIP }?.action
    }
}

func address(_ number: UInt32) -> IPAddress { IPAddress(v4: 0x0a01_0000 + number) }

func namespace(_ name: String = "shop", _ labels: [String: String] = [:]) -> ClusterObject {
    var namespace = Namespace(name: name)
    namespace.labels = labels
    return .namespace(namespace)
}

func pod(
    _ name: String, at number: UInt32, in namespace: String = "shop", on node: String = MeshTown.node,
    _ labels: [String: String] = [:], edit: (inout Pod) -> Void = { _ in }
) -> ClusterObject {
    var pod = Pod(name: ObjectName(namespace, name))
    (pod.addresses, pod.nodeName, pod.labels, pod.uid) = ([address(number)], node, labels, "uid-\(name)")
    pod.serviceAccount = "\(name)-account"
    edit(&pod)
    return .pod(pod)
}

func service(_ name: String, _ number: UInt32, ports: [Service.Port] = [.init(name: "tcp", port: 80)]) -> ClusterObject
{
    var service = Service(name: ObjectName("shop", name))
    service.clusterIPs = [IPAddress(v4: 0x0a60_0000 + number)]
    service.ports = ports
    return .service(service)
}

func endpoints(
    _ service: String, _ numbers: [UInt32], portName: String = "tcp",
    conditions: EndpointSlice.Conditions = [.ready, .serving]
) -> ClusterObject {
    var slice = EndpointSlice(name: ObjectName("shop", service), serviceName: service, addressType: .ipv4)
    slice.ports = [.init(name: portName, port: 8080)]
    slice.endpoints = numbers.map { .init(address($0), conditions: conditions, nodeName: "node-b") }
    return .endpointSlice(slice)
}
