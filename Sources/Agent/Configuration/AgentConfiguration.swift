/// What the agent was asked to do: one value, validated once, never changed afterwards.
import Addressing
import NodeControl
import Posix
import Telemetry

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
    typealias ProxyMode = NodeSettings.ProxyMode
    typealias L7Failure = NodeSettings.L7Failure
    typealias NodePortAddresses = NodeSettings.NodePortAddresses
    typealias DetectLocal = NodeSettings.DetectLocal
    enum LogLevel: String, Sendable, CaseIterable {
        case trace, debug, info, notice, warning, error, critical
    }

    var nodeName: String
    /// nil only for commands that need none.
    var source: Source?
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
    private var givenProxySocket = ""
    var l7Failure = L7Failure.closed
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

    /// Flag, then environment variable, then file, then default.
    static func parse(arguments: [String], host: Host, needsSource: Bool) throws(ConfigurationError) -> Self {
        let flags = try settings(arguments: arguments)
        var all = flags.merging(settings(environment: host.environment)) { flag, _ in flag }
        if let file = all[.config] {
            let entries = try host.readFile(file.text)
            all.merge(try settings(entries: entries, file: file.text)) { written, _ in written }
        }
        return try AgentConfiguration(all, host: host, needsSource: needsSource)
    }

    private init(_ settings: Settings, host: Host, needsSource: Bool) throws(ConfigurationError) {
        let reader = SettingReader(settings: settings)
        let name = settings[.nodeName]?.text ?? host.environment["NODE_NAME"] ?? host.hostName
        guard !name.isEmpty else { throw ConfigurationError("the node has no name; pass --node-name") }
        self.init(nodeName: name)

        try reader.choice(.dataplane, into: &dataplane)
        try reader.choice(.companion, into: &companion)
        try reader.choice(.proxy, into: &proxy)
        try reader.choice(.l7Failure, into: &l7Failure)
        try reader.value(.proxyPort, "a port from 1 to 65535", into: &proxyPort) {
            UInt16($0).flatMap { $0 > 0 ? $0 : nil }
        }
        try reader.value(.proxyUser, "a user name, UID or UID:GID", into: &proxyUser) { $0.isEmpty ? nil : $0 }
        try reader.value(.proxySocket, "an absolute path of at most 107 bytes", into: &givenProxySocket, socketPath)
        try reader.choice(.logLevel, into: &logLevel)
        try reader.choice(.logFormat, into: &logFormat)
        try reader.value(.cgroup, "an absolute path", into: &cgroup) { absolutePath($0) }
        try reader.value(.bpffs, "an absolute path", into: &bpffs, absolutePath)
        try reader.value(.stateDir, "an absolute path", into: &stateDirectory, absolutePath)
        try reader.value(.apiSocket, "an absolute path of at most 107 bytes", into: &apiSocket, socketPath)
        try reader.value(.metricsAddress, "an address and port like 127.0.0.1:10249", into: &metricsAddress) {
            SocketAddress($0)
        }
        try reader.value(.healthzAddress, "an address and port like 0.0.0.0:10256", into: &healthzAddress) {
            SocketAddress($0)
        }
        try reader.value(.probeAddress, "an address and port like 127.0.0.1:10262", into: &probeAddress) {
            SocketAddress($0)
        }
        try reader.value(.nodePortLoopback, "true or false", into: &nodePortLoopback, boolean)
        try reader.value(.masqueradeAll, "true or false", into: &masqueradeAll, boolean)
        try reader.value(.masqueradeBit, "a number from 0 to 31", into: &masqueradeBit) { text in
            UInt8(text).flatMap { $0 < 32 ? $0 : nil }
        }
        try reader.value(
            .nodePortAddresses, "primary, all or ranges like 192.168.0.0/24,fd00::/64", into: &nodePortAddresses,
            parseNodePortAddresses)
        try reader.value(.clusterCIDR, "ranges like 10.0.0.0/8,fd00:10::/64", into: &clusterCIDRs, prefixList)
        try reader.value(
            .detectLocal, "cluster-cidr, node-cidr, bridge-interface:NAME or interface-prefix:PREFIX",
            into: &detectLocal, parseDetectLocal)
        try reader.value(.minSyncPeriod, "a duration of at most 1h like 10ms or 1s", into: &minSyncPeriod) { text in
            parseDuration(text).flatMap { $0 <= .seconds(3600) ? $0 : nil }
        }
        try reader.value(.serviceProxyName, "a label value", into: &serviceProxyName) { $0.isEmpty ? nil : $0 }
        try reader.value(.noExternalIPs, "true or false", into: &servesExternalIPs) { boolean($0).map { !$0 } }
        try reader.value(.serviceMetrics, "true or false", into: &hasServiceMetrics, boolean)
        try reader.value(.noCanary, "true or false", into: &hasCanary) { boolean($0).map { !$0 } }
        try conntrack.read(reader)
        try reader.value(.mapFrontends, "a number of at least 1", into: &mapFrontends, mapSize)
        try reader.value(.mapServices, "a number of at least 1", into: &mapServices, mapSize)
        try reader.value(.mapBackends, "a number of at least 1", into: &mapBackends, mapSize)
        try readSource(reader, settings, host, needed: needsSource)
    }

    private mutating func readSource(
        _ reader: SettingReader, _ settings: Settings, _ host: Host, needed: Bool
    ) throws(ConfigurationError) {
        let kubeconfig = settings[.kubeconfig]?.text
        try reader.value(.source, "kubernetes or manifests:DIR", into: &source) { text in
            if text == "kubernetes" { return .kubernetes(kubeconfig: kubeconfig) }
            guard text.hasPrefix("manifests:") else { return nil }
            let directory = String(text.dropFirst("manifests:".count))
            return directory.isEmpty ? nil : .manifests(directory: directory)
        }
        if source == nil, host.isInPod || kubeconfig != nil { source = .kubernetes(kubeconfig: kubeconfig) }
        if needed, source == nil {
            throw ConfigurationError(
                "this is not a pod, so there is no cluster to ask; pass --source manifests:DIR, or --source kubernetes "
                    + "with --kubeconfig PATH")
        }
    }
}

private func socketPath(_ text: String) -> String? {
    text.utf8.count <= UnixSocket.longestPath ? absolutePath(text) : nil
}
