/// What the certificate authority says of itself: the answer of the controller's `/authority`. Keys are never in it.

package struct AuthorityReport: Codable, Sendable, Equatable {
    /// Of the newest certificates and refusals no more than so many.
    package static let shown = 50

    /// Times in seconds since 1970, like all here.
    package struct Certificate: Codable, Sendable, Equatable {
        package var subject: String
        /// In hexadecimal.
        package var serial: String
        /// SHA-256, in hexadecimal.
        package var fingerprint: String
        package var notBefore: Int
        package var notAfter: Int

        package init(subject: String, serial: String, fingerprint: String, notBefore: Int, notAfter: Int) {
            (self.subject, self.serial, self.fingerprint) = (subject, serial, fingerprint)
            (self.notBefore, self.notAfter) = (notBefore, notAfter)
        }
    }

    /// What signs, and what is believed.
    package struct Keys: Codable, Sendable, Equatable {
        /// `own` (Secret heddle-ca) or `cacerts` (Istio's Secret).
        package var origin = "own"
        /// Certificates can be issued.
        package var isReady = false
        package var root: Certificate?
        /// Made, and not yet believed by all.
        package var nextRoot: Certificate?
        /// Signs no more, and is believed until the last leaf under it has ended.
        package var retired: [Certificate] = []
        package var intermediate: Certificate?
        /// Sentences, with what to do.
        package var problems: [String] = []

        package init() {}
    }
    package struct Issued: Codable, Sendable, Equatable {
        package var serial: String
        package var identity: String
        /// `NAMESPACE/ACCOUNT` that asked; another than the identity's: the proxy of a node.
        package var requester: String
        package var node: String
        package var at: Int
        package var notAfter: Int

        package init(serial: String, identity: String, requester: String, node: String, at: Int, notAfter: Int) {
            (self.serial, self.identity, self.requester, self.node) = (serial, identity, requester, node)
            (self.at, self.notAfter) = (at, notAfter)
        }
    }
    package struct Refused: Codable, Sendable, Equatable {
        package var peer: String
        /// `not-on-node`: as the metric has it.
        package var reason: String
        package var sentence: String
        package var at: Int

        package init(peer: String, reason: String, sentence: String, at: Int) {
            (self.peer, self.reason, self.sentence, self.at) = (peer, reason, sentence, at)
        }
    }

    /// The replica that answers. What it has issued and refused is its own; other replicas have theirs.
    package var identity: String
    package var trustDomain: String
    package var keys = Keys()
    package var pods = 0
    /// All pods of the cluster are known; before that nobody is served.
    package var podsAreListed = false
    package var issuedCount = 0
    /// By reason.
    package var refusedCounts: [String: Int] = [:]
    /// Newest first.
    package var issued: [Issued] = []
    package var refused: [Refused] = []
    package var problems: [String] = []

    package init(identity: String, trustDomain: String) {
        (self.identity, self.trustDomain) = (identity, trustDomain)
    }

    package var isReady: Bool { keys.isReady && podsAreListed }
    package var allProblems: [String] { keys.problems + problems }
}
