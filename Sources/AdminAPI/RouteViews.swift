/// Routes as the agent handed them to the L7 proxy: the answers of `/routes`, and of `/explain` for a request.

package struct RouteList: Codable, Sendable, Equatable {
    /// One match of one rule. A service's are in the order in which they are tried.
    package struct Entry: Codable, Sendable, Equatable {
        /// `shop/web:80`
        package var service: String
        /// `all`, or the namespace whose clients these routes are for.
        package var clients: String
        /// `shop/canary rule 0`
        package var rule: String
        package var match: String
        package var filters: [String]
        /// `shop/v1:80 90%`
        package var backends: [String]
        package var timeout: String?
        package var retries: String?

        package init(service: String, clients: String, rule: String, match: String) {
            self.service = service
            self.clients = clients
            self.rule = rule
            self.match = match
            (filters, backends) = ([], [])
        }
    }
    package var entries: [Entry]
    package var generation: UInt64
    /// What was left out of routes, and why.
    package var findings: [String]

    package init(entries: [Entry], generation: UInt64, findings: [String]) {
        self.entries = entries
        self.generation = generation
        self.findings = findings
    }
}

/// Which rule one request meets.
package struct Routing: Codable, Sendable, Equatable {
    package struct Candidate: Codable, Sendable, Equatable {
        package var rule: String
        package var match: String
        /// Why the request does not meet it; nil: it does.
        package var mismatch: String?

        package init(rule: String, match: String, mismatch: String?) {
            self.rule = rule
            self.match = match
            self.mismatch = mismatch
        }
    }
    package struct Backend: Codable, Sendable, Equatable {
        package var target: String
        /// Of all requests that meet the rule, in percent.
        package var share: Double
        /// Usable ones; empty: 503.
        package var endpoints: [String]

        package init(target: String, share: Double, endpoints: [String]) {
            self.target = target
            self.share = share
            self.endpoints = endpoints
        }
    }
    /// The rule that is met; nil: none.
    package var rule: String?
    /// What becomes of the request, as a sentence.
    package var outcome: String
    package var filters: [String]
    package var backends: [Backend]
    /// In the order they are tried, up to the one that is met.
    package var candidates: [Candidate]

    package init(outcome: String) {
        self.outcome = outcome
        (filters, backends, candidates) = ([], [], [])
    }
}
