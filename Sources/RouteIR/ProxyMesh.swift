/// What the proxy must know of the mesh: in which trust domain it is, and which pods of this node take part. That an
/// endpoint elsewhere does, and under which account, is said of its workload.
package import Addressing

package struct ProxyMesh: Hashable, Sendable {
    package static let tunnelPort: UInt16 = 15008

    package var trustDomain: String
    /// Others whose identities count as if they were of ours, for migration.
    package var aliases: [String]

    package init(trustDomain: String = "cluster.local", aliases: [String] = []) {
        self.trustDomain = trustDomain
        self.aliases = aliases
    }
}

/// An enrolled pod of this node: it has an identity, its connections to other enrolled pods are tunnels, and it takes
/// tunnels.
package struct MeshPod: Hashable, Sendable {
    package var namespace: String
    package var name: String
    /// Tells it from a later one of the same name.
    package var uid: String
    package var serviceAccount: String
    /// Where its application wants to hear of clients in a PROXY header.
    package var headerPorts: Set<UInt16>
    /// Names of the access policies about it, in order.
    package var policies: [String]

    package init(
        namespace: String, name: String, uid: String, serviceAccount: String, headerPorts: Set<UInt16> = [],
        policies: [String] = []
    ) {
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.serviceAccount = serviceAccount
        self.headerPorts = headerPorts
        self.policies = policies
    }
}

package struct AddressedPod: Hashable, Sendable {
    package var address: IPAddress
    package var pod: MeshPod

    package init(_ address: IPAddress, _ pod: MeshPod) {
        self.address = address
        self.pod = pod
    }
}
