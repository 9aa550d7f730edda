/// Node, Namespace, Pod and ServiceCIDR, reduced.
package import Addressing

package struct Node: Equatable, Sendable, Codable {
    package var name: String
    package var labels: [String: String] = [:]
    /// Its InternalIPs, then its ExternalIPs: the first of a family is the node's primary address (spec row 88).
    package var nodeIPs: [IPAddress] = []
    package var podCIDRs: [IPPrefix] = []
    /// Taint `ToBeDeletedByClusterAutoscaler` (spec row 144).
    package var isToBeDeleted = false
    package var hasDeletionTimestamp = false

    package init(name: String) { self.name = name }

    /// Label `topology.kubernetes.io/zone`; an empty label counts as none (spec row 62).
    package var zone: String? {
        labels["topology.kubernetes.io/zone"].flatMap { $0.isEmpty ? nil : $0 }
    }
}

package struct Namespace: Equatable, Sendable, Codable {
    package var name: String
    package var labels: [String: String] = [:]
    /// `linkerd.io/inject`, and those that begin with `heddle.io/`.
    package var annotations: [String: String] = [:]

    package init(name: String) { self.name = name }
}

extension Namespace {
    /// A snapshot of an agent before annotations has none of them.
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        labels = try fields.decode([String: String].self, forKey: .labels)
        annotations = try fields.decodeIfPresent([String: String].self, forKey: .annotations) ?? [:]
    }
}

/// What pods that are yet to be made will look like: of a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or
/// CronJob.
package struct PodTemplate: Equatable, Sendable {
    package var kind: String
    package var name: ObjectName
    package var labels: [String: String] = [:]
    package var namedPorts: [Pod.NamedPort] = []

    package init(kind: String, name: ObjectName) {
        self.kind = kind
        self.name = name
    }
}

package struct Pod: Equatable, Sendable, Codable {
    package struct NamedPort: Equatable, Sendable, Codable {
        package var name: String
        package var transport: TransportProtocol
        package var port: UInt16

        package init(name: String, transport: TransportProtocol, port: UInt16) {
            self.name = name
            self.transport = transport
            self.port = port
        }
    }

    package var name: ObjectName
    /// For those who must tell it from a later one of the same name; nil: not asked for.
    package var uid: String?
    package var labels: [String: String] = [:]
    package var addresses: [IPAddress] = []
    package var nodeName: String?
    package var isReady = true
    package var isTerminating = false
    /// Phase Succeeded or Failed: it will never serve again.
    package var isFinished = false
    package var namedPorts: [NamedPort] = []
    /// Where kubelet asks how the pod is, or tells it something: for its probes and lifecycle hooks.
    package var probePorts: Set<UInt16> = []
    /// Of the ports of its containers, named or not: those of them that are not TCP.
    package var datagramTransports: Set<TransportProtocol> = []
    /// Uses the node's own addresses, so an address does not tell it from others.
    package var isOnHostNetwork = false
    package var serviceAccount = "default"
    /// What controls it: kind and name.
    package var ownerKind: String?
    package var ownerName: String?

    package init(name: ObjectName) { self.name = name }
}

extension Pod {
    /// A snapshot of an agent before the mesh has no ports of these.
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(ObjectName.self, forKey: .name)
        uid = try fields.decodeIfPresent(String.self, forKey: .uid)
        labels = try fields.decode([String: String].self, forKey: .labels)
        addresses = try fields.decode([IPAddress].self, forKey: .addresses)
        nodeName = try fields.decodeIfPresent(String.self, forKey: .nodeName)
        isReady = try fields.decode(Bool.self, forKey: .isReady)
        isTerminating = try fields.decode(Bool.self, forKey: .isTerminating)
        isFinished = try fields.decode(Bool.self, forKey: .isFinished)
        namedPorts = try fields.decode([NamedPort].self, forKey: .namedPorts)
        probePorts = try fields.decodeIfPresent(Set<UInt16>.self, forKey: .probePorts) ?? []
        datagramTransports =
            try fields.decodeIfPresent(Set<TransportProtocol>.self, forKey: .datagramTransports) ?? []
        isOnHostNetwork = try fields.decode(Bool.self, forKey: .isOnHostNetwork)
        serviceAccount = try fields.decode(String.self, forKey: .serviceAccount)
        ownerKind = try fields.decodeIfPresent(String.self, forKey: .ownerKind)
        ownerName = try fields.decodeIfPresent(String.self, forKey: .ownerName)
    }
}

package struct ServiceCIDR: Equatable, Sendable, Codable {
    package var name: String
    package var cidrs: [IPPrefix]

    package init(name: String, cidrs: [IPPrefix]) {
        self.name = name
        self.cidrs = cidrs
    }
}
