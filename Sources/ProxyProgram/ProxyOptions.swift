/// The options of `heddle-proxy`, each described here and nowhere else; printed by `--help`.
import Addressing
import Balancing
import Glibc
import Options
import Proxy
import Telemetry

struct ProxyOptions: Sendable {
    enum AccessLogFormat: String, CaseIterable {
        case off, text, json
    }
    enum Level: String, CaseIterable, Comparable {
        case trace, debug, info, notice, warning, error, critical
        static func < (a: Level, b: Level) -> Bool {
            (allCases.firstIndex(of: a) ?? 0) < (allCases.firstIndex(of: b) ?? 0)
        }
    }

    var listenPort: UInt16 = 15001
    var listenAddress: IPAddress?
    var configSocket = "/run/heddle/proxy.sock"
    var stateFile: String?
    var metricsAddress = SocketAddress(IPAddress(v4: 0x7f00_0001), 15020)
    /// Of the agent's servers.
    var nodePorts: Set<UInt16> = [10249, 10256, 10261]
    var accessLog: AccessLogFormat?
    var logFormat = LogLine.Format.text
    var logLevel = Level.info
    var otlpEndpoint: SocketAddress?
    /// Of requests for which the caller did not decide.
    var sampledPercent = 1.0
    var threads = min(4, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    var drainSeconds: UInt32 = 60
    var memoryMebibytes = 512

    static let options: OptionTable<ProxyOptions> = {
        var table = OptionTable(program: "heddle-proxy", defaults: ProxyOptions())
        table.add(
            "listen-port", .portOrZero, \.listenPort,
            "where redirected connections arrive, TCP, all addresses")
        table.add("listen-address", .ip, \.listenAddress, "only this address")
        table.add(
            "config-socket", .text("PATH", wanted: "a path"), \.configSocket,
            "where the agent hands out the configuration")
        table.add(
            "state-file", .text("PATH", wanted: "a path"), \.stateFile,
            "keeps the last configuration, for a start without the agent", fallback: "none")
        table.add(
            "metrics-address", .address(like: "127.0.0.1:15020"), \.metricsAddress,
            "/metrics, /healthz, /config, /upstreams, /stats")
        table.add(
            "node-ports", .ports, \.nodePorts,
            "what listens there on this node, as on the two ports above, is never sent a request",
            fallback: "the agent's: 10249,10256,10261")
        table.add(
            "access-log", .choice, \.accessLog, "Istio's format or json, on standard output",
            fallback: "as --log-format")
        table.add("log-format", .choice, \.logFormat, "")
        table.add(
            "log-level", .choice.called("LEVEL"), \.logLevel, "trace, debug, info, notice, warning, error or critical")
        table.add(
            "otlp-endpoint", .collector, \.otlpEndpoint, "of a collector that takes spans as OTLP/HTTP JSON",
            fallback: "none: no tracing")
        table.add("trace-sampling", .percent, \.sampledPercent, "of requests for which the caller did not decide")
        table.add("threads", .number(1...128), \.threads, "event loops", fallback: "one a core, at most 4")
        table.add(
            "drain-time", .number(0 ... .max, "SECONDS"), \.drainSeconds,
            "for requests and streams under way after SIGTERM")
        table.add(
            "memory-limit", .number(16...1 << 20, "MIB"), \.memoryMebibytes,
            "of what clients make it keep; beyond it those that hold most are cut off")
        return table
    }()

    static let usage =
        """
        heddle-proxy: the L7 proxy of a node. The agent starts it where a route needs it and tells it what to do.

        Examples:
          heddle-proxy
          heddle-proxy --access-log json --otlp-endpoint 127.0.0.1:4318 --trace-sampling 10
          heddle-proxy --listen-port 15001 --config-socket /run/heddle/proxy.sock


        """ + options.help

    init() {}
    init(_ arguments: [String]) throws(OptionError) { self = try Self.options.settings(arguments: arguments) }

    var listenAddresses: [SocketAddress] {
        if let listenAddress { return [SocketAddress(listenAddress, listenPort)] }
        return [SocketAddress(IPAddress(v4: 0), listenPort), SocketAddress(IPAddress(high: 0, low: 0), listenPort)]
    }
    var effectiveAccessLog: AccessLog.Format? {
        switch accessLog {
        case .off: nil
        case .text: .text
        case .json: .json
        case nil: logFormat == .json ? .json : .text
        }
    }
    /// In 1/1,000,000.
    var sampling: UInt64 { UInt64(sampledPercent * 10_000) }
    var drainTime: Duration { .seconds(drainSeconds) }
    var memoryLimit: Int { memoryMebibytes << 20 }
}

// MARK: Kinds of values

extension OptionKind<IPAddress> {
    fileprivate static var ip: Self {
        OptionKind("ADDRESS", wanted: "an IP address", parse: { IPAddress($0) }, text: { "\($0)" })
    }
}

extension OptionKind<Set<UInt16>> {
    fileprivate static var ports: Self {
        OptionKind(
            "LIST", wanted: "a list of ports",
            parse: { text in
                let ports = text.split(separator: ",").map { UInt16($0) }
                return ports.contains(nil) ? nil : Set(ports.compactMap { $0 })
            }, text: { $0.sorted().map(String.init).joined(separator: ",") })
    }
}

extension OptionKind<SocketAddress> {
    /// Also as the address of a site.
    fileprivate static var collector: Self {
        OptionKind(
            "IP:PORT", wanted: "an address and port like 127.0.0.1:4318",
            parse: { SocketAddress($0.hasPrefix("http://") ? String($0.dropFirst(7)) : $0) }, text: { "\($0)" })
    }
}

extension OptionKind<Double> {
    fileprivate static var percent: Self {
        OptionKind(
            "PERCENT", wanted: "a number from 0 to 100",
            parse: { text in Double(text).flatMap { (0...100).contains($0) ? $0 : nil } },
            text: { $0 == $0.rounded() ? "\(Int($0))" : "\($0)" })
    }
}
