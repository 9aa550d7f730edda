/// Keeps the programs attached by which the proxy's sockets are known, while pods of this node are enrolled, and hands
/// the proxies the token once the kernel asks for it where they are. On a thread of its own, for attaching waits for
/// the kernel's readers.
import Addressing
import DataplaneIR
import Glibc
import HandOver
import LinuxDataplane
import Logging
import Netns
import Posix
import Reconcile
import Synchronization

final class OwnSocketKeeper: Sendable {
    private struct Wanted: Equatable {
        /// nil: nothing is in force yet that says so.
        var isNeeded: Bool?
        /// Pods that refuse a probe unless it is known to be kubelet's.
        var probed: Set<String> = []
        var proxies: [ConnectedProxy] = []
    }
    private let wanted = Mutex(Wanted())
    private let news = Semaphore()
    private let bpffs: String
    private let cgroup: String
    private let log: Logger
    private let trouble = Mutex<[String]>([])

    /// `cgroup`: where the dataplane is attached.
    init(bpffs: String, cgroup: String, log: Logger) {
        self.bpffs = bpffs
        self.cgroup = cgroup
        self.log = log
    }

    convenience init(_ configuration: AgentConfiguration, log: Logger) {
        self.init(bpffs: configuration.bpffs, cgroup: DataplaneFactory.cgroup(configuration), log: log)
    }

    /// Never ends: the thread goes with the process. `hand`: takes the token for the proxies; nil: there is none.
    func start(hand: @escaping @Sendable (OwnSocketToken?) -> Void) throws(PosixError) {
        try startThread { self.run(hand) }
    }

    /// The enrolled pods of this node.
    func update(pods: [IPAddress: MeshPodProgram]) {
        let probed = pods.values.filter { pod in pod.probePorts.contains { pod.mode(of: $0) == .strict } }
        change { ($0.isNeeded, $0.probed) = (!pods.isEmpty, Set(probed.map(\.name))) }
    }
    func update(proxies: [ConnectedProxy]) { change { $0.proxies = proxies } }
    private func change(_ body: (inout Wanted) -> Void) {
        let isNews = wanted.withLock { wanted in
            let before = wanted
            body(&wanted)
            return wanted != before
        }
        if isNews { news.signal() }
    }

    /// Why applications may not see the client, and STRICT pods may refuse the proxy, or kubelet.
    var problems: [String] { trouble.withLock { $0 } }

    // MARK: The thread

    private func run(_ hand: (OwnSocketToken?) -> Void) {
        var work = Work(bpffs: bpffs, cgroup: cgroup)
        var handed: (token: OwnSocketToken?, pids: [UInt32])?
        while true {
            // While attached, what somebody took away is put back and kubelet's new cgroup is found.
            if work.isAttached { news.wait(atMost: 3) } else { news.wait() }
            let wanted = wanted.withLock { $0 }
            guard let isNeeded = wanted.isNeeded else { continue }
            var problems: [String] = []
            do {
                let token = isNeeded ? try work.attach(wanted.proxies) : nil
                // A proxy that came with the token before we were where it is hears it again, and tries again.
                let pids = wanted.proxies.map(\.pid)
                if handed?.token != token || handed?.pids != pids { hand(token) }
                handed = (token, pids)
                if !isNeeded { try work.detach() }
                if isNeeded, !work.knowsKubelet, !wanted.probed.isEmpty { problems = [noKubelet(wanted.probed)] }
            } catch {
                problems = ["applications do not see the clients of tunnels: \(error)"]
            }
            let news = trouble.withLock { known in
                defer { known = problems }
                return problems.filter { !known.contains($0) }
            }
            for problem in news { log.error("\(problem)") }
        }
    }

    private func noKubelet(_ pods: Set<String>) -> String {
        let others = pods.count > 3 ? " and \(pods.count - 3) more" : ""
        let names = pods.sorted().prefix(3).joined(separator: ", ") + others
        return "kubelet was not found, and its probes of STRICT pods (\(names)) are refused: it is looked for among "
            + "root's processes below \(cgroup) with the mounts of the node, by the name \(KubeletSearch.name) and at "
            + "TCP port \(KubeletSearch.port); otherwise make the ports of the probes PERMISSIVE with portLevelMtls"
    }

    private struct Work {
        let bpffs: String
        let cgroup: String
        private var own: OwnSockets?
        private var kubelet = KubeletSearch()
        private var places: ProcessPlaces?
        private(set) var knowsKubelet = false

        init(bpffs: String, cgroup: String) { (self.bpffs, self.cgroup) = (bpffs, cgroup) }

        var isAttached: Bool { own != nil }

        mutating func attach(_ proxies: [ConnectedProxy]) throws -> OwnSocketToken? {
            let own = try own ?? OwnSockets(bpffs: bpffs, cgroup: cgroup)
            self.own = own
            var places = try places ?? ProcessPlaces(cgroup: cgroup)
            // A process of another pid namespace may be anywhere.
            let directories = try proxies.filter { !$0.isForeign }.map { proxy in
                try (proxy.rights == nil ? nil : places.directory(of: Int32(bitPattern: proxy.pid))) ?? cgroup
            }
            try own.attach(proxies: Set(directories))
            let kubelet = try kubelet.process { try places.directory(of: $0) != nil }
            let prober = try kubelet.flatMap { try places.directory(of: $0) }
            try own.setProbers(prober.map { [$0] } ?? [])
            knowsKubelet = prober != nil
            self.places = places
            return OwnSocketToken(own.token)
        }

        mutating func detach() throws {
            own = nil
            try OwnSockets.detach(bpffs: bpffs)
        }
    }
}
