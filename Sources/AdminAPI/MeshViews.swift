/// Who is in the mesh on this node: the answer of `/mesh`.

/// What a pod has open, as the L7 proxy counts it: its answer to `tunnels`, one for each address.
package struct OpenTunnels: Codable, Sendable, Equatable {
    /// Its address; nil: of all its addresses.
    package var pod: String?
    /// Connections of other nodes, and of pods beside it, to its port 15008; and the connections in them.
    package var inbound = 0
    package var inboundStreams = 0
    /// Those that it has to others.
    package var outbound = 0
    package var outboundStreams = 0

    package init() {}

    package mutating func add(_ other: OpenTunnels) {
        inbound += other.inbound
        inboundStreams += other.inboundStreams
        outbound += other.outbound
        outboundStreams += other.outboundStreams
    }
}

package struct MeshList: Codable, Sendable, Equatable {
    /// A pod of this node.
    package struct Pod: Codable, Sendable, Equatable {
        /// `shop/web-0`
        package var name: String
        package var addresses: [String]
        package var isEnrolled: Bool
        /// Why it is in or out.
        package var reason: String
        /// What it takes in the clear: `STRICT`, `PERMISSIVE` or `DISABLE`; nil: it is not in the mesh.
        package var mode: String?
        /// The policy that says so, or `default`.
        package var modeSource: String?
        /// Ports with a mode of their own.
        package var portModes: [String: String] = [:]
        /// nil: it is not in the mesh, or has no ServiceAccount.
        package var identity: String?
        /// What keeps it from taking part.
        package var problem: String?
        /// nil: it is not in the mesh, or no proxy says so.
        package var tunnels: OpenTunnels?

        package init(name: String, addresses: [String], isEnrolled: Bool, reason: String) {
            self.name = name
            self.addresses = addresses
            self.isEnrolled = isEnrolled
            self.reason = reason
        }
    }
    /// nil: this agent takes no part in a mesh.
    package var trustDomain: String?
    /// By name.
    package var pods: [Pod]
    /// Addresses in the mesh that pods of this node reach by tunnel, wherever they are.
    package var enrolledAddresses: Int
    package var findings: [String]

    package init(trustDomain: String?, pods: [Pod], enrolledAddresses: Int, findings: [String]) {
        self.trustDomain = trustDomain
        self.pods = pods
        self.enrolledAddresses = enrolledAddresses
        self.findings = findings
    }
}
