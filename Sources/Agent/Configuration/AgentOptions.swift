/// Every option of `heddle-agent`, each described here and nowhere else: flag, environment variable, key of the
/// configuration file, default and help follow from its line.
import Addressing
import CertificateAuthority
import Daemon
import NodeControl
import Options
import Posix

extension AgentConfiguration {
    static let options: OptionTable<AgentConfiguration> = {
        var table = OptionTable(
            program: "heddle-agent", variables: "HEDDLE_", file: "config", defaults: AgentConfiguration(nodeName: ""))
        addPlaces(to: &table)
        addProxy(to: &table)
        addMesh(to: &table)
        addTraffic(to: &table)
        addConntrack(to: &table)
        addRest(to: &table)
        return table
    }()

    private static func addPlaces(to table: inout OptionTable<AgentConfiguration>) {
        table.add(
            "node-name", .text("NAME", wanted: "a name"), \.nodeName, "this node's name",
            fallback: "$NODE_NAME, else the host name")
        table.add("source", .source, \.source, "where services come from", fallback: "kubernetes inside a pod")
        table.add("kubeconfig", .text("PATH", wanted: "a path"), \.kubeconfig, "for --source kubernetes outside a pod")
        table.add("dataplane", .choice, \.dataplane, "auto probes the kernel and prefers ebpf")
        table.add("companion", .choice, \.companion, "nftables rules beside eBPF")
        table.add(
            "cgroup", .path(), \.cgroup, "cgroup v2 directory to attach eBPF to", fallback: "the cgroup2 root")
        table.add("bpffs", .path(), \.bpffs, "where maps and links are pinned")
        table.add("state-dir", .path(), \.stateDirectory, "the agent's own files")
        table.add("api-socket", .socket, \.apiSocket, "admin socket")
        table.add(
            "metrics-address", .address(like: "127.0.0.1:10249"), \.metricsAddress, "/metrics and /proxyMode")
        table.add(
            "healthz-address", .address(like: "0.0.0.0:10256"), \.healthzAddress, "/healthz, /livez, /readyz")
        table.add(
            "probe-address", .address(like: "127.0.0.1:10262"), \.probeAddress,
            "the same again, for probes while another program has that port")
    }

    private static func addProxy(to table: inout OptionTable<AgentConfiguration>) {
        table.add("proxy", .choice, \.proxy, "the L7 proxy, once there is a route")
        table.add("proxy-port", .port, \.proxyPort, "where the L7 proxy listens")
        table.add(
            "proxy-socket", .socket, \.givenProxySocket, "where it gets its configuration",
            fallback: "proxy.sock beside --api-socket")
        table.add(
            "proxy-user", .text("NAME|UID[:GID]", wanted: "a user name, UID or UID:GID"), \.proxyUser,
            "whom it runs as", fallback: "heddle-proxy if there is one, else nobody")
        table.add("l7-failure", .choice, \.l7Failure, "routed services while it is down: balance or refuse")
    }

    private static func addMesh(to table: inout OptionTable<AgentConfiguration>) {
        table.add("ca", .authority, \.authority, "who signs the certificates of enrolled pods; off: no mesh")
        table.add("trust-domain", .trustDomain, \.trustDomain, "of the identities of this cluster's pods")
        table.add(
            "trust-domain-aliases", .trustDomains, \.trustDomainAliases, "others whose identities count the same")
        table.add("ca-token-file", .path(), \.authorityTokenFile, "what the agent shows to the authority")
        table.add("ca-roots-file", .path(), \.authorityRootsFile, "the roots that are believed, in PEM")
        table.add(
            "certificate-life",
            .duration(.seconds(10) ... .seconds(90 * 86_400), wanted: "a duration from 10s to 2160h like 24h"),
            \.certificateLife, "of a workload, renewed at half of it; the authority may give less")
    }

    private static func addTraffic(to table: inout OptionTable<AgentConfiguration>) {
        table.add("node-port-addresses", .nodePortAddresses, \.nodePortAddresses, "where node ports are served")
        table.add("node-port-loopback", .isSet, \.nodePortLoopback, "serve node ports on loopback, eBPF only")
        table.add("cluster-cidr", .prefixes, \.clusterCIDRs, "addresses of the cluster's pods, one a family")
        table.add("masquerade-all", .isSet, \.masqueradeAll, "masquerade all traffic to cluster IPs")
        table.add("masquerade-bit", .number(0...31), \.masqueradeBit, "bit of the packet mark used for it, 0 to 31")
        table.add("detect-local", .detectLocal, \.detectLocal, "how this node's pods are told apart")
        table.add(
            "service-proxy-name", .text("NAME", wanted: "a label value"), \.serviceProxyName,
            "serve only Services whose label service.kubernetes.io/service-proxy-name is this")
        table.add("no-external-ips", .isNotSet, \.servesExternalIPs, "do not serve spec.externalIPs")
        table.add(
            "min-sync-period", .duration(.zero ... .seconds(3600), wanted: "a duration of at most 1h like 10ms or 1s"),
            \.minSyncPeriod, "least time between two writes to the kernel")
        table.add(
            "no-canary", .isNotSet, \.hasCanary,
            "do not connect through a service of the agent's own to see whether that works")
        table.add("service-metrics", .isSet, \.hasServiceMetrics, "count traffic by service all the time, for /metrics")
    }

    /// kube-proxy's names and defaults (spec rows 186, 187).
    private static func addConntrack(to table: inout OptionTable<AgentConfiguration>) {
        let count = OptionKind.number(0...Int(Int32.max))
        let timeout = OptionKind.duration(
            .seconds(1) ... .seconds(Int64(Int32.max)), orZero: true,
            wanted: "0 or a duration of at least 1s like 30s or 1h")
        table.add(
            "conntrack-max-per-core", count, \.conntrack.maxPerCore,
            "tracked connections a core; 0 leaves the limit alone")
        table.add("conntrack-min", count, \.conntrack.min, "least limit of tracked connections")
        table.add(
            "conntrack-tcp-timeout-established", timeout, \.conntrack.tcpEstablished,
            "idle established TCP; 0 leaves it alone")
        table.add(
            "conntrack-tcp-timeout-close-wait", timeout, \.conntrack.tcpCloseWait,
            "TCP in CLOSE_WAIT; 0 leaves it alone")
        table.add("conntrack-udp-timeout", timeout, \.conntrack.udp, "UDP without an answer; 0 leaves it alone")
        table.add("conntrack-udp-timeout-stream", timeout, \.conntrack.udpStream, "UDP with answers; 0 leaves it alone")
        table.add(
            "conntrack-tcp-be-liberal", .isSet, \.conntrack.tcpBeLiberal,
            "let TCP packets outside the window pass conntrack")
    }

    private static func addRest(to table: inout OptionTable<AgentConfiguration>) {
        let size = OptionKind<UInt32>.number(1 ... .max)
        table.add("map-frontends", size, \.mapFrontends, "most addresses and ports the eBPF maps can hold")
        table.add("map-services", size, \.mapServices, "most service ports the eBPF maps can hold")
        table.add("map-backends", size, \.mapBackends, "most backends the eBPF maps can hold")
        table.add(
            "log-level", .choice.called("LEVEL"), \.logLevel, "trace, debug, info, notice, warning, error or critical")
        table.add("log-format", .choice, \.logFormat, "")
        table.add(
            "config", .text("FILE", wanted: "a path"), \.file,
            "YAML with the same names; flags and environment win over it")
    }

    static var usage: String {
        """
        usage: heddle-agent run [options]        program this node's services until stopped
               heddle-agent preflight [options]  what this kernel and host offer
               heddle-agent version

        Examples:
          heddle-agent preflight
          heddle-agent run --source manifests:/etc/heddle/manifests --node-name node-1
          heddle-agent run --source kubernetes --cluster-cidr 10.244.0.0/16
          heddle-agent run --config /etc/heddle/agent.yaml --dataplane nftables

        options (each also as environment variable HEDDLE_NAME and as key of the configuration file):

        """ + options.help
    }
}

// MARK: Kinds of values

extension OptionKind<String> {
    fileprivate static var socket: Self { .path(ofAtMost: UnixSocket.longestPath) }
}

extension OptionKind<AgentConfiguration.Source> {
    fileprivate static var source: Self {
        OptionKind(
            "kubernetes|manifests:DIR", wanted: "kubernetes or manifests:DIR",
            parse: { text in
                if text == "kubernetes" { return .kubernetes(kubeconfig: nil) }
                guard text.hasPrefix("manifests:"), text != "manifests:" else { return nil }
                return .manifests(directory: String(text.dropFirst("manifests:".count)))
            }, text: { "\($0)" })
    }
}

extension OptionKind<AgentConfiguration.Authority> {
    fileprivate static var authority: Self {
        OptionKind(
            "off|controller|HOST:PORT|directory:DIR",
            wanted: "off, controller, HOST:PORT or directory: and an absolute path",
            parse: { text in
                switch text {
                case "off": .off
                case "controller": .controller
                case _ where text.hasPrefix("directory:/"): .directory(String(text.dropFirst("directory:".count)))
                default: isHostAndPort(text) ? .address(text) : nil
                }
            }, text: { $0 == .off ? "off" : "\($0)" })
    }
}

/// A name or an address, the latter of IPv6 in brackets.
private func isHostAndPort(_ text: String) -> Bool {
    guard SocketAddress(text) == nil else { return true }
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let isName = parts[0].utf8.allSatisfy { byte in
        UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20 || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
            || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
    }
    return parts.count == 2 && !parts[0].isEmpty && isName && UInt16(parts[1]).map { $0 > 0 } == true
}

extension OptionKind<String> {
    fileprivate static var trustDomain: Self {
        OptionKind(
            "NAME", wanted: "a trust domain like cluster.local",
            parse: { WorkloadIdentity.isTrustDomain($0) ? $0 : nil }, text: { $0 })
    }
}

extension OptionKind<[String]> {
    fileprivate static var trustDomains: Self {
        OptionKind(
            "NAME[,NAME...]", wanted: "a list of trust domains like old.example,older.example",
            parse: { text in
                let names = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
                return names.allSatisfy(WorkloadIdentity.isTrustDomain) ? names : nil
            }, text: { $0.joined(separator: ",") })
    }
}

extension OptionKind<[IPPrefix]> {
    fileprivate static var prefixes: Self {
        OptionKind(
            "CIDR[,CIDR]", wanted: "ranges like 10.0.0.0/8,fd00:10::/64", parse: prefixList,
            text: { $0.map(\.description).joined(separator: ",") })
    }
}

extension OptionKind<AgentConfiguration.NodePortAddresses> {
    fileprivate static var nodePortAddresses: Self {
        OptionKind(
            "CIDR[,CIDR...]|primary|all", wanted: "primary, all or ranges like 192.168.0.0/24,fd00::/64",
            parse: { text in
                switch text {
                case "primary": .primary
                case "all": .all
                default: prefixList(text).map { .cidrs($0) }
                }
            }, text: { "\($0)" })
    }
}

/// An empty list is no value: it would silently mean "everything".
private func prefixList(_ text: String) -> [IPPrefix]? {
    let items = text.split(separator: ",", omittingEmptySubsequences: false).map { IPPrefix($0) }
    return items.contains(nil) ? nil : items.compactMap { $0 }
}

extension OptionKind<AgentConfiguration.DetectLocal> {
    fileprivate static var detectLocal: Self {
        OptionKind(
            "cluster-cidr|node-cidr|bridge-interface:NAME|interface-prefix:PREFIX",
            wanted: "cluster-cidr, node-cidr, bridge-interface:NAME or interface-prefix:PREFIX",
            parse: { text in
                let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
                // Longest name of a network interface: IFNAMSIZ without the final zero.
                let name = parts.count == 2 && (1...15).contains(parts[1].utf8.count) ? parts[1] : nil
                return switch (parts.first, name) {
                case ("cluster-cidr", nil) where parts.count == 1: .clusterCIDR
                case ("node-cidr", nil) where parts.count == 1: .nodeCIDR
                case ("bridge-interface", let name?): .bridge(name)
                case ("interface-prefix", let name?): .interfacePrefix(name)
                default: nil
                }
            }, text: { $0 == .clusterCIDR ? "cluster-cidr" : "\($0)" })
    }
}
