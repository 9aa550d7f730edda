/// The paths of the admin socket, and the small answers. HTTP with JSON bodies; errors are `AdminFailure` with a
/// status of 400 or above.
package import Reconcile

package enum AdminPath {
    package static let defaultSocket = "/run/heddle/agent.sock"

    package static let status = "/status"
    package static let services = "/services"
    /// Needs `service=NAMESPACE/NAME`.
    package static let endpoints = "/endpoints"
    package static let capacity = "/capacity"
    /// With `repair=true` it also writes everything again.
    package static let verify = "/verify"
    /// Needs `from=IP` and `to=IP:PORT`; takes `protocol=TCP` and `interface=NAME`.
    package static let explain = "/explain"
}

package struct AdminFailure: Codable, Sendable, Error, CustomStringConvertible {
    package var error: String
    package init(_ error: String) { self.error = error }
    package var description: String { error }
}

package struct VerifyReport: Codable, Sendable, Equatable {
    package struct Difference: Codable, Sendable, Equatable {
        /// The kernel object: `map services`.
        package var object: String
        package var detail: String

        package init(object: String, detail: String) {
            self.object = object
            self.detail = detail
        }
    }
    package var differences: [Difference]
    /// A repair was asked for and done.
    package var repaired: Bool

    package init(differences: [Difference], repaired: Bool) {
        self.differences = differences
        self.repaired = repaired
    }
}

package struct CapacityReport: Codable, Sendable, Equatable {
    package var maps: [MapUsage]
    package init(maps: [MapUsage]) { self.maps = maps }
}

/// What happens to one flow, as the interpreter of the programs in force says.
package struct Explanation: Codable, Sendable, Equatable {
    /// `balance`, `reject`, `drop` or `passthrough`.
    package var verdict: String
    package var service: String?
    package var candidates: [String]
    /// `kept`, `masqueraded`, or how it depends on the choice; nil without a choice.
    package var source: String?

    package init(verdict: String, service: String? = nil, candidates: [String] = [], source: String? = nil) {
        self.verdict = verdict
        self.service = service
        self.candidates = candidates
        self.source = source
    }
}
