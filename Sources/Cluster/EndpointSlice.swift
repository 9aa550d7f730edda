/// The parts of an EndpointSlice that decide what a node does.
package import Addressing

package struct EndpointSlice: Equatable, Sendable, Codable {
    package enum AddressType: String, CaseIterable, Sendable, Codable {
        case ipv4 = "IPv4"
        case ipv6 = "IPv6"
        case fqdn = "FQDN"

        package var family: AddressFamily? {
            switch self {
            case .ipv4: .ipv4
            case .ipv6: .ipv6
            case .fqdn: nil
            }
        }
    }
    package struct Port: Equatable, Sendable, Codable {
        package var name: String
        package var transport: TransportProtocol
        package var port: UInt16

        package init(name: String = "", transport: TransportProtocol = .tcp, port: UInt16) {
            self.name = name
            self.transport = transport
            self.port = port
        }
    }
    /// ready, serving and terminating, after the defaults of spec row 50; and what is as small.
    package struct Conditions: OptionSet, Hashable, Sendable, Codable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        package static let ready = Conditions(rawValue: 1)
        package static let serving = Conditions(rawValue: 2)
        package static let terminating = Conditions(rawValue: 4)
        /// No condition: `targetRef` names a Pod. Of a hundred thousand endpoints a bit is kept, and no name.
        package static let ofPod = Conditions(rawValue: 8)

        /// Unset means: ready, serving (even if ready is false), not terminating (spec row 50).
        package init(ready: Bool?, serving: Bool?, terminating: Bool?) {
            self = []
            if ready ?? true { insert(.ready) }
            if serving ?? true { insert(.serving) }
            if terminating ?? false { insert(.terminating) }
        }
    }
    package struct Endpoint: Equatable, Sendable, Codable {
        /// `addresses[0]`, the only one used (spec row 47).
        package var address: IPAddress
        package var conditions: Conditions
        package var nodeName: String?
        package var zone: String?
        /// Hints; nil when the endpoint has none of that kind.
        package var forZones: [String]?
        package var forNodes: [String]?

        package init(
            _ address: IPAddress, conditions: Conditions = [.ready, .serving], nodeName: String? = nil,
            zone: String? = nil, forZones: [String]? = nil, forNodes: [String]? = nil
        ) {
            self.address = address
            self.conditions = conditions
            self.nodeName = nodeName
            self.zone = zone
            self.forZones = forZones
            self.forNodes = forNodes
        }
    }

    package var name: ObjectName
    /// Label `kubernetes.io/service-name`; nil or empty: the slice belongs to nobody (spec row 44).
    package var serviceName: String?
    package var addressType: AddressType
    /// Ports without a name or number are left out on decoding (spec row 48).
    package var ports: [Port] = []
    package var endpoints: [Endpoint] = []
    package var proxyName: String?
    package var hasHeadlessLabel = false
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`, seconds since 1970.
    package var lastChangeTriggerTime: Double?

    package init(name: ObjectName, serviceName: String?, addressType: AddressType) {
        self.name = name
        self.serviceName = serviceName
        self.addressType = addressType
    }

    /// The service it belongs to, in its own namespace.
    package var service: ObjectName? {
        guard let serviceName, !serviceName.isEmpty else { return nil }
        return ObjectName(name.namespace, serviceName)
    }
}
