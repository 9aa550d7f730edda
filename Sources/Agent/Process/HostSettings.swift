/// What the agent sets and looks at on the node when the dataplane is open. Nothing here is fatal: what cannot be done
/// becomes a warning in the log and in `agentctl status`, with the command that does it on the node, and is tried again
/// until it is done.
import Addressing
import Daemon
import DataplaneIR
import Glibc
import LinuxDataplane
import NodeControl
import Posix

enum HostSettings {
    private static let netfilter = "/proc/sys/net/netfilter/"

    /// What is not as it should be. In the network namespace of the calling thread.
    static func apply(_ configuration: AgentConfiguration) -> [String] {
        [obstacle(toState: configuration.stateDirectory)].compactMap(\.self)
            + apply(configuration.conntrack) + nodePortRange()
            + (configuration.proxy == .off ? [] : migrateConnections())
    }

    /// Why nothing can be kept in the state directory; nil: it can. An agent follows its source all the same.
    static func obstacle(toState path: String) -> String? {
        do throws(StartupError) {
            try ProcessSetup.makeDirectory(path, mode: 0o700, purpose: "state directory", option: "--state-dir")
            return nil
        } catch {
            return "\(error); without it a node that starts while its API server is away serves nothing"
        }
    }

    private static func apply(_ settings: ConntrackSettings) -> [String] {
        // Without conntrack in the kernel there is nothing to set: eBPF alone tracks no connections.
        guard access(netfilter + "nf_conntrack_max", F_OK) == 0 else { return [] }
        var wanted: [String] = []
        var reason = ""
        for sysctl in settings.sysctls(cores: Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) {
            let path = netfilter + sysctl.name
            let current = read(path)
            if current == sysctl.value || (sysctl.raisesOnly && (current ?? 0) > sysctl.value) { continue }
            // The limit belongs to the machine: in a network namespace of its own a node may not change it.
            if sysctl.raisesOnly, access(path, W_OK) != 0, current != nil { continue }
            guard let problem = write("\(sysctl.value)\n", path) else { continue }
            wanted.append("net.netfilter.\(sysctl.name)=\(sysctl.value)")
            reason = problem
        }
        guard !wanted.isEmpty else { return [] }
        return ["connection tracking keeps the kernel's settings: " + remedy(wanted, reason)]
    }

    /// Connections that an old L7 proxy has not accepted when it closes its listener go to the new one (Linux 5.14).
    /// It concerns nothing but listeners that share a port.
    private static func migrateConnections() -> [String] {
        let path = "/proc/sys/net/ipv4/tcp_migrate_req"
        guard let current = read(path), current != 1, let problem = write("1\n", path) else { return [] }
        return [
            "connections that are just being made may be lost when another heddle-proxy takes over: "
                + remedy(["net.ipv4.tcp_migrate_req=1"], problem)
        ]
    }

    private static func remedy(_ settings: [String], _ reason: String) -> String {
        "the agent cannot set \(settings.joined(separator: " ")) (\(reason)); run on the node: sysctl -w "
            + "\(settings.joined(separator: " ")), and keep it in /etc/sysctl.d"
    }

    /// What kube-proxy left; empty when nothing, or when it cannot be told.
    static func kubeProxyLeftovers() -> [String] {
        do throws(DataplaneError) {
            return try KubeProxyLeftovers.find().warnings
        } catch {
            return ["cannot look for rules of kube-proxy: \(error)"]
        }
    }

    /// A node port that the kernel also gives to outgoing connections is now and then taken away from them.
    private static func nodePortRange() -> [String] {
        guard let range = text("/proc/sys/net/ipv4/ip_local_port_range") else { return [] }
        let reserved = text("/proc/sys/net/ipv4/ip_local_reserved_ports") ?? ""
        return PortRanges.nodePortWarning(ephemeral: range, reserved: reserved).map { [$0] } ?? []
    }

    private static func text(_ path: String) -> String? { readSmallFile(path)?.filter { $0 != "\n" } }
    private static func read(_ path: String) -> Int? { text(path).flatMap { Int($0) } }

    private static func write(_ text: String, _ path: String) -> String? {
        let file = open(path, O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return String(cString: strerror(errno)) }
        defer { close(file) }
        let outcome = writeAll(Array(text.utf8), to: file)
        return outcome.code == 0 ? nil : String(cString: strerror(outcome.code))
    }
}
