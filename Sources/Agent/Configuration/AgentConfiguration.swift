/// What the agent was asked to do: one value, validated once, never changed afterwards.
import Addressing
import Daemon
import NodeControl
import Options
import Telemetry

typealias ConfigurationError = OptionError

struct AgentConfiguration: Equatable, Sendable {
    enum Source: Equatable, Sendable {
        case kubernetes(kubeconfig: String?)
        case manifests(directory: String)
    }
    enum DataplaneChoice: String, Sendable, CaseIterable {
        case auto, ebpf, nftables
    }
    enum Companion: String, Sendable, CaseIterable {
        case all, external, off
    }
    /// Who signs the certificates of this node's workloads.
    enum Authority: Equatable, Sendable {
        /// Nobody: this node takes no part in the mesh.
        case off
        /// The cluster's own controller.
        case controller
        /// Whoever speaks Istio's protocol there: `HOST:PORT`.
        case address(String)
        /// The agent itself, with the keys in a directory.
        case directory(String)
    }
    typealias ProxyMode = NodeSettings.ProxyMode
    typealias L7Failure = NodeSettings.L7Failure
    typealias NodePortAddresses = NodeSettings.NodePortAddresses
    typealias DetectLocal = NodeSettings.DetectLocal

    var nodeName: String
    /// nil only for commands that need none.
    var source: Source?
    var kubeconfig: String?
    var file: String?
    var dataplane = DataplaneChoice.auto
    var companion = Companion.all
    /// nil: the cgroup2 root.
    var cgroup: String?
    var bpffs = "/sys/fs/bpf/heddle"
    var stateDirectory = "/var/lib/heddle"
    var apiSocket = "/run/heddle/agent.sock"
    var metricsAddress = SocketAddress(IPAddress(v4: 0x7f00_0001), 10249)
    var healthzAddress = SocketAddress(IPAddress(v4: 0), 10256)
    /// The same answers on a port that nobody else wants; nil: none.
    var probeAddress: SocketAddress?
    var proxy = ProxyMode.spawn
    var proxyPort: UInt16 = 15001
    /// nil: `heddle-proxy` or `nobody`.
    var proxyUser: String?
    /// Empty: beside the admin socket.
    var givenProxySocket = ""
    var l7Failure = L7Failure.closed
    var authority = Authority.off
    var authorityTokenFile = "/var/run/secrets/heddle-ca/token"
    var authorityRootsFile = "/etc/heddle/ca/root-cert.pem"
    /// What is asked for; the authority may give less.
    var certificateLife = Duration.seconds(24 * 3600)
    var trustDomain = "cluster.local"
    var trustDomainAliases: [String] = []
    var nodePortAddresses = NodePortAddresses.primary
    var nodePortLoopback = false
    var clusterCIDRs: [IPPrefix] = []
    var masqueradeAll = false
    var masqueradeBit: UInt8 = 14
    var detectLocal = DetectLocal.clusterCIDR
    /// nil: the services without that label.
    var serviceProxyName: String?
    var servesExternalIPs = true
    /// Connect to a service of our own all the time, to know whether that works.
    var hasCanary = true
    /// Count traffic by service all the time, for `/metrics`.
    var hasServiceMetrics = false
    var conntrack = ConntrackSettings()
    var minSyncPeriod = Duration.milliseconds(10)
    var mapFrontends: UInt32?
    var mapServices: UInt32?
    var mapBackends: UInt32?
    var logLevel = LogLevel.info
    var logFormat = LogLine.Format.text

    init(nodeName: String) { self.nodeName = nodeName }

    var proxySocket: String {
        guard givenProxySocket.isEmpty else { return givenProxySocket }
        return (apiSocket.lastIndex(of: "/").map { apiSocket[...$0] } ?? "/") + "proxy.sock"
    }
}

extension AgentConfiguration {
    /// What the configuration depends on besides what was written.
    struct Host: Sendable {
        var hostName: String
        var environment: [String: String]
        /// Reads the file of `--config`.
        var readFile: @Sendable (_ path: String) throws(ConfigurationError) -> [ConfigurationEntry]

        init(
            hostName: String, environment: [String: String],
            readFile: @escaping @Sendable (_ path: String) throws(ConfigurationError) -> [ConfigurationEntry]
        ) {
            self.hostName = hostName
            self.environment = environment
            self.readFile = readFile
        }
        var isInPod: Bool { environment["KUBERNETES_SERVICE_HOST"] != nil }
    }

    static func parse(arguments: [String], host: Host, needsSource: Bool) throws(ConfigurationError) -> Self {
        var configuration = try options.settings(
            arguments: arguments, environment: host.environment, readFile: host.readFile)
        if configuration.nodeName.isEmpty { configuration.nodeName = host.environment["NODE_NAME"] ?? host.hostName }
        guard !configuration.nodeName.isEmpty else {
            throw ConfigurationError("the node has no name; pass --node-name")
        }
        try configuration.findSource(host, needed: needsSource)
        guard configuration.authority == .off || configuration.proxy != .off else {
            throw ConfigurationError("--ca needs the L7 proxy, which makes the tunnels: leave out --proxy off, or --ca")
        }
        return configuration
    }

    private mutating func findSource(_ host: Host, needed: Bool) throws(ConfigurationError) {
        switch source {
        case .manifests: break
        case .kubernetes: source = .kubernetes(kubeconfig: kubeconfig)
        case nil where host.isInPod || kubeconfig != nil: source = .kubernetes(kubeconfig: kubeconfig)
        case nil where needed:
            throw ConfigurationError(
                "this is not a pod, so there is no cluster to ask; pass --source manifests:DIR, or --source kubernetes "
                    + "with --kubeconfig PATH")
        case nil: break
        }
    }
}
