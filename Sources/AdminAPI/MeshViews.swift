/// Who is in the mesh on this node: the answer of `/mesh`.

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
