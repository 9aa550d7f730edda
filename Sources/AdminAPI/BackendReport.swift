/// What flows of this node may point at, and what became of the rest: by this `agentctl sockets` tells stale ones.

package struct BackendReport: Codable, Sendable, Equatable {
    package struct Removed: Codable, Sendable, Equatable {
        /// `10.244.1.11:8080/TCP`
        package var backend: String
        /// `namespace/name:port-name`
        package var service: String
        /// Where the service was dialled then, in the form of `services`.
        package var frontends: [String]
        package var secondsAgo: Double

        package init(backend: String, service: String, frontends: [String], secondsAgo: Double) {
            self.backend = backend
            self.service = service
            self.frontends = frontends
            self.secondsAgo = secondsAgo
        }
    }
    /// The kernel holds what the agent wants, and the agent knows everything that its sources have.
    package var isInSync = false
    /// The cgroup below which the pods are.
    package var cgroup = ""
    /// Every backend of every service, usable or not: `10.244.1.11:8080/TCP`.
    package var inUse: Set<String> = []
    /// By the address dialled: `10.96.0.10:80/TCP`, or `*:30080/TCP` for a node port.
    package var services: [String: String] = [:]
    /// The youngest last. Whether they are in use again must be looked up.
    package var removed: [Removed] = []
    /// Names of this node's pods, by address.
    package var pods: [String: String] = [:]

    package init() {}
}
