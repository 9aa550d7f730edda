/// Every setting of the agent, once: flag, environment variable, configuration key and help text come from here.

enum OptionName: String, CaseIterable {
    case nodeName = "node-name"
    case source
    case kubeconfig
    case dataplane
    case companion
    case cgroup
    case bpffs
    case stateDir = "state-dir"
    case apiSocket = "api-socket"
    case metricsAddress = "metrics-address"
    case healthzAddress = "healthz-address"
    case probeAddress = "probe-address"
    case proxy
    case proxyPort = "proxy-port"
    case proxySocket = "proxy-socket"
    case proxyUser = "proxy-user"
    case l7Failure = "l7-failure"
    case nodePortAddresses = "node-port-addresses"
    case nodePortLoopback = "node-port-loopback"
    case clusterCIDR = "cluster-cidr"
    case masqueradeAll = "masquerade-all"
    case masqueradeBit = "masquerade-bit"
    case detectLocal = "detect-local"
    case serviceProxyName = "service-proxy-name"
    case noExternalIPs = "no-external-ips"
    case minSyncPeriod = "min-sync-period"
    case noCanary = "no-canary"
    case serviceMetrics = "service-metrics"
    case conntrackMaxPerCore = "conntrack-max-per-core"
    case conntrackMin = "conntrack-min"
    case conntrackTCPTimeoutEstablished = "conntrack-tcp-timeout-established"
    case conntrackTCPTimeoutCloseWait = "conntrack-tcp-timeout-close-wait"
    case conntrackUDPTimeout = "conntrack-udp-timeout"
    case conntrackUDPTimeoutStream = "conntrack-udp-timeout-stream"
    case conntrackTCPBeLiberal = "conntrack-tcp-be-liberal"
    case mapFrontends = "map-frontends"
    case mapServices = "map-services"
    case mapBackends = "map-backends"
    case logLevel = "log-level"
    case logFormat = "log-format"
    case config

    var flag: String { "--" + rawValue }
    /// `HEDDLE_NODE_NAME`
    var environmentVariable: String {
        "HEDDLE_" + String(rawValue.uppercased().map { $0 == "-" ? "_" : $0 })
    }
    /// Takes no value on the command line: giving it means true.
    var isSwitch: Bool {
        switch self {
        case .nodePortLoopback, .masqueradeAll, .noExternalIPs, .noCanary, .serviceMetrics, .conntrackTCPBeLiberal: true
        default: false
        }
    }

    /// The placeholder of the value and what the option does.
    var help: (value: String, text: String) {
        switch self {
        case .nodeName: ("NAME", "this node's name (default: $NODE_NAME, else the host name)")
        case .source: ("kubernetes|manifests:DIR", "where services come from (default: kubernetes inside a pod)")
        case .kubeconfig: ("PATH", "for --source kubernetes outside a pod")
        case .dataplane: ("auto|ebpf|nftables", "auto probes the kernel and prefers ebpf (default: auto)")
        case .companion: ("all|external|off", "nftables rules beside eBPF (default: all)")
        case .cgroup: ("PATH", "cgroup v2 directory to attach eBPF to (default: the cgroup2 root)")
        case .bpffs: ("PATH", "where maps and links are pinned (default: /sys/fs/bpf/heddle)")
        case .stateDir: ("PATH", "the agent's own files (default: /var/lib/heddle)")
        case .apiSocket: ("PATH", "admin socket (default: /run/heddle/agent.sock)")
        case .metricsAddress: ("HOST:PORT", "/metrics and /proxyMode (default: 127.0.0.1:10249)")
        case .healthzAddress: ("HOST:PORT", "/healthz, /livez, /readyz (default: 0.0.0.0:10256)")
        case .probeAddress: ("HOST:PORT", "the same again, for probes while another program has that port")
        case .proxy: ("spawn|external|off", "the L7 proxy, once there is a route (default: spawn)")
        case .proxyPort: ("PORT", "where the L7 proxy listens (default: 15001)")
        case .proxySocket: ("PATH", "where it gets its configuration (default: proxy.sock beside --api-socket)")
        case .proxyUser: ("NAME|UID[:GID]", "whom it runs as (default: heddle-proxy if there is one, else nobody)")
        case .l7Failure: ("open|closed", "routed services while it is down: balance or refuse (default: closed)")
        case .nodePortAddresses: ("CIDR[,CIDR...]|primary|all", "where node ports are served (default: primary)")
        case .nodePortLoopback: ("", "serve node ports on loopback, eBPF only")
        case .clusterCIDR: ("CIDR[,CIDR]", "addresses of the cluster's pods, one a family")
        case .masqueradeAll: ("", "masquerade all traffic to cluster IPs")
        case .masqueradeBit: ("N", "bit of the packet mark used for it, 0 to 31 (default: 14)")
        case .detectLocal:
            (
                "cluster-cidr|node-cidr|bridge-interface:NAME|interface-prefix:PREFIX",
                "how this node's pods are told apart (default: cluster-cidr)"
            )
        case .serviceProxyName:
            ("NAME", "serve only Services whose label service.kubernetes.io/service-proxy-name is this")
        case .noExternalIPs: ("", "do not serve spec.externalIPs")
        case .conntrackMaxPerCore, .conntrackMin, .conntrackTCPTimeoutEstablished, .conntrackTCPTimeoutCloseWait,
            .conntrackUDPTimeout, .conntrackUDPTimeoutStream, .conntrackTCPBeLiberal:
            conntrackHelp
        case .minSyncPeriod: ("DURATION", "least time between two writes to the kernel (default: 10ms)")
        case .noCanary: ("", "do not connect through a service of the agent's own to see whether that works")
        case .serviceMetrics: ("", "count traffic by service all the time, for /metrics")
        case .mapFrontends: ("N", "most addresses and ports the eBPF maps can hold")
        case .mapServices: ("N", "most service ports the eBPF maps can hold")
        case .mapBackends: ("N", "most backends the eBPF maps can hold")
        case .logLevel: ("LEVEL", "trace, debug, info, notice, warning, error or critical (default: info)")
        case .logFormat: ("text|json", "(default: text)")
        case .config: ("FILE", "YAML with the same names; flags and environment win over it")
        }
    }

    /// kube-proxy's names and defaults (spec rows 186, 187).
    private var conntrackHelp: (value: String, text: String) {
        switch self {
        case .conntrackMaxPerCore: ("N", "tracked connections a core; 0 leaves the limit alone (default: 32768)")
        case .conntrackMin: ("N", "least limit of tracked connections (default: 131072)")
        case .conntrackTCPTimeoutEstablished: ("DURATION", "idle established TCP; 0 leaves it alone (default: 24h)")
        case .conntrackTCPTimeoutCloseWait: ("DURATION", "TCP in CLOSE_WAIT; 0 leaves it alone (default: 1h)")
        case .conntrackUDPTimeout: ("DURATION", "UDP without an answer; 0 leaves it alone (default: 0)")
        case .conntrackUDPTimeoutStream: ("DURATION", "UDP with answers; 0 leaves it alone (default: 0)")
        default: ("", "let TCP packets outside the window pass conntrack")
        }
    }

    static var usage: String {
        var text = """
            usage: heddle-agent run [options]        program this node's services until stopped
                   heddle-agent preflight [options]  what this kernel and host offer
                   heddle-agent version

            Examples:
              heddle-agent preflight
              heddle-agent run --source manifests:/etc/heddle/manifests --node-name node-1
              heddle-agent run --source kubernetes --cluster-cidr 10.244.0.0/16
              heddle-agent run --config /etc/heddle/agent.yaml --dataplane nftables

            options (each also as environment variable HEDDLE_NAME and as key of the configuration file):

            """
        for option in allCases {
            let left = "  " + option.flag + (option.isSwitch ? "" : " " + option.help.value)
            text += left.count < 38 ? left + String(repeating: " ", count: 38 - left.count) : left + "\n" + indent
            text += option.help.text + "\n"
        }
        return text
    }
    private static let indent = String(repeating: " ", count: 38)
}
