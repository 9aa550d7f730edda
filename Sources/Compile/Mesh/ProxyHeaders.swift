/// Where applications want to hear of their clients in a PROXY header: Services ask for it by annotation. What is asked
/// for is a matter of the pod's port, whoever dials it and by which Service.
import Addressing
import Cluster

extension Service {
    static let proxyProtocol = "proxy-protocol"
    static let knownProxyProtocol = "v2"

    /// nil: nothing is said.
    fileprivate var proxyProtocol: String? { annotations[ServicePolicy.prefix + Self.proxyProtocol] }
}

/// What one Service says of a pod.
struct HeaderRequest: Equatable {
    let service: Service
    /// The pod's own.
    fileprivate(set) var ports: Set<UInt16>

    var isUnderstood: Bool { service.proxyProtocol == Service.knownProxyProtocol }
    /// Nobody compiles a policy for it: there are no requests that are balanced to it.
    var isHeadless: Bool { service.clusterIPs.isEmpty }
}

extension ClusterState {
    /// By any address of the pod: the application listens at all of them. Services of other namespaces say nothing of
    /// it, whatever slices somebody writes for them: an application that expects no header would take it for nonsense.
    func headerRequests(for pod: Pod) -> [HeaderRequest] {
        var requests: [ObjectName: HeaderRequest] = [:]
        for slice in pod.addresses.flatMap(slices(withEndpointAt:)) {
            guard slice.name.namespace == pod.name.namespace, let service = slice.service.flatMap({ services[$0] }),
                service.proxyProtocol != nil
            else { continue }
            let ports = slice.ports.filter { $0.transport == .tcp }.map(\.port)
            requests[service.name, default: HeaderRequest(service: service, ports: [])].ports.formUnion(ports)
        }
        return requests.sorted { $0.key < $1.key }.map(\.value)
    }
}

/// Whom a change of such a Service, or of its endpoints, concerns.
struct HeaderIndex {
    private var addresses: [ObjectName: Set<IPAddress>] = [:]

    /// Those that have or had something to do with one of the services.
    mutating func update(_ services: Set<ObjectName>, from state: borrowing ClusterState) -> Set<IPAddress> {
        var touched: Set<IPAddress> = []
        for name in services {
            let old = addresses[name]
            var new: Set<IPAddress>?
            if state.services[name]?.proxyProtocol != nil {
                new = Set(state.slices(of: name).lazy.flatMap(\.endpoints).map(\.address))
            }
            addresses[name] = new
            touched.formUnion(old ?? [])
            touched.formUnion(new ?? [])
        }
        return touched
    }
}
