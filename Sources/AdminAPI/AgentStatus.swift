/// What the agent says about itself on the admin socket: the answer of `/status`. Times are seconds before the answer
/// was made, so that no two clocks need to agree.
package import Observation

package struct AgentStatus: Codable, Sendable, Equatable {
    /// Three different claims (configured is not attached is not proven).
    package struct Dataplane: Codable, Sendable, Equatable {
        /// `ebpf` or `nftables`.
        package var name: String
        /// `nftables (all)` beside eBPF; nil: none.
        package var companion: String?
        /// What the configuration asked for, and why this was taken.
        package var configured: String
        /// Something of ours is in force in the kernel since this process started.
        package var attached: Bool
        /// The last audit found the kernel equal to what was written, and the canary has not failed.
        package var proven: Bool
        /// Age of that audit; nil: none yet.
        package var provenSecondsAgo: Double?
        /// Connecting to a service of the agent's own; nil: not tried, or not yet.
        package var canary: Canary?

        package init(name: String, configured: String) {
            self.name = name
            self.configured = configured
            attached = false
            proven = false
        }
    }
    package struct Canary: Codable, Sendable, Equatable {
        /// `passed`, `failed`, or `untried` when it could not be tried.
        package var state: String
        /// What happened and what to do; nil when passed.
        package var detail: String?
        package var triedSecondsAgo: Double?
        package var passedSecondsAgo: Double?

        package init(state: String, detail: String?) {
            self.state = state
            self.detail = detail
        }
    }
    package struct Source: Codable, Sendable, Equatable {
        /// `manifests:/etc/heddle/manifests`
        package var name: String
        /// Everything that existed at the start has been read.
        package var complete: Bool
        /// Age of the last change it told; nil: none yet.
        package var changedSecondsAgo: Double?
        package var problems: [String]
        /// One a kind, for a source that watches an API server.
        package var watches: [Watch]

        package init(name: String) {
            self.name = name
            complete = false
            problems = []
            watches = []
        }
    }
    package struct Watch: Codable, Sendable, Equatable {
        /// `endpointslices`
        package var resource: String
        /// `starting`, `listing`, `watching`, `waiting` or `off`.
        package var state: String
        /// What is wrong; nil: all is well.
        package var message: String?
        package var resourceVersion: String?
        package var objects: Int
        package var refusedObjects: Int
        package var errors: Int
        package var reconnects: Int
        /// Since the server last sent anything.
        package var heardSecondsAgo: Double?

        package init(resource: String, state: String) {
            self.resource = resource
            self.state = state
            (objects, refusedObjects, errors, reconnects) = (0, 0, 0, 0)
        }
    }
    package struct Sync: Codable, Sendable, Equatable {
        /// Nothing waits to be written, nothing failed, nothing was refused.
        package var inSync: Bool
        /// The last generation that is in the kernel; 0: none.
        package var generation: UInt64
        package var pendingChanges: Int
        package var failuresInARow: Int
        package var failures: UInt64
        package var lastError: String?
        package var lastSyncSecondsAgo: Double?
        package var lastSyncDurationSeconds: Double?
        package var plans: UInt64
        package var fullPlans: UInt64

        package init() {
            (inSync, generation, pendingChanges, failuresInARow, failures) = (false, 0, 0, 0, 0)
            (plans, fullPlans) = (0, 0)
        }
    }
    package struct DriftReport: Codable, Sendable, Equatable {
        /// Differences found since this process started.
        package var found: UInt64
        package var lastSecondsAgo: Double?
        /// What the last audit that found any found, at most a few.
        package var last: [String]
        /// They were written again and the audit after that found none.
        package var repaired: Bool

        package init() { (found, last, repaired) = (0, [], true) }
    }
    /// Whom a process runs as and what it may do, from `/proc/PID/status`.
    package struct ProcessRights: Codable, Sendable, Equatable {
        package var user: UInt32
        /// Hexadecimal, one bit a capability, as `capsh --decode` reads it.
        package var capabilities: String
        package var boundingSet: String
        package var noNewPrivileges: Bool
        package var seccomp: Bool

        package init(
            user: UInt32, capabilities: String, boundingSet: String, noNewPrivileges: Bool, seccomp: Bool
        ) {
            self.user = user
            self.capabilities = capabilities
            self.boundingSet = boundingSet
            self.noNewPrivileges = noNewPrivileges
            self.seccomp = seccomp
        }
        package var hasNone: Bool { user != 0 && capabilities == "0" && noNewPrivileges }
        package var description: String {
            "uid \(user), " + (capabilities == "0" ? "no capabilities" : "capabilities \(capabilities)")
                + (noNewPrivileges ? ", no_new_privs" : "") + (seccomp ? ", seccomp" : "")
        }
    }
    package struct Proxy: Codable, Sendable, Equatable {
        package struct Instance: Codable, Sendable, Equatable {
            package var pid: UInt32
            package var version: String
            /// Of the configuration it works with; 0: none.
            package var generation: UInt64
            /// Why it refused the last one; nil: it did not.
            package var refusal: String?
            package var answering: Bool
            /// What the last configuration said that it does not know.
            package var ignored: [String] = []
            /// It runs another program than the installed one, and is being replaced.
            package var outdated = false
            /// What the kernel says of the process; nil: nothing.
            package var process: ProcessRights?

            package init(pid: UInt32, version: String, generation: UInt64, refusal: String?, answering: Bool) {
                self.pid = pid
                self.version = version
                self.generation = generation
                self.refusal = refusal
                self.answering = answering
            }
        }
        /// `spawn`, `external` or `off`.
        package var mode: String
        /// `not needed`, `starting`, `not yet heard of`, `up`, `down` or `off`.
        package var state: String
        /// `open` or `closed`: what becomes of routed services while it is down.
        package var failure: String
        /// The configuration handed over last.
        package var generation: UInt64
        /// Service ports with routes.
        package var routedServices: Int
        package var listeners: [String]
        package var instances: [Instance]

        package init(mode: String) {
            self.mode = mode
            (state, failure, generation, routedServices) = ("not needed", "closed", 0, 0)
            (listeners, instances) = ([], [])
        }
    }
    /// A port of the agent's own, or a health check of a Service.
    package struct Server: Codable, Sendable, Equatable {
        /// `metrics`, `health`, `probes`, or `health check of Service NAMESPACE/NAME`.
        package var name: String
        package var address: String
        /// Why it does not listen, and what to do; nil: it listens.
        package var problem: String?
        /// Who listens there instead, where `agentctl` can tell.
        package var holder: String?

        package init(name: String, address: String, problem: String? = nil) {
            self.name = name
            self.address = address
            self.problem = problem
        }
    }
    package struct Counts: Codable, Sendable, Equatable {
        package var services: Int
        package var servicePorts: Int
        package var frontends: Int
        package var backends: Int

        package init() { (services, servicePorts, frontends, backends) = (0, 0, 0, 0) }
    }
    package struct Refusal: Codable, Sendable, Equatable {
        package var service: String
        package var reason: String

        package init(service: String, reason: String) {
            self.service = service
            self.reason = reason
        }
    }

    package var node: String
    package var version: String
    package var pid: Int32
    package var uptimeSeconds: Double
    /// Both lists complete and the first sync in the kernel.
    package var ready: Bool
    package var dataplane: Dataplane
    package var sources: [Source]
    /// What is in force while the source is away since the start; nil: the source's own state.
    package var snapshot: String?
    /// How old that is, at most: the age of the snapshot.
    package var snapshotSecondsAgo: Double?
    package var sync: Sync
    package var drift: DriftReport
    package var counts: Counts
    /// The L7 proxy.
    package var proxy: Proxy
    package var servers: [Server]
    package var nodePortAddresses: [String]
    package var capacity: [MapUsage]
    /// Counters of the dataplane by name.
    package var counters: [String: UInt64]
    /// Service ports that did not fit, each with the reason.
    package var refused: [Refusal]
    /// What the compiler left out of objects, at most some hundred.
    package var findings: [String]
    package var findingCount: Int
    /// What the host lacks, what others left behind, and the like.
    package var warnings: [String]

    package init(node: String, version: String, dataplane: Dataplane) {
        self.node = node
        self.version = version
        self.dataplane = dataplane
        (pid, uptimeSeconds, ready) = (0, 0, false)
        proxy = Proxy(mode: "off")
        (sources, sync, drift, counts) = ([], Sync(), DriftReport(), Counts())
        (servers, nodePortAddresses, capacity, counters, refused) = ([], [], [], [:], [])
        (findings, findingCount, warnings) = ([], 0, [])
    }
}
