/// One rule of an HTTPRoute or GRPCRoute: what it matches and what becomes of a request then (spec 1.9). A gRPC method
/// match arrives here as the path it stands for, so there is one matcher.

package struct RouteRule: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        case http
        case grpc
    }
    package struct Timeouts: Hashable, Sendable, Codable {
        /// From the request's last byte in to the answer's last byte out, all tries together. nil: none.
        package var request: Duration?
        /// Of each try.
        package var backendRequest: Duration?

        package init(request: Duration? = nil, backendRequest: Duration? = nil) {
            self.request = request
            self.backendRequest = backendRequest
        }
    }

    /// `namespace/route rule 0`, and the rule's own name if it has one: shown in logs, metrics and `explain`.
    package var name: String
    package var kind: Kind
    /// Any of them; never empty.
    package var matches: [RouteMatch]
    package var filters: [RouteFilter] = []
    /// Empty: 500, unless a redirect answers.
    package var backends: [WeightedBackend] = []
    package var timeouts = Timeouts()
    package var retry: RetryPolicy?

    package init(name: String, kind: Kind = .http, matches: [RouteMatch] = [RouteMatch()]) {
        self.name = name
        self.kind = kind
        self.matches = matches
    }
}

/// All of its parts must hold.
package struct RouteMatch: Hashable, Sendable {
    package var path: PathMatch = .prefix("/")
    package var method: String?
    /// Names in lower case, each once.
    package var headers: [FieldMatch] = []
    package var query: [FieldMatch] = []

    package init(
        path: PathMatch = .prefix("/"), method: String? = nil, headers: [FieldMatch] = [], query: [FieldMatch] = []
    ) {
        self.path = path
        self.method = method
        self.headers = headers
        self.query = query
    }
}

package enum PathMatch: Hashable, Sendable {
    case exact(String)
    /// By path element: `/a` holds for `/a` and `/a/b`, not for `/ab`; a trailing slash means nothing.
    case prefix(String)
    /// The whole path.
    case regex(Pattern)
}

package struct FieldMatch: Hashable, Sendable {
    package enum Value: Hashable, Sendable {
        case exact(String)
        case regex(Pattern)
    }
    package var name: String
    package var value: Value

    package init(_ name: String, _ value: Value) {
        self.name = name
        self.value = value
    }
}

package struct WeightedBackend: Hashable, Sendable {
    package enum Target: Hashable, Sendable, Codable {
        case upstream(UpstreamID)
        /// Answered with 500 for this reason; keeps its share.
        case invalid(String)

        /// Of files that earlier releases wrote.
        private enum CodingKeys: String, CodingKey {
            case upstream = "cluster"
            case invalid
        }
    }
    package var target: Target
    /// Its share is weight / sum of weights; 0: none.
    package var weight: UInt32
    /// Applied after the rule's own, for requests that go to this backend.
    package var filters: [RouteFilter]

    package init(_ target: Target, weight: UInt32 = 1, filters: [RouteFilter] = []) {
        self.target = target
        self.weight = weight
        self.filters = filters
    }
}

/// When a request may be sent again (spec 6.3).
package struct RetryPolicy: Hashable, Sendable, Codable {
    package struct Classes: OptionSet, Hashable, Sendable, Codable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// The backend cannot have seen it: connecting failed, REFUSED_STREAM. Always safe, on without a policy too.
        package static let neverSent = Classes(rawValue: 1)
        /// An idempotent method of which no byte of an answer has come, or an answer with one of the codes.
        package static let idempotent = Classes(rawValue: 2)
        /// The same for other methods, which may then be carried out twice.
        package static let nonIdempotent = Classes(rawValue: 4)
    }
    /// Tries after the first one.
    package var attempts: UInt32
    package var codes: [UInt16]
    /// The least pause before a try; it doubles.
    package var backoff: Duration
    package var classes: Classes

    package init(
        attempts: UInt32, codes: [UInt16] = [], backoff: Duration = .milliseconds(25),
        classes: Classes = [.neverSent, .idempotent]
    ) {
        self.attempts = attempts
        self.codes = codes
        self.backoff = backoff
        self.classes = classes
    }
}
