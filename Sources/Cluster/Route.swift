/// HTTPRoute and GRPCRoute (gateway.networking.k8s.io/v1), as they were written: what they name is looked up and what
/// they match is compiled elsewhere.
package import RouteIR

package struct Route: Equatable, Sendable, Codable {
    package enum Kind: Sendable, Codable {
        case http
        case grpc
    }
    /// A Service this route is attached to. Other parents, Gateways above all, are somebody else's and left out.
    package struct Parent: Hashable, Sendable, Codable {
        package var service: ObjectName
        /// nil: every port.
        package var port: UInt16?
        /// The name of a port.
        package var sectionName: String?
        /// In `spec.parentRefs`; nil where only the parents that are Services are known.
        package var place: Int?

        package init(service: ObjectName, port: UInt16? = nil, sectionName: String? = nil) {
            self.service = service
            self.port = port
            self.sectionName = sectionName
        }
    }
    package struct BackendReference: Equatable, Sendable, Codable {
        package var group = ""
        package var kind = "Service"
        package var name: ObjectName
        package var port: UInt16?

        package init(name: ObjectName, port: UInt16? = nil) {
            self.name = name
            self.port = port
        }
    }
    package struct Backend: Equatable, Sendable, Codable {
        package var reference: BackendReference
        package var weight: UInt32 = 1
        package var filters: [Filter] = []

        package init(_ reference: BackendReference) { self.reference = reference }
    }
    package struct TextMatch: Equatable, Sendable, Codable {
        package var text: String
        package var isRegularExpression: Bool

        package init(_ text: String, isRegularExpression: Bool = false) {
            self.text = text
            self.isRegularExpression = isRegularExpression
        }
    }
    package struct FieldMatch: Equatable, Sendable, Codable {
        package var name: String
        package var value: TextMatch

        package init(name: String, value: TextMatch) {
            self.name = name
            self.value = value
        }
    }
    package enum PathMatch: Equatable, Sendable, Codable {
        case exact(String)
        case prefix(String)
        case regularExpression(String)
        /// Of a GRPCRoute; at least one is there.
        case call(service: TextMatch?, method: TextMatch?)
    }
    package struct Match: Equatable, Sendable, Codable {
        package var path = PathMatch.prefix("/")
        package var method: String?
        package var headers: [FieldMatch] = []
        package var query: [FieldMatch] = []

        package init() {}
    }
    /// How a redirect or rewrite changes the path: the prefix it replaces is that of the rule's match.
    package enum PathChange: Equatable, Sendable, Codable {
        case full(String)
        case prefix(String)
    }
    package enum Filter: Equatable, Sendable, Codable {
        /// Complete as it is.
        case ready(RouteFilter)
        case redirect(Redirect, path: PathChange?)
        case rewrite(hostname: String?, path: PathChange?)
        case mirror(BackendReference, numerator: UInt32, denominator: UInt32)
        /// The type's name.
        case unknown(String)
    }
    package struct Rule: Equatable, Sendable, Codable {
        package var name: String?
        /// Empty: everything.
        package var matches: [Match] = []
        package var filters: [Filter] = []
        package var backends: [Backend] = []
        package var timeouts = RouteRule.Timeouts()
        package var retry: RetryPolicy?
        /// Fields that were given and that we do nothing with.
        package var ignoredFields: [String] = []

        package init() {}
    }

    package var kind: Kind
    package var name: ObjectName
    /// Seconds since 1970: the older of two routes goes first.
    package var creationTime: Int64 = 0
    package var parents: [Parent] = []
    package var hostnames: [String] = []
    package var rules: [Rule] = []
    /// Annotations that begin with `heddle.io/`.
    package var annotations: [String: String] = [:]

    /// Only where `ObjectDecoder.Options.keepsRouteRecords` asks for it.
    package var record: RouteRecord?

    package init(kind: Kind, name: ObjectName) {
        self.kind = kind
        self.name = name
    }

    package var id: ObjectID { ObjectID(kind == .http ? .httpRoute : .grpcRoute, name) }
}
