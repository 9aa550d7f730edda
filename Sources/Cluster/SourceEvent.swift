/// What a source of cluster objects (manifests directory, API server) tells the agent, in order.

package enum SourceEvent: Sendable {
    /// Objects changed; one batch belongs together and is compiled together.
    case changes([Change])
    /// Everything that existed at the start has been delivered: the first sync may be written (spec row 158).
    case synced
    /// Every pod of this node has been told, or cannot be: said once each time pods begin to be followed, with the
    /// number that this time was given, and again in a mesh once those of the other nodes are known too (`ofAll`).
    case podsKnown(round: Int, ofAll: Bool = true)
    /// Every change up to these versions of the API server was told: of the kinds of which there is news. Numbers
    /// (KEP-5504); whoever cannot read them as such can only see whether two are equal.
    case reached([ObjectKind: String])
    /// All problems the source has now, replacing what it said before. Empty: all is well.
    case problems([SourceProblem])
}

/// Which pods a source tells of. Watching those of this node costs little; all are many.
package enum PodScope: Int, Comparable, Sendable {
    case none, ofNode, all

    package static func < (a: PodScope, b: PodScope) -> Bool { a.rawValue < b.rawValue }
}

/// A document or object that could not be used. The last good version of the object stays in force.
package struct SourceProblem: Hashable, Sendable, CustomStringConvertible {
    /// Where it is: `services.yaml:12`.
    package let location: String
    /// `Service default/web`, when known.
    package let object: String?
    /// `spec.ports[0].port`, when known.
    package let field: String?
    /// What is wrong and what to do, as one sentence.
    package let message: String
    package let effect: Effect

    package enum Effect: Sendable {
        /// The object, or the document, is not used.
        case refused
        /// A part of it is not; the rest is.
        case leftOut
        /// It was there before, and is used as it was there.
        case repeated
    }

    package init(
        location: String, object: String? = nil, field: String? = nil, message: String, effect: Effect = .refused
    ) {
        self.location = location
        self.object = object
        self.field = field
        self.message = message
        self.effect = effect
    }
    package var description: String {
        ([location] + [object, field].compactMap { $0 } + [message]).joined(separator: ": ")
    }
}
