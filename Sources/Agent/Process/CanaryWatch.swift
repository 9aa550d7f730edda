/// Tries every three seconds whether connections to services are translated, from a thread that blocks while it does.
/// What it finds is only told: nothing is restarted or rewritten for it, the audit repairs what can be repaired.
import Addressing
import AdminAPI
import DataplaneIR
import Glibc
import LinuxDataplane
import Logging
import Netns
import Posix
import Telemetry

actor CanaryWatch {
    private let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let board: StatusBoard
    private let metrics: AgentMetrics
    private let log: Logger
    /// Where the pods are: whatever is attached there, the canary meets it as they do. nil: there is no such place.
    private let cgroup: String?
    private let isEBPF: Bool
    /// Pods were seen below the cgroup.
    private var hasSeenPods = false
    private var known: CanaryResult = .passed

    init(cgroup: String?, isEBPF: Bool, board: StatusBoard, metrics: AgentMetrics, log: Logger) throws(PosixError) {
        thread = try KernelThread(name: "heddle-canary")
        self.cgroup = cgroup
        self.isEBPF = isEBPF
        self.board = board
        self.metrics = metrics
        self.log = log
    }

    /// Never returns: the thread ends with the process.
    func run() {
        var probes: [AddressFamily: CanaryProbe] = [:]
        while true {
            sleep(3)
            // Before the first write there is nothing to try.
            guard board.read({ $0.status.sync.generation }) > 0 else { continue }
            tell(result(&probes))
        }
    }

    private func result(_ probes: inout [AddressFamily: CanaryProbe]) -> CanaryResult {
        var untried: CanaryResult?
        for family in AddressFamily.allCases where probes[family] == nil {
            do throws(DataplaneError) { probes[family] = try CanaryProbe(family) } catch {
                // A kernel without IPv6.
                if error.code != EAFNOSUPPORT, error.code != EADDRNOTAVAIL { untried = .untried(error.description) }
            }
        }
        let tried = AddressFamily.allCases.compactMap { probes[$0] }
        for (probe, first) in zip(tried, CanaryProbe.probe(tried, cgroup: cgroup)) {
            var result = first
            // Once is chance: a plan may just be under way.
            if case .failed = result { result = probe.probe(cgroup: cgroup) }
            // Where cgroups cannot be written, nftables needs none.
            if case .untried = result, !isEBPF, cgroup != nil { result = probe.probe(cgroup: nil) }
            switch result {
            case .passed: break
            case .failed(let what): return .failed(what + remedy)
            case .untried: untried = result
            }
        }
        return wrongCgroup ?? untried ?? .passed
    }

    /// What nftables translates from the node itself gets another source, which must be an address of the node.
    private var noAddress: String? {
        guard board.read({ $0.hasNodeAddress }) == false else { return nil }
        return "; this node has no address but loopback and link-local ones, so there is none to masquerade with: give "
            + "one of its interfaces an address"
    }

    private var remedy: String {
        let others = cgroup.map { "`bpftool cgroup tree \($0)`" }
        if isEBPF {
            return "; `agentctl verify` shows whether our programs are attached, \(others ?? "bpftool") who else is"
        }
        if let noAddress { return noAddress }
        return "; `agentctl verify` compares our table, `nft list ruleset` shows who else has rules"
            + (others.map { ", \($0) who has programs" } ?? "")
    }

    /// There are pods, but their processes are not where our programs are attached.
    private var wrongCgroup: CanaryResult? {
        guard let cgroup, isEBPF, !hasSeenPods, let pod = board.read({ $0.localPod }) else { return nil }
        do throws(NetnsError) {
            let own = try NetworkNamespace.current().id
            hasSeenPods = try CgroupTree(path: cgroup).networkNamespaces().contains { $0.id != own }
        } catch {
            return .untried("cannot look for pods below \(cgroup): \(error)")
        }
        if hasSeenPods { return nil }
        return .failed(
            "pod \(pod) is on this node, but no process below \(cgroup) has a network namespace of its own, so "
                + "connections of pods are not translated; pass the cgroup v2 directory that holds the pods as --cgroup"
        )
    }

    private func tell(_ result: CanaryResult) {
        let now = board.clock()
        let status: AgentStatus.Canary
        switch result {
        case .passed: status = .init(state: "passed", detail: nil)
        case .failed(let detail): status = .init(state: "failed", detail: detail)
        case .untried(let detail): status = .init(state: "untried", detail: detail)
        }
        board.update { contents in
            contents.status.dataplane.canary = status
            contents.canaryTriedAt = now
            if result == .passed { contents.canaryPassedAt = now }
        }
        board.read { metrics.note($0) }
        if result == .passed { metrics.canaryPassed.set(NodeAgent.wallTime) }
        if result != known { tellLog(result) }
        known = result
    }

    private func tellLog(_ result: CanaryResult) {
        switch result {
        case .passed: log.notice("the canary gets through to its service again")
        case .failed(let what): log.error("the canary does not get through: \(what)")
        case .untried(let what): log.warning("the canary cannot be tried: \(what)")
        }
    }
}
