/// What is wrong with an object, or will be: the same sentence for people who write files, for those who ask a running
/// cluster, and for the API server that asks before it takes the object.
package import Cluster
import Compile

package enum Severity: String, Sendable, Comparable, CaseIterable {
    /// It can never do what it says.
    case error
    /// It does something, and most likely not what was meant.
    case warning

    package static func < (a: Severity, b: Severity) -> Bool { a == .error && b == .warning }
}

package struct Judgement: Hashable, Sendable, CustomStringConvertible {
    package let severity: Severity
    /// A short fixed word: `invalid-regex`.
    package let code: String
    package let object: ObjectID
    /// `spec.rules[0].matches[1]`, where one field is to blame.
    package let field: String
    /// One sentence: what does not work, why, and what to do.
    package let message: String
    /// Nothing that happens to other objects can mend it.
    package let isOfObjectAlone: Bool

    package init(
        _ severity: Severity, _ code: String, _ object: ObjectID, field: String, _ message: String,
        isOfObjectAlone: Bool = false
    ) {
        self.severity = severity
        self.code = code
        self.object = object
        self.field = field
        self.message = message
        self.isOfObjectAlone = isOfObjectAlone
    }
    package var description: String { "\(severity.rawValue) \(code): \(object): \(field): \(message)" }

    /// Refused when it comes: whatever else the cluster holds, it never works.
    package var isRefused: Bool { severity == .error && isOfObjectAlone }
}

extension Judgement: Comparable {
    package static func < (a: Judgement, b: Judgement) -> Bool { a.order < b.order }
    private var order: (String, ObjectName, String, String, String) {
        (object.kind.rawValue, object.name, field, code, message)
    }
}

extension Judgement {
    init(_ finding: Finding) {
        // A kind that is no Service becomes none; everything else that a reference misses may come yet.
        let isAlone =
            Self.errorsOfObjectsAlone.contains(finding.reason)
            || finding.reason == "invalid-backend" && finding.message.hasPrefix("kind ")
        let isError = isAlone || Self.errorsByOthers.contains(finding.reason)
        self.init(
            isError ? .error : .warning, finding.reason, finding.object, field: finding.field, finding.message,
            isOfObjectAlone: isAlone)
    }
    /// Of the compiler's findings.
    private static let errorsOfObjectsAlone: Set = ["invalid-regex", "unsupported-filter"]
    private static let errorsByOthers: Set = [
        "address-conflict", "invalid-backend", "no-cluster-ip", "no-such-port", "not-http", "too-many-patterns",
    ]

    /// An object that could not be read: nothing of it is in force.
    package init(undecodable object: ObjectID, _ error: DecodeError) {
        self.init(
            .error, "undecodable", object, field: error.path, error.message, isOfObjectAlone: true)
    }
    /// A part that was left out.
    package init(leftOutOf object: ObjectID, _ note: DecodeNote) {
        self.init(.warning, "left-out", object, field: note.path, note.message)
    }
}

package struct Report: Equatable, Sendable {
    /// In order of kinds, names and fields.
    package var judgements: [Judgement] = []
    /// Services that routes name and of which nothing is known: taken to be as the routes want them.
    package var unknownServices: [ObjectName] = []
    /// Routes of Gateways only, which are somebody else's.
    package var routesOfGateways = 0
    /// Services whose endpoints nothing tells of.
    package var servicesOfUnknownEndpoints = 0
    /// Matches and pods that were looked at, and Services that were compiled: must grow as the set does (tested).
    package var comparisons = 0

    package init() {}

    /// What was not judged and why, in one line; nil: everything was.
    package var unjudged: String? {
        var parts: [String] = []
        if !unknownServices.isEmpty {
            let names = unknownServices.prefix(3).map(\.description).joined(separator: ", ")
            let more = unknownServices.count > 3 ? " and \(unknownServices.count - 3) more" : ""
            parts.append("Services that were not given (\(names)\(more))")
        }
        if servicesOfUnknownEndpoints > 0 {
            parts.append(
                "endpoints of \(servicesOfUnknownEndpoints) Services, of which no Pod or EndpointSlice was given")
        }
        if routesOfGateways > 0 { parts.append("\(routesOfGateways) routes that are attached to Gateways only") }
        return parts.isEmpty ? nil : "not judged: " + parts.joined(separator: "; ")
    }
}
