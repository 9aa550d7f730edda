/// The options of `heddle-proxy`: read once, checked, printed by `--help`.
import Addressing
import Balancing
import Glibc
import Proxy
import Telemetry

struct UsageError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

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
    /// In 1/1,000,000.
    var sampling: UInt64 = 10_000
    var threads = min(4, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    var drainTime: Duration = .seconds(60)
    var memoryLimit = 512 << 20

    static let usage = """
        heddle-proxy: the L7 proxy of a node. The agent starts it where a route needs it and tells it what to do.

        Examples:
          heddle-proxy
          heddle-proxy --access-log json --otlp-endpoint 127.0.0.1:4318 --trace-sampling 10
          heddle-proxy --listen-port 15001 --config-socket /run/heddle/proxy.sock

          --listen-port PORT         where redirected connections arrive, TCP, all addresses (15001)
          --listen-address ADDRESS   only this address
          --config-socket PATH       where the agent hands out the configuration (/run/heddle/proxy.sock)
          --state-file PATH          keeps the last configuration, for a start without the agent (none)
          --metrics-address ADDRESS  /metrics, /healthz, /config, /upstreams, /stats (127.0.0.1:15020)
          --node-ports LIST          what listens there on this node, as on the two ports above, is never sent a request
                                     (the agent's: 10249,10256,10261)
          --access-log FORMAT        off, text (Istio's format) or json, on standard output (as --log-format)
          --log-format FORMAT        text or json (text)
          --log-level LEVEL          trace, debug, info, notice, warning, error or critical (info)
          --otlp-endpoint ADDRESS    IP:PORT of a collector that takes spans as OTLP/HTTP JSON (none: no tracing)
          --trace-sampling PERCENT   of requests for which the caller did not decide (1)
          --threads N                event loops (one a core, at most 4)
          --drain-time SECONDS       for requests and streams under way after SIGTERM (60)
          --memory-limit MIB         of what clients make it keep; beyond it those that hold most are cut off (512)

        """

    init(_ arguments: [String]) throws(UsageError) {
        var rest = arguments[...]
        while let flag = rest.popFirst() {
            let parts = flag.split(separator: "=", maxSplits: 1).map(String.init)
            guard let value = parts.count > 1 ? parts[1] : rest.popFirst() else {
                throw UsageError("\(flag) needs a value; see heddle-proxy --help")
            }
            try set(parts[0], value)
        }
    }

    private mutating func set(_ flag: String, _ value: String) throws(UsageError) {
        func parsed<Value>(_ result: Value?, _ wanted: String) throws(UsageError) -> Value {
            guard let result else { throw UsageError("\(flag) \(value): it must be \(wanted)") }
            return result
        }
        switch flag {
        case "--listen-port": listenPort = try parsed(UInt16(value), "a port")
        case "--listen-address": listenAddress = try parsed(IPAddress(value), "an IP address")
        case "--config-socket": configSocket = value
        case "--state-file": stateFile = value
        case "--metrics-address": metricsAddress = try parsed(SocketAddress(value), "IP:PORT")
        case "--node-ports":
            let ports = value.split(separator: ",").map { UInt16($0) }
            nodePorts = Set(try parsed(ports.contains(nil) ? nil : ports.compactMap { $0 }, "a list of ports"))
        case "--access-log": accessLog = try parsed(AccessLogFormat(rawValue: value), "off, text or json")
        case "--log-format": logFormat = try parsed(LogLine.Format(rawValue: value), "text or json")
        case "--log-level":
            logLevel = try parsed(Level(rawValue: value), Level.allCases.map(\.rawValue).joined(separator: ", "))
        case "--otlp-endpoint":
            let address = value.hasPrefix("http://") ? String(value.dropFirst(7)) : value
            otlpEndpoint = try parsed(SocketAddress(address), "IP:PORT")
        case "--trace-sampling":
            let percent = try parsed(Double(value).flatMap { (0...100).contains($0) ? $0 : nil }, "from 0 to 100")
            sampling = UInt64(percent * 10_000)
        case "--threads":
            threads = try parsed(Int(value).flatMap { (1...128).contains($0) ? $0 : nil }, "from 1 to 128")
        case "--memory-limit":
            memoryLimit = try parsed(
                Int(value).flatMap { (16...1 << 20).contains($0) ? $0 << 20 : nil }, "MiB, from 16")
        case "--drain-time": drainTime = .seconds(try parsed(UInt32(value), "a number of seconds"))
        default: throw UsageError("unknown option \(flag); see heddle-proxy --help")
        }
    }

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
}
