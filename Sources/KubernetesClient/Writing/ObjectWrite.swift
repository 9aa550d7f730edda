/// One object of an API server, and one change of it.

package struct ObjectAddress: Hashable, Sendable, CustomStringConvertible {
    package var group: String
    package var version: String
    /// `httproutes`: as in roles.
    package var plural: String
    package var kind: String
    package var namespace: String
    /// Empty: the collection.
    package var name: String

    package init(
        group: String, version: String = "v1", plural: String, kind: String, namespace: String = "", name: String
    ) {
        self.group = group
        self.version = version
        self.plural = plural
        self.kind = kind
        self.namespace = namespace
        self.name = name
    }
    package static func lease(namespace: String, name: String) -> ObjectAddress {
        ObjectAddress(
            group: "coordination.k8s.io", plural: "leases", kind: "Lease", namespace: namespace, name: name)
    }

    package var apiVersion: String { group.isEmpty ? version : "\(group)/\(version)" }
    package var collectionPath: String {
        (group.isEmpty ? "/api/" : "/apis/") + apiVersion + (namespace.isEmpty ? "" : "/namespaces/\(namespace)")
            + "/\(plural)"
    }
    package var path: String { name.isEmpty ? collectionPath : "\(collectionPath)/\(name)" }
    package var description: String { "\(kind) \(namespace.isEmpty ? "" : namespace + "/")\(name)" }
}

package struct ObjectWrite: Equatable, Sendable {
    package enum Verb: Equatable, Sendable {
        case create
        case replace
        /// JSON merge patch (RFC 7396): lists are replaced as a whole.
        case patch
        /// Server-side apply; `force` takes fields from other managers.
        case apply(manager: String, force: Bool)
        case delete
    }
    package enum Part: String, Sendable {
        case object = ""
        case status
    }
    package var verb: Verb
    package var object: ObjectAddress
    package var part: Part
    /// The object must still have this version.
    package var resourceVersion: String?
    /// More members of `metadata`: `"labels":{}`.
    package var metadata: String
    /// Members beside `metadata`: `"status":{}`.
    package var fields: String

    package init(
        _ verb: Verb, _ object: ObjectAddress, _ part: Part = .object, resourceVersion: String? = nil,
        metadata: String = "", fields: String = ""
    ) {
        self.verb = verb
        self.object = object
        self.part = part
        self.resourceVersion = resourceVersion
        self.metadata = metadata
        self.fields = fields
    }

    var path: String {
        let path = verb == .create ? object.collectionPath : object.path
        return part == .status ? path + "/status" : path
    }
    /// As in roles.
    var verbName: String {
        switch verb {
        case .create: "create"
        case .replace: "update"
        case .patch, .apply: "patch"
        case .delete: "delete"
        }
    }
    var json: String {
        let version = resourceVersion.map { #""resourceVersion":\#(quoted($0))"# }
        if verb == .delete {
            let preconditions = version.map { #","preconditions":{\#($0)}"# } ?? ""
            return #"{"apiVersion":"v1","kind":"DeleteOptions"\#(preconditions)}"#
        }
        var members = [version, metadata.isEmpty ? nil : metadata].compactMap { $0 }
        if !object.namespace.isEmpty { members.insert(#""namespace":\#(quoted(object.namespace))"#, at: 0) }
        if !object.name.isEmpty { members.insert(#""name":\#(quoted(object.name))"#, at: 0) }
        return #"{"apiVersion":\#(quoted(object.apiVersion)),"kind":\#(quoted(object.kind)),"#
            + #""metadata":{\#(members.joined(separator: ","))}\#(fields.isEmpty ? "" : ",")\#(fields)}"#
    }
}

/// What is written may be secret: a Secret's keys, a token that is reviewed.
extension ObjectWrite: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "\(verbName) of \(object)" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
