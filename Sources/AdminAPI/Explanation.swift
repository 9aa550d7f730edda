/// The answer of `agentctl explain`.
package import Observation

/// What happens to one flow, as the interpreter of the programs in force says, and how it comes about.
package struct Explanation: Codable, Sendable, Equatable {
    package struct Decision: Codable, Sendable, Equatable {
        /// The field, option or fact it rests on: `spec.internalTrafficPolicy`.
        package var source: String
        package var outcome: String
        /// What the field is of: `Service shop/cart`; `heddle-agent`: an option.
        package var object: String?

        package init(source: String, outcome: String, object: String? = nil) {
            self.source = source
            self.outcome = outcome
            self.object = object
        }
    }
    package struct Endpoint: Codable, Sendable, Equatable {
        package var address: String
        /// Why this flow cannot get there; nil: it can.
        package var excluded: String?
        /// The EndpointSlices that have it, by name.
        package var slices: [String]
        /// How this flow would get there; nil: the mesh has no say in it.
        package var passage: FlowPassage?

        package init(address: String, excluded: String?, slices: [String] = []) {
            self.address = address
            self.excluded = excluded
            self.slices = slices
        }
    }
    /// `balance`, `reject`, `drop` or `passthrough`.
    package var verdict: String
    /// The flow as it was understood: a pod's name has become its address.
    package var from: String
    package var to: String
    /// The interface it comes in by; nil: it is made on the node itself.
    package var interface: String?
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
    /// How it passes the network; nil: the mesh has no say in it.
    package var passage: FlowPassage?
    /// What the L7 proxy does with the request; nil: no request was given, or it is not routed.
    package var routing: Routing?

    package init(verdict: String, from: String, to: String) {
        self.verdict = verdict
        self.from = from
        self.to = to
        (candidates, decisions, endpoints, generation) = ([], [], [], 0)
    }
}
