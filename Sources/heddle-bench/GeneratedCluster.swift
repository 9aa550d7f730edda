/// Services and slices by number: the same cluster in every run and in every dataplane.
import Addressing
import Cluster

struct GeneratedCluster {
    let services: Int
    let endpoints: Int
    static let port: UInt16 = 80

    static func clusterIP(_ number: Int) -> IPAddress { IPAddress(v4: 0x0a60_0000 + UInt32(number) + 1) }
    /// Endpoint addresses repeat over 10.128.0.0/10, as pod addresses of a real cluster do not, but no service has
    /// one twice.
    private func endpoint(_ service: Int, _ index: Int) -> IPAddress {
        IPAddress(v4: 0x0a80_0000 + UInt32((service * endpoints + index) % 4_000_000) + 1)
    }

    func service(_ number: Int) -> Service {
        var service = Service(name: ObjectName("bench", "svc-\(number)"))
        service.clusterIPs = [Self.clusterIP(number)]
        service.ports = [Service.Port(name: "http", port: Self.port, targetPort: .number(8080))]
        return service
    }
    /// `edit` replaces the last endpoint: a pod that was rescheduled.
    func slice(_ number: Int, edit: Int = 0) -> EndpointSlice {
        var slice = EndpointSlice(
            name: ObjectName("bench", "svc-\(number)-1"), serviceName: "svc-\(number)", addressType: .ipv4)
        slice.ports = [EndpointSlice.Port(name: "http", port: 8080)]
        slice.endpoints = (0..<endpoints).map {
            let replaced = edit > 0 && $0 == endpoints - 1
            return EndpointSlice.Endpoint(
                replaced ? IPAddress(v4: 0x0ac0_0000 + UInt32(edit)) : endpoint(number, $0), nodeName: "node-\($0 % 50)"
            )
        }
        return slice
    }
    var changes: [Change] {
        (0..<services).flatMap { [.upsert(.service(service($0))), .upsert(.endpointSlice(slice($0)))] }
    }
}
