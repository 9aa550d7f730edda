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

        package init(route: String, parents: [String], rules: Int, findings: [String]) {
            (self.route, self.parents, self.rules, self.findings) = (route, parents, rules, findings)
        }
    }
    package var entries: [Entry]

    package init(entries: [Entry]) { self.entries = entries }
}
