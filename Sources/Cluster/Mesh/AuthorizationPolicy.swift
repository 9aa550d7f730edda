/// Who may call the pods of a mesh, of a namespace, with some labels or behind a Service: Istio's AuthorizationPolicy
/// (l7 spec 1.6). What cannot be read of one is no reason to leave it out: the rest denies more for it.
package import RouteIR

package struct AuthorizationPolicy: Equatable, Sendable, Codable {
    /// What a policy is for in place of pods with some labels.
    package struct Target: Hashable, Sendable, Codable {
        package var group: String
        package var kind: String
        package var name: String

        package init(group: String, kind: String, name: String) {
            (self.group, self.kind, self.name) = (group, kind, name)
        }
        package var isService: Bool { kind == "Service" && (group.isEmpty || group == "core") }
    }
    /// What cannot be read, or is surely a mistake.
    package struct Flaw: Hashable, Sendable, Codable {
        package var field: String
        /// What becomes of it, and what to do.
        package var message: String

        package init(field: String, message: String) { (self.field, self.message) = (field, message) }
    }

    package var name: ObjectName
    /// The labels a pod must have; empty: all are meant.
    package var selector: [String: String] = [:]
    /// Empty: pods are meant, by `selector`.
    package var targets: [Target] = []
    /// Whom a CUSTOM policy would ask.
    package var provider = ""
    package var flaws: [Flaw] = []
    /// What enforcers get.
    package var access: AccessPolicy

    package init(name: ObjectName) {
        self.name = name
        access = AccessPolicy(name: name.description)
    }

    package var id: ObjectID { ObjectID(.authorizationPolicy, name) }
    /// For pods of all namespaces.
    package var isOfRootNamespace: Bool { name.namespace == PeerAuthentication.rootNamespace }
}
