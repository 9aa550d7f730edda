/// The paths of the admin socket, and the small answers. HTTP with JSON bodies; errors are `AdminFailure` with a
/// status of 400 or above.
package import Observation

/// Of the programs on both ends of the socket.
package let heddleVersion = "0.1.0"

package enum AdminPath {
    package static let defaultSocket = "/run/heddle/agent.sock"
    /// Of the controller, which answers `status` with a `ControllerStatus` and `routes` with `ClusterRoutes`.
    package static let controllerSocket = "/run/heddle/controller.sock"

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
    /// A `MeshList`.
    package static let mesh = "/mesh"
    /// A `PolicyList`.
    package static let policy = "/policy"
    /// Of the controller: a `ClusterAnalysis`; takes `namespace=`, of whose objects alone it then tells.
    package static let analysis = "/analysis"
    /// Of the controller: an `AuthorityReport`; with `renew=root` or `renew=intermediate` it begins to change that.
    package static let authority = "/authority"
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
