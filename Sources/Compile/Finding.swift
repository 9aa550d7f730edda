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

    package init(reason: String, object: ObjectID, field: String, message: String) {
        self.reason = reason
        self.object = object
        self.field = field
        self.message = message
    }
    package var description: String { "\(object): \(field): \(message)" }
}
