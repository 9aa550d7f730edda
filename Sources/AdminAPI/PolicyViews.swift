/// Who may call the pods of this node: the answer of `/policy`.

package struct PolicyList: Codable, Sendable, Equatable {
    package struct Rule: Codable, Sendable, Equatable {
        /// `from principal */sa/web; to port 8080`
        package var text: String
        /// Who enforces it, or why nobody does.
        package var enforcement: String

        package init(text: String, enforcement: String) {
            self.text = text
            self.enforcement = enforcement
        }
    }
    package struct Policy: Codable, Sendable, Equatable {
        /// `shop/web`
        package var name: String
        /// `ALLOW`
        package var action: String
        /// Why it is for the pod: `app=web`, `namespace`, `mesh`, `Service web`.
        package var reason: String
        package var isDryRun: Bool
        /// It cannot be read, and denies everything.
        package var isUnreadable: Bool
        package var rules: [Rule]

        package init(
            name: String, action: String, reason: String, isDryRun: Bool, isUnreadable: Bool, rules: [Rule]
        ) {
            self.name = name
            self.action = action
            self.reason = reason
            self.isDryRun = isDryRun
            self.isUnreadable = isUnreadable
            self.rules = rules
        }
    }
    package struct Pod: Codable, Sendable, Equatable {
        /// `shop/web-0`
        package var name: String
        /// In the order in which they are asked.
        package var policies: [Policy]
        /// What becomes of whatever none of them matches.
        package var otherwise: String

        package init(name: String, policies: [Policy], otherwise: String) {
            self.name = name
            self.policies = policies
            self.otherwise = otherwise
        }
    }
    /// Those of this node that are in the mesh, by name.
    package var pods: [Pod]
    package var findings: [String]

    package init(pods: [Pod], findings: [String]) {
        self.pods = pods
        self.findings = findings
    }
}
