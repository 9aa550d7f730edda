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
    /// What the kernel should hold, in the form of a `KernelDump` without maps.
    package static let desired = "/desired"
    /// What flows may point at: a `BackendReport`.
    package static let backends = "/backends"
    /// With `repair=true` it also writes everything again.
    package static let verify = "/verify"
    /// Needs `from=` an address or NAMESPACE/POD, and `to=IP:PORT`; takes `protocol=TCP` and `interface=NAME`.
    /// With `method=`, `path=` and `header=` (lines of `name: value`) also which rule of a routed service it meets.
    package static let explain = "/explain"
    package static let routes = "/routes"
    /// `FlowEvents`; takes `from=` the `next` of the last answer, and `rate=` in events a second. Observing ends some
    /// seconds after the last question.
    package static let observe = "/observe"
    /// A `TrafficReport`; counting too ends some seconds after the last question.
    package static let traffic = "/traffic"
    /// What the L7 proxy says of itself: `what=config`, `what=upstreams` and so on. Its answer is passed on as it is.
    package static let proxy = "/proxy"
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

/// What happens to one flow, as the interpreter of the programs in force says, and how it comes about.
package struct Explanation: Codable, Sendable, Equatable {
    package struct Decision: Codable, Sendable, Equatable {
        /// The field, option or fact it rests on: `spec.internalTrafficPolicy`.
        package var source: String
        package var outcome: String

        package init(source: String, outcome: String) {
            self.source = source
            self.outcome = outcome
        }
    }
    package struct Endpoint: Codable, Sendable, Equatable {
        package var address: String
        /// Why this flow cannot get there; nil: it can.
        package var excluded: String?

        package init(address: String, excluded: String?) {
            self.address = address
            self.excluded = excluded
        }
    }
    /// `balance`, `reject`, `drop` or `passthrough`.
    package var verdict: String
    /// The flow as it was understood: a pod's name has become its address.
    package var from: String
    package var to: String
    package var service: String?
    /// Each as likely as the others.
    package var candidates: [String]
    /// `kept`, `masqueraded`, or how it depends on the choice; nil without a choice.
    package var source: String?
    /// In the order they were taken.
    package var decisions: [Decision]
    /// Every endpoint of the service port, used or not.
    package var endpoints: [Endpoint]
    /// The plan that put this in force.
    package var generation: UInt64
    /// What the L7 proxy does with the request; nil: no request was given, or it is not routed.
    package var routing: Routing?

    package init(verdict: String, from: String, to: String) {
        self.verdict = verdict
        self.from = from
        self.to = to
        (candidates, decisions, endpoints, generation) = ([], [], [], 0)
    }
}
