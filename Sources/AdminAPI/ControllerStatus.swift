/// What the controller says of the cluster on its admin socket: the answers of its `/status` and `/routes`.

package struct ControllerStatus: Codable, Sendable, Equatable {
    /// Which of the replicas answers.
    package var identity: String
    package var leader = Leader()
    /// Routes whose status in the API is not yet what it should be.
    package var statusesToWrite = 0
    /// Why the last of them was not written.
    package var writeProblem: String?
    package var version: String
    package var pid: Int32
    package var uptimeSeconds: Double
    /// Every first list is complete.
    package var ready: Bool
    package var source: AgentStatus.Source
    package var services: Int
    package var routes: Int
    /// What is wrong with routes of the whole cluster, at most some hundred.
    package var findings: [String]
    package var findingCount: Int
    package var servers: [AgentStatus.Server]
    package var nodes = Nodes()
    /// nil: this controller is none.
    package var authority: Authority?

    /// The certificate authority; `AuthorityReport` says more.
    package struct Authority: Codable, Sendable, Equatable {
        package var isReady: Bool
        package var trustDomain: String
        /// When its root ends, in seconds since 1970; nil: it has none yet.
        package var rootEnds: Int?
        package var issued: Int
        package var refused: Int
        package var problems: [String]

        package init(_ report: AuthorityReport) {
            (isReady, trustDomain, rootEnds) = (report.isReady, report.trustDomain, report.keys.root?.notAfter)
            (issued, refused) = (report.issuedCount, report.refusedCounts.values.reduce(0, +))
            problems = report.allProblems
        }
    }
    /// nil: it is off.
    package var webhook: Webhook?

    /// The door at which API servers ask before they take an object.
    package struct Webhook: Codable, Sendable, Equatable {
        /// Since this replica has a certificate to serve by; nil: it has none.
        package var servingSeconds: Double?
        package var certificateEndsInSeconds: Double?
        /// Whether there is a ValidatingWebhookConfiguration by which API servers ask; nil: not known.
        package var isConfigured: Bool?
        package var problems: [String] = []

        package init() {}
    }

    /// Those with an agent.
    package struct Nodes: Codable, Sendable, Equatable {
        package static let shown = 20
        package struct Laggard: Codable, Sendable, Equatable {
            package var node: String
            package var cause: String
            package var seconds: Double

            package init(node: String, cause: String, seconds: Double) {
                (self.node, self.cause, self.seconds) = (node, cause, seconds)
            }
        }
        package var count: Int
        /// The agent answered when it was asked last.
        package var answering: Int
        /// For more than a minute; the first of them by name.
        package var lagging: Int
        package var laggards: [Laggard] = []

        package init(count: Int = 0, answering: Int = 0, lagging: Int = 0) {
            (self.count, self.answering, self.lagging) = (count, answering, lagging)
        }
    }

    /// Who of the replicas writes.
    package struct Leader: Codable, Sendable, Equatable {
        /// The one that answers.
        package var isLeading = false
        /// `kube-system/heddle-controller`
        package var lease = ""
        /// The identity in the Lease; empty: nobody leads.
        package var holder = ""
        package var transitions: Int64 = 0
        package var problem: String?

        package init() {}
    }

    package init(identity: String, version: String, source: AgentStatus.Source) {
        (self.identity, self.version, self.source) = (identity, version, source)
        (pid, uptimeSeconds, ready, services, routes) = (0, 0, false, 0, 0)
        (findings, findingCount, servers) = ([], 0, [])
    }
}

package struct ClusterRoutes: Codable, Sendable, Equatable {
    package struct Entry: Codable, Sendable, Equatable {
        /// `HTTPRoute shop/canary`
        package var route: String
        /// `shop/web:80`; empty: it has no Service as a parent, and is none of ours.
        package var parents: [String]
        package var rules: Int
        package var findings: [String]
        /// On how many nodes its last generation is in force; nil: not known.
        package var inForce: Progress?

        package init(route: String, parents: [String], rules: Int, findings: [String]) {
            (self.route, self.parents, self.rules, self.findings) = (route, parents, rules, findings)
        }
    }
    package struct Progress: Codable, Sendable, Equatable {
        package var nodes: Int
        package var of: Int
        /// Some of the nodes where it is not.
        package var missing: [String]

        package init(nodes: Int, of: Int, missing: [String]) {
            (self.nodes, self.of, self.missing) = (nodes, of, missing)
        }
    }
    package var entries: [Entry]

    package init(entries: [Entry]) { self.entries = entries }
}
