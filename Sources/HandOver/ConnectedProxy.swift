/// A proxy as the agent sees it: what it said, and who it is and what it may do, which the kernel says.

package struct ConnectedProxy: Equatable, Sendable {
    /// What the kernel lets its process do.
    package struct Rights: Equatable, Sendable {
        /// The user it acts as.
        package var user: UInt32
        package var effective: UInt64
        /// What it could get by executing a program with file capabilities.
        package var bounding: UInt64
        package var hasNoNewPrivileges: Bool
        package var filtersCalls: Bool

        package init(
            user: UInt32, effective: UInt64, bounding: UInt64, hasNoNewPrivileges: Bool, filtersCalls: Bool
        ) {
            self.user = user
            self.effective = effective
            self.bounding = bounding
            self.hasNoNewPrivileges = hasNoNewPrivileges
            self.filtersCalls = filtersCalls
        }
    }

    package var pid: UInt32
    package var version: String
    /// Of the config it works with; 0: none.
    package var generation: UInt64
    /// Why it refused the last one; nil: it did not.
    package var refusal: String?
    /// It answers questions, or has not been asked for long enough.
    package var isAnswering: Bool
    /// nil: the kernel does not say, as for a process of another pid namespace.
    package var rights: Rights?
    /// Which file it was started from, whatever that is called now; nil: the kernel does not say.
    package var program: String?
    /// It speaks another format of the hand-over: it serves with what it has, and cannot be told anything.
    package var isForeign = false
    /// What the last configuration said that it does not know.
    package var ignored: [String] = []

    package init(
        pid: UInt32, version: String, generation: UInt64, refusal: String? = nil, isAnswering: Bool = true,
        rights: Rights? = nil
    ) {
        self.pid = pid
        self.version = version
        self.generation = generation
        self.refusal = refusal
        self.isAnswering = isAnswering
        self.rights = rights
    }
    /// Traffic can be sent to it.
    package var isUp: Bool { isAnswering && generation > 0 }
}
