/// A real `heddle-agent` on a node of a lab, fed from a directory of manifests, and asked through `agentctl`.
import AdminAPI
import FoundationEssentials
import Glibc
import TestSupport

enum DataplaneKind: String, CaseIterable, Sendable {
    case ebpf
    case nftables
}

final class RunningAgent {
    let node: LabNode
    let source: any ServiceSource
    private var dataplane: DataplaneKind
    private var options: [String]
    private let wrapper: [String]
    /// The directory of its programs.
    private var programs: String
    let directory: TemporaryDirectory
    private var process: ChildProcess?

    /// Starts the agent and waits until everything the source has is in the kernel. `wrapper`: a command that becomes
    /// the agent.
    init(
        on node: LabNode, _ dataplane: DataplaneKind, _ source: any ServiceSource, options: [String] = [],
        wrapper: [String] = [], programs: String = programDirectory
    ) throws {
        self.options = options
        self.wrapper = wrapper
        self.programs = programs
        self.node = node
        self.dataplane = dataplane
        self.source = source
        directory = try TemporaryDirectory()
        try start()
        try waitUntilInSync()
    }

    private var log: String { directory.path + "/agent.log" }
    private var socket: String { directory.path + "/agent.sock" }
    var proxySocket: String { directory.path + "/proxy.sock" }

    func start() throws {
        process = try node.host.spawn(
            wrapper + [
                programs + "/heddle-agent", "run", "--node-name", node.name, "--dataplane", dataplane.rawValue,
                "--cgroup", node.cgroup, "--bpffs", node.bpffs, "--state-dir", directory.path + "/state",
                "--api-socket", socket, "--cluster-cidr", Lab.clusterCIDRs.joined(separator: ","),
            ] + source.arguments + options, log: log)
    }

    @discardableResult
    func agentctl(_ arguments: String...) throws -> String { try agentctl(arguments) }

    func agentctl(_ arguments: [String]) throws -> String {
        do {
            return try node.host.run(
                [programs + "/agentctl"] + arguments + ["--api-socket", socket, "--bpffs", node.bpffs])
        } catch {
            throw TestFailure("\(error)\nthe agent's log:\n\(readText(log))")
        }
    }

    /// Starts an `agentctl` that goes on by itself.
    func startAgentctl(_ arguments: String..., log: String) throws -> ChildProcess {
        try startAgentctl(arguments, log: log)
    }
    func startAgentctl(_ arguments: [String], log: String) throws -> ChildProcess {
        try node.host.spawn(
            [programs + "/agentctl"] + arguments + ["--api-socket", socket, "--bpffs", node.bpffs], log: log)
    }

    /// The agent of another release in its place.
    func replace(with programs: String) throws {
        _ = try stop()
        self.programs = programs
        try start()
        try waitUntilInSync()
    }

    /// Another agent in its place, with another dataplane.
    func restart(with dataplane: DataplaneKind, options: [String]) throws {
        _ = try stop()
        (self.dataplane, self.options) = (dataplane, options)
        try start()
        try waitUntilInSync()
    }

    /// The pids of the L7 proxies that are connected.
    func proxies() throws -> [pid_t] {
        try agentctl("proxy", "-o", "json").split(separator: ",").filter { $0.contains("\"pid\"") }.compactMap { part in
            pid_t(part.drop { !$0.isNumber }.prefix { $0.isNumber })
        }
    }

    /// So many are connected, and each works with what was handed over last.
    func allServe(_ count: Int) throws -> Bool {
        let data = Data(try agentctl("proxy", "-o", "json").utf8)
        let proxy = try JSONDecoder().decode(AgentStatus.Proxy.self, from: data)
        return proxy.instances.count == count && proxy.instances.allSatisfy { $0.generation == proxy.generation }
    }

    var pid: pid_t? { process?.pid }

    func waitUntilInSync() throws { try agentctl("status", "--wait", "20s") }

    /// Ends the agent without a chance to do anything.
    func killAbruptly() throws {
        process?.signal(SIGKILL)
        _ = try process?.wait()
        process = nil
    }
    /// Asks it to stop; returns its exit status.
    func stop() throws -> Int32? {
        process?.signal(SIGTERM)
        defer { process = nil }
        return try process?.wait()
    }
}
