/// Which connections the pods of a mesh, of a namespace or with some labels take: Istio's PeerAuthentication (l7 spec
/// 1.6).

package struct PeerAuthentication: Equatable, Sendable, Codable {
    package enum Mode: String, Hashable, Sendable, CaseIterable, Codable {
        case disable = "DISABLE"
        case permissive = "PERMISSIVE"
        case strict = "STRICT"
    }
    /// The one whose policy without a selector is for the whole mesh.
    package static let rootNamespace = "istio-system"

    package var name: ObjectName
    /// Seconds since 1970; 0: unknown. Of two that say something of the same pods the older is followed.
    package var creationTime: Int64 = 0
    /// The labels a pod must have, of those in the same namespace; empty: all are meant.
    package var selector: [String: String] = [:]
    /// nil: what a wider policy says.
    package var mode: Mode?
    /// By a pod's own ports; nil: what `mode` comes to.
    package var portModes: [UInt16: Mode?] = [:]

    package init(name: ObjectName) { self.name = name }

    package var id: ObjectID { ObjectID(.peerAuthentication, name) }
    package var isOfRootNamespace: Bool { name.namespace == Self.rootNamespace }

    /// The older first, then by name.
    package func goesBefore(_ other: PeerAuthentication) -> Bool {
        (creationTime, name) < (other.creationTime, other.name)
    }
}
