/// The parts of a Kubernetes Service that decide what a node does.
package import Addressing

package struct Service: Equatable, Sendable, Codable {
    package enum ServiceType: String, CaseIterable, Sendable, Codable {
        case clusterIP = "ClusterIP"
        case nodePort = "NodePort"
        case loadBalancer = "LoadBalancer"
        case externalName = "ExternalName"
    }
    /// internalTrafficPolicy and externalTrafficPolicy.
    package enum TrafficPolicy: String, CaseIterable, Sendable, Codable {
        case cluster = "Cluster"
        case local = "Local"
    }
    package struct Port: Equatable, Sendable, Codable {
        /// Empty for the single unnamed port (spec row 20).
        package var name: String
        package var transport: TransportProtocol
        package var port: UInt16
        /// nil: no node port.
        package var nodePort: UInt16?
        package var appProtocol: String?
        /// Only used where endpoints are derived from Pods: the proxy itself never reads it (spec row 19).
        package var targetPort: TargetPort

        package init(
            name: String = "", transport: TransportProtocol = .tcp, port: UInt16, nodePort: UInt16? = nil,
            appProtocol: String? = nil, targetPort: TargetPort? = nil
        ) {
            self.name = name
            self.transport = transport
            self.port = port
            self.nodePort = nodePort
            self.appProtocol = appProtocol
            self.targetPort = targetPort ?? .number(port)
        }
    }
    package enum TargetPort: Equatable, Sendable, Codable {
        case number(UInt16)
        case name(String)
    }
    package struct Ingress: Equatable, Sendable, Codable {
        package var address: IPAddress
        /// `ipMode: Proxy`: packets must reach the real load balancer, so the address is not ours (spec row 12).
        package var isProxyMode: Bool

        package init(_ address: IPAddress, isProxyMode: Bool = false) {
            self.address = address
            self.isProxyMode = isProxyMode
        }
    }

    package var name: ObjectName
    package var type: ServiceType = .clusterIP
    /// Empty for headless services and those without an allocated address.
    package var clusterIPs: [IPAddress] = []
    package var ports: [Port] = []
    package var selector: [String: String] = [:]
    package var externalIPs: [IPAddress] = []
    package var ingress: [Ingress] = []
    package var sourceRanges: [IPPrefix] = []
    /// sessionAffinity ClientIP: seconds a client sticks to its endpoint after its last connection; nil: None.
    package var affinitySeconds: UInt32?
    package var internalTrafficPolicy: TrafficPolicy = .cluster
    package var externalTrafficPolicy: TrafficPolicy = .cluster
    package var healthCheckNodePort: UInt16?
    package var publishNotReadyAddresses = false
    /// Label `service.kubernetes.io/service-proxy-name` (spec row 40).
    package var proxyName: String?
    /// Label `service.kubernetes.io/headless`, whatever its value (spec row 41).
    package var hasHeadlessLabel = false
    /// Annotations that begin with `heddle.io/`.
    package var annotations: [String: String] = [:]
    /// Seconds since 1970; decides between two services that claim one address (spec row 17). 0 when unknown.
    package var creationTime: Int64 = 0

    package init(name: ObjectName) { self.name = name }
}
