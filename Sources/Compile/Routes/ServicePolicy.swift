/// The annotations of a Service that say how requests to it are balanced and guarded (docs/l7.md). They fill the same
/// policy that a DestinationRule would.
import Cluster
import RouteIR

struct ServicePolicy {
    private(set) var policy = UpstreamPolicy()
    private(set) var findings: [Finding] = []
    private let service: ObjectID

    /// What `heddle.io/l7-failure` says; nil: the node's setting holds.
    static func failsOpen(_ service: Service) -> Bool? {
        ["open": true, "closed": false][service.annotations[prefix + "l7-failure"] ?? ""]
    }
    static let prefix = "heddle.io/"

    init(_ service: Service) {
        self.service = ObjectID(.service, service.name)
        for (key, text) in service.annotations.sorted(by: { $0.key < $1.key }) {
            let name = String(key.dropFirst(Self.prefix.count))
            if let problem = apply(name, text) {
                findings.append(
                    Finding(
                        reason: "invalid-annotation", object: self.service, field: "metadata.annotations[\"\(key)\"]",
                        message: "\(text.debugDescription) is ignored: \(problem)"))
            }
        }
    }

    private typealias Setting = (_ policy: inout UpstreamPolicy, _ text: String) -> Bool

    private static func number(_ path: WritableKeyPath<UpstreamPolicy, UInt32?>) -> Setting {
        { policy, text in
            guard let value = UInt32(text), value > 0 else { return false }
            policy[keyPath: path] = value
            return true
        }
    }
    private static func duration(_ path: WritableKeyPath<UpstreamPolicy, Duration>) -> Setting {
        { policy, text in
            guard let value = Duration(gatewayText: text), value > .zero else { return false }
            policy[keyPath: path] = value
            return true
        }
    }

    /// Name, what may be written, and what it does.
    private static var settings: [String: (form: String, set: Setting)] {
        [
            "load-balancing": ("least-request, round-robin or random", setBalancing),
            "hash-on": ("header:NAME, cookie:NAME[:TTL], query:NAME or source-ip, several with commas", setHash),
            "prefer-own-zone": (
                "true or false",
                {
                    $0.prefersOwnZone = $1 == "true"; return ["true", "false"].contains($1)
                }
            ),
            "outlier-consecutive-5xx": ("a number from 1", outlier { $0.consecutive5xx = $1 }),
            "outlier-consecutive-gateway-errors": ("a number from 1", outlier { $0.consecutiveGatewayErrors = $1 }),
            "outlier-max-ejection-percent": (
                "a percentage from 1 to 100", outlier(upTo: 100) { $0.maxEjectionPercent = $1 }
            ),
            "outlier-base-ejection-time": ("a duration like 30s", outlierTime { $0.baseEjection = $1 }),
            "outlier-interval": ("a duration like 10s", outlierTime { $0.interval = $1 }),
            "max-connections": ("a number from 1", number(\.maxConnections)),
            "max-pending-requests": ("a number from 1", number(\.maxPendingRequests)),
            "max-requests": ("a number from 1", number(\.maxRequests)),
            "max-requests-per-connection": ("a number from 1", number(\.maxRequestsPerConnection)),
            "retry-budget-percent": (
                "a percentage from 0 to 100",
                { policy, text in
                    guard let value = UInt32(text), value <= 100 else { return false }
                    policy.retryBudget.percent = value
                    return true
                }
            ),
            "warmup": (
                "a duration like 30s",
                { policy, text in
                    guard let value = Duration(gatewayText: text), value > .zero else { return false }
                    policy.warmup = .init(duration: value)
                    return true
                }
            ),
            "connect-timeout": ("a duration like 10s", duration(\.connectTimeout)),
            "idle-timeout": ("a duration like 1h", duration(\.idleTimeout)),
            "l7-failure": ("open or closed", { _, text in ["open", "closed"].contains(text) }),
            Service.proxyProtocol: (
                Service.knownProxyProtocol, { _, text in text == Service.knownProxyProtocol }
            ),
        ]
    }

    /// What is wrong, as the end of a sentence; nil: taken.
    private mutating func apply(_ name: String, _ text: String) -> String? {
        guard let setting = Self.settings[name] else { return "there is no such setting; see docs/l7.md" }
        return setting.set(&policy, text) ? nil : "write \(setting.form)"
    }

    private static func setBalancing(_ policy: inout UpstreamPolicy, _ text: String) -> Bool {
        let names: [String: UpstreamPolicy.LoadBalancing] = [
            "least-request": .leastRequest, "round-robin": .roundRobin, "random": .random,
        ]
        guard let value = names[text] else { return false }
        // `hash-on` goes before it.
        if case .consistentHash = policy.loadBalancing { return true }
        policy.loadBalancing = value
        return true
    }

    private static func setHash(_ policy: inout UpstreamPolicy, _ text: String) -> Bool {
        var inputs: [UpstreamPolicy.HashInput] = []
        for part in text.split(separator: ",") {
            let pieces = part.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            switch (pieces[0], pieces.count) {
            case ("source-ip", 1): inputs.append(.sourceIP)
            case ("header", 2) where !pieces[1].isEmpty: inputs.append(.header(pieces[1].lowercased()))
            case ("query", 2) where !pieces[1].isEmpty: inputs.append(.query(pieces[1]))
            case ("cookie", 2) where !pieces[1].isEmpty:
                inputs.append(.cookie(name: pieces[1], path: nil, ttl: nil))
            case ("cookie", 3) where !pieces[1].isEmpty:
                guard let ttl = Duration(gatewayText: pieces[2]) else { return false }
                inputs.append(.cookie(name: pieces[1], path: "/", ttl: ttl))
            default: return false
            }
        }
        guard !inputs.isEmpty else { return false }
        policy.loadBalancing = .consistentHash(inputs)
        return true
    }

    private static func outlier(
        upTo limit: UInt32 = .max, _ set: @escaping (inout UpstreamPolicy.OutlierDetection, UInt32) -> Void
    ) -> Setting {
        { policy, text in
            guard let value = UInt32(text), (1...limit).contains(value) else { return false }
            var detection = policy.outlierDetection ?? .init()
            set(&detection, value)
            policy.outlierDetection = detection
            return true
        }
    }
    private static func outlierTime(
        _ set: @escaping (inout UpstreamPolicy.OutlierDetection, Duration) -> Void
    ) -> Setting {
        { policy, text in
            guard let value = Duration(gatewayText: text), value > .zero else { return false }
            var detection = policy.outlierDetection ?? .init()
            set(&detection, value)
            policy.outlierDetection = detection
            return true
        }
    }
}
