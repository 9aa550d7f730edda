/// What the compiler has to say about an object: a field it left out, a claim that lost. Shown in `agentctl status`,
/// counted in a metric, so that nothing is ignored in silence.
package import Cluster

package struct Finding: Hashable, Sendable, CustomStringConvertible {
    /// A short fixed word for metrics: `address-conflict`, `other-family`.
    package let reason: String
    package let object: ObjectID
    /// `spec.externalIPs`, where one field is to blame.
    package let field: String
    /// One sentence: what is not done, why, and what to do.
    package let message: String
    /// What it means for the status of a route; nil: a remark.
    package var fault: RouteFault?

    package init(reason: String, object: ObjectID, field: String, message: String, fault: RouteFault? = nil) {
        self.reason = reason
        self.object = object
        self.field = field
        self.message = message
        self.fault = fault
    }
    package var description: String { "\(object): \(field): \(message)" }
}

/// What a finding about a route takes out of force (gateway spec A.7). Parents count as in `Route.parents`.
package enum RouteFault: Hashable, Sendable {
    // The parent takes it on no port, or not on the one named in the finding.
    case noSuchPort(parent: Int)
    case notHTTP(parent: Int)
    case conflicted(parent: Int)
    // The rule is left out, or answers 500 whatever comes.
    case unsupportedValue(rule: Int)
    case incompatibleFilters(rule: Int)
    // The backend gets nothing; its share is answered with 500.
    case invalidKind
    case backendNotFound
    // Requests are sent, but not as the backend says it wants them.
    case unsupportedProtocol

    package var parent: Int? {
        switch self {
        case .noSuchPort(let parent), .notHTTP(let parent), .conflicted(let parent): parent
        default: nil
        }
    }
    package var rule: Int? {
        switch self {
        case .unsupportedValue(let rule), .incompatibleFilters(let rule): rule
        default: nil
        }
    }
}
