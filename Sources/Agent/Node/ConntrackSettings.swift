/// The limits and timeouts of connection tracking that a service proxy sets at its start (spec rows 132, 133, 186,
/// 187). Pure; `HostSettings` writes them.

struct ConntrackSettings: Equatable, Sendable {
    /// 0: leave the limit alone.
    var maxPerCore = 32_768
    var min = 131_072
    /// Zero: leave it alone; so for all timeouts.
    var tcpEstablished = Duration.seconds(24 * 3600)
    /// Long, so that a FIN that comes late is still translated.
    var tcpCloseWait = Duration.seconds(3600)
    var udp = Duration.zero
    var udpStream = Duration.zero
    var tcpBeLiberal = false

    /// One file below /proc/sys/net/netfilter.
    struct Sysctl: Equatable, Sendable {
        let name: String
        let value: Int
        /// A higher value than ours was somebody's choice and stays.
        var raisesOnly = false
    }

    func sysctls(cores: Int) -> [Sysctl] {
        var result: [Sysctl] = []
        let limit = Swift.max(maxPerCore * cores, min)
        if maxPerCore > 0 { result.append(Sysctl(name: "nf_conntrack_max", value: limit, raisesOnly: true)) }
        let timeouts = [
            ("nf_conntrack_tcp_timeout_established", tcpEstablished),
            ("nf_conntrack_tcp_timeout_close_wait", tcpCloseWait), ("nf_conntrack_udp_timeout", udp),
            ("nf_conntrack_udp_timeout_stream", udpStream),
        ]
        for (name, timeout) in timeouts where timeout > .zero {
            result.append(Sysctl(name: name, value: Int(timeout.components.seconds)))
        }
        if tcpBeLiberal { result.append(Sysctl(name: "nf_conntrack_tcp_be_liberal", value: 1)) }
        return result
    }
}
